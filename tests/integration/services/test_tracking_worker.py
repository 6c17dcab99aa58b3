"""The access tracker in the worker of a hosted service knows requests apart."""

import contextlib
import http.client
from pathlib import Path

import pytest

from test_framework.core import AlarmRecord, UsageError
from test_framework.services import HostPlan, hosting
from tests.integration.services import sharing_app

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.power]


def ask_at_once(path: str, folder: Path) -> tuple[list[bytes], list[AlarmRecord]]:
    """Let two users ask at once; return the answers and what the tracker saw."""
    plan = HostPlan(
        target="sharing_app:app",
        workers=1,
        app_dir=Path(sharing_app.__file__).parent,
        detectors={"access": {"packages": ["sharing_app"], "hold_s": 0}},
    )
    with hosting(plan, work_dir=folder) as host, contextlib.ExitStack() as stack:
        address = host.url.removeprefix("http://")
        connections = [
            stack.enter_context(contextlib.closing(http.client.HTTPConnection(address)))
            for _ in range(2)
        ]
        for number, connection in enumerate(connections):
            headers = {"x-isolation-op": str(40 + number)}
            connection.request("GET", f"{path}?user{number}", headers=headers)
        answers = [connection.getresponse().read() for connection in connections]
        report = host.alarms()
    (watch,) = report.watches
    assert watch.watched == ("sharing_app",)
    assert watch.unwatched == ()
    return answers, list(report.alarms)


def test_worker_names_the_line_that_mixes_users_up(tmp_path: Path) -> None:
    """One alarm, with both requests and the line that reads the wrong name."""
    answers, alarms = ask_at_once("/wrong", tmp_path)

    (alarm,) = alarms
    assert answers[0] == answers[1]
    assert (alarm.rule, alarm.level) == ("shared-write-clobbered", "error")
    assert alarm.operations == (40, 41)
    path, _, line = alarm.site.partition(":")
    source = Path(sharing_app.__file__).read_text(encoding="utf-8").splitlines()
    assert path == "sharing_app.py"
    assert source[int(line) - 1].strip() == 'return b"hello " + self.name'


def test_worker_leaves_a_sound_path_alone(tmp_path: Path) -> None:
    """Each gets its own name, and there is nothing to tell."""
    answers, alarms = ask_at_once("/right", tmp_path)

    assert answers == [b"hello user0", b"hello user1"]
    assert alarms == []


@pytest.mark.parametrize(("users", "level"), [((7, 8), "warning"), ((7, 7), "note")])
def test_worker_knows_users_apart(
    tmp_path: Path, users: tuple[int, int], level: str
) -> None:
    """What requests one after the other foretell of one user is a note."""
    plan = HostPlan(
        target="sharing_app:app",
        workers=1,
        app_dir=Path(sharing_app.__file__).parent,
        detectors={"access": {"packages": ["sharing_app"], "hold_s": 0}},
    )
    with hosting(plan, work_dir=tmp_path) as host:
        address = host.url.removeprefix("http://")
        for number, user in enumerate(users):
            connection = http.client.HTTPConnection(address)
            headers = {"x-isolation-op": str(number), "x-isolation-user": str(user)}
            with contextlib.closing(connection):
                connection.request("GET", f"/wrong?user{user}", headers=headers)
                connection.getresponse().read()
        alarms = host.alarms().alarms

    assert [(one.rule, one.level) for one in alarms] == [
        ("shared-write-clobbered", level)
    ]


def test_package_that_is_not_there_is_a_mistake_of_the_plan(tmp_path: Path) -> None:
    """The service is well: the sentence is of what was asked for, without its log."""
    plan = HostPlan(
        target="sharing_app:app",
        workers=1,
        app_dir=Path(sharing_app.__file__).parent,
        detectors={"access": {"packages": ["sharing_ap"]}},
    )

    with (
        pytest.raises(
            UsageError, match=r"^There is no package 'sharing_ap' to track\."
        ),
        hosting(plan, work_dir=tmp_path),
    ):
        pass
