"""Blocking calls are seen inside of the worker of a hosted service."""

import contextlib
import http.client
from pathlib import Path

import pytest

from test_framework.services import HostPlan, hosting
from tests.integration.services import blocking_app

PATHS = ("/thread", "/blocks", "/thread", "/blocks")

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.power]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_worker_tells_its_blocking_calls(tmp_path: Path, loop: str) -> None:
    """The path that blocks is told with its request, its line and its time.

    Its sibling in a thread, the start of the service and the worker's own files are
    not, on the loop of asyncio as on uvloop.
    """
    plan = HostPlan(
        target="blocking_app:app",
        workers=1,
        app_dir=Path(blocking_app.__file__).parent,
        detectors={"blocking": {}},
        uvicorn={"loop": loop},
    )
    with hosting(plan, work_dir=tmp_path) as host:
        address = host.url.removeprefix("http://")
        with contextlib.closing(http.client.HTTPConnection(address)) as connection:
            for operation, path in enumerate(PATHS):
                headers = {"x-isolation-op": str(operation)}
                connection.request("GET", path, headers=headers)
                with connection.getresponse() as answer:
                    assert answer.status == 204
        report = host.alarms()

    (alarm,) = report.alarms
    assert (alarm.rule, alarm.level) == ("blocking-call", "warning")
    assert alarm.operations == (1, 3)
    assert alarm.count == 2
    assert alarm.claim.startswith("time.sleep held the event loop")
    assert alarm.site.startswith("blocking_app.py:")
