"""The leak watchers in the worker of a hosted service, and at real sockets."""

import asyncio
import http.client
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from test_framework.canary import Mint
from test_framework.config import Config
from test_framework.core import AlarmRecord, History
from test_framework.detect.leaks import LeakError, leak_check
from test_framework.services import Host, HostPlan, hosting
from test_framework.staging import perform
from test_framework.swarm.alarms import Alarms

pytestmark = [pytest.mark.integration, pytest.mark.slow]

REPOSITORY = Path(__file__).parents[3]
ALICE = Mint(8842).mint(7, 3)


@contextmanager
def hosted(folder: Path) -> Iterator[Host]:
    """Host the service that keeps things."""
    plan = HostPlan(
        "leaking:create",
        workers=1,
        app_dir=Path(__file__).parent,
        detectors={"leaks": {"allowed_residue": ["leaking.CACHE"]}},
    )
    with hosting(plan, work_dir=folder) as host:
        yield host


def visit(host: Host, *paths: str, value: str = ALICE) -> None:
    """Send requests of one user over one connection, and leave."""
    parts = urlsplit(host.url)
    client = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    with closing(client):
        for operation, path in enumerate(paths):
            client.request(
                "GET", f"{path}?{value}", headers={"x-isolation-op": str(operation)}
            )
            client.getresponse().read()


def settled(host: Host) -> list[AlarmRecord]:
    """Return the alarms once the worker has seen that the client left."""
    alarms = host.alarms().alarms
    for _ in range(100):
        if not any("accepted" in alarm.claim for alarm in alarms):
            break
        alarms = host.alarms().alarms
    return alarms


@pytest.mark.power
def test_what_a_worker_keeps_is_told_by_line_and_path(tmp_path: Path) -> None:
    """Module, application, task and file: each is an alarm of its own."""
    with hosted(tmp_path) as host:
        assert host.alarms().alarms == []
        visit(host, "/module", "/app", "/task", "/file", "/file", "/file", "/file")
        alarms = {alarm.site: alarm for alarm in settled(host)}

    module, app = alarms["leaking.py:13"], alarms["leaking.py:23"]
    assert module.claim.startswith("leaking.KEPT[...] still holds")
    assert app.claim.startswith("app.<closure own>[...] still holds")
    assert {module.users, app.users} == {(7,)}
    kinds = {(alarm.rule, alarm.level) for alarm in alarms.values()}
    assert ("leaked-task", "warning") in kinds
    assert ("leaked-file", "error") in kinds
    assert len(alarms) == 4


def test_a_worker_that_keeps_nothing_raises_no_alarm(tmp_path: Path) -> None:
    """A declared cache and requests that end are left alone."""
    with hosted(tmp_path) as host:
        host.alarms()
        visit(host, "/cache", "/fine", "/fine")

        assert settled(host) == []
        (watch,) = host.alarms().watches

    assert "modules: leaking" in watch.watched


@pytest.mark.power
def test_a_worker_that_keeps_an_identifier_is_told_by_line(tmp_path: Path) -> None:
    """An id that the service made names its user, as long as the audit says so."""
    user_id = "0f8fad5b-d9cb-469f-a165-70867728950e"
    with hosted(tmp_path) as host:
        host.alarms()
        visit(host, "/module", value=user_id)
        assert settled(host) == []
        host.identify({7: [user_id], 8: ["7c9e6679-7425-40de-944b-e07fc1f90ae7"]})
        (alarm,) = settled(host)
        Alarms(host)  # another audit begins, whose users are others
        assert settled(host) == []

    assert (alarm.rule, alarm.level) == ("residue-of-departed", "warning")
    assert (alarm.site, alarm.users) == ("leaking.py:13", (7,))


def test_a_worker_that_forgets_identifiers_raises_no_alarm(tmp_path: Path) -> None:
    """What a request was told goes with it."""
    user_id = "0f8fad5b-d9cb-469f-a165-70867728950e"
    with hosted(tmp_path) as host:
        host.alarms()
        visit(host, "/fine", "/cache", value=user_id)
        host.identify({7: [user_id]})

        assert settled(host) == []


def audited(**env: str) -> list[AlarmRecord]:
    """Audit the notes service with few users, and return what is held for whom."""
    config = Config(
        target="tests.targets.notes:create_app",
        workload=REPOSITORY / "tests" / "targets" / "notes_audit.py",
        users=3,
        shapes=("own-connections",),
        workers=1,
        env=env,
        detectors=("leaks",),
        root=REPOSITORY,
    )
    history = History()
    perform(config, history, environ={})
    return [
        alarm
        for alarm in history.of(AlarmRecord)
        if alarm.rule == "residue-of-departed" and ".issued" in alarm.claim
    ]


@pytest.mark.power
def test_an_audit_tells_the_workers_what_the_service_made() -> None:
    """Ids of notes, of which no user declared one and no canary stands beside them."""
    (alarm,) = audited(NOTES_KEEP_IDS="1")

    assert (alarm.level, alarm.users) == ("warning", (0, 1, 2))
    assert alarm.site.startswith("tests/targets/notes.py:")


def test_an_audit_of_a_service_that_forgets_ids_tells_none() -> None:
    """The same service, without the list."""
    assert audited() == []


@pytest.mark.power
async def test_a_connection_left_open_fails_the_block() -> None:
    """Both ends are told: what was accepted and what was opened."""
    has_accepted = asyncio.Event()
    writers = []

    def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        has_accepted.set()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def connect() -> None:
        async with leak_check(grace_s=0):
            writers.append((await asyncio.open_connection("127.0.0.1", port))[1])
            await has_accepted.wait()

    with pytest.raises(LeakError) as raised:
        await connect()

    for writer in writers:
        writer.close()
        await writer.wait_closed()
    server.close()
    await server.wait_closed()
    assert {(alarm.claim, alarm.site) for alarm in raised.value.alarms} == {
        ("an accepted connection is still open", f"port {port}"),
        ("a connection is still open", f"127.0.0.1:{port}"),
    }


async def test_a_connection_that_is_closed_leaves_the_block_alone() -> None:
    """Closing takes some turns of the loop, which are granted."""

    def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async with leak_check():
        reader, client = await asyncio.open_connection("127.0.0.1", port)
        await reader.read()
        client.close()

    server.close()
    await server.wait_closed()
