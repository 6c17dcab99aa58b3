"""A worker of two ends while a hundred users have runs and sockets on it.

Real processes, and a real SIGTERM and SIGKILL; the clients are those of the benchmark,
which publishes how long it takes. Here only what must hold at any speed is checked.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator

import pytest

from benchmarks.app_numbers import Rows, measure_kill, measure_stop, service
from test_framework.services import Host, Services, running_services

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.long]
USERS = 100


@pytest.fixture
def host() -> Iterator[Host]:
    """The service with a model that takes its time, on two workers."""
    with (
        running_services(environ={}) as services,
        _service(services) as running,
    ):
        yield running


def _service(services: Services) -> contextlib.AbstractContextManager[Host]:
    return service(services, "benchmarks.app_numbers:create_slow_app", workers=2)


@pytest.mark.parametrize(
    ("end", "codes"),
    [(measure_stop, "1012 The service stops"), (measure_kill, "0")],
    ids=["stopped", "killed"],
)
def test_ended_worker_loses_no_run_and_no_event(
    host: Host, end: Callable[[Host, int], Awaitable[Rows]], codes: str
) -> None:
    """Each run ends, each device hears of it once, and nobody is left without a worker."""

    async def measure() -> Rows:
        return await end(host, USERS)

    rows = {name.partition(": ")[2]: value for name, value, _ in asyncio.run(measure())}

    assert rows["runs still running"] == "0"
    assert rows["ends and events lost or repeated"] == "0"
    assert rows["how sockets ended"].startswith(codes)
