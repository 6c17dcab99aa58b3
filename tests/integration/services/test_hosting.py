"""The service under test as real worker processes, watched but not changed."""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import websockets

from test_framework.core import (
    HandlerRecord,
    TargetError,
    UsageError,
    WatchRecord,
)
from test_framework.services import Host, HostPlan, hosting

pytestmark = [pytest.mark.integration, pytest.mark.slow]

HERE = Path(__file__).parent


@contextmanager
def hosted(folder: Path, target: str = "sound", **options: Any) -> Iterator[Host]:  # noqa: ANN401  # fields of HostPlan
    """Host one of the services of ``apps``."""
    plan = HostPlan(f"apps:{target}", app_dir=HERE, **options)
    with hosting(plan, work_dir=folder) as host:
        yield host


def connect(host: Host) -> http.client.HTTPConnection:
    """Return a connection to the service."""
    parts = urlsplit(host.url)
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)


def get(connection: http.client.HTTPConnection, path: str, **headers: str) -> str:
    """Return the body of one answer."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("GET", path, headers=named)
    return connection.getresponse().read().decode()


def watch(host: Host) -> None:
    """Look after the workers for some seconds, as an audit does."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        host.require_alive()


def recorded(host: Host, count: int) -> list[HandlerRecord]:
    """Return the records; the last one is written just after its answer left."""
    deadline = time.monotonic() + 5
    while len(host.handlers()) < count and time.monotonic() < deadline:
        os.sched_yield()
    return host.handlers()


def test_every_worker_serves_and_shares_the_secrets(tmp_path: Path) -> None:
    """Both processes answer on one port with one secret of 48 characters."""
    seen = set()
    with hosted(tmp_path, secrets=("SIGNING_KEY",)) as host:
        for _ in range(200):
            connection = connect(host)
            secret, pid = get(connection, "/secret").split()
            connection.close()
            seen.add((secret, int(pid)))
            if len(seen) == 2:
                break

    assert {pid for _, pid in seen} == set(host.pids)
    (secret,) = {secret for secret, _ in seen}
    assert len(secret) == 48


def test_each_run_draws_fresh_secrets(tmp_path: Path) -> None:
    """A secret of one run opens nothing in the next; a given one stays."""
    drawn = []
    for env in ({}, {}, {"SIGNING_KEY": "given"}):
        with hosted(tmp_path, workers=1, secrets=("SIGNING_KEY",), env=env) as host:
            connection = connect(host)
            drawn.append(get(connection, "/secret").split()[0])
            connection.close()

    assert drawn[0] != drawn[1]
    assert drawn[2] == "given"


def test_block_leaves_no_process(tmp_path: Path) -> None:
    """The workers end with the block, with a connection still open."""
    with hosted(tmp_path) as host:
        connection = connect(host)
        get(connection, "/")
        workers = [psutil.Process(pid) for pid in host.pids]

    connection.close()
    assert not any(worker.is_running() for worker in workers)


def test_wedged_worker_ends_all_the_same(tmp_path: Path) -> None:
    """A blocked loop answers no census and is not left behind."""
    with hosted(tmp_path, workers=1) as host:
        worker = psutil.Process(host.pids[0])
        with socket.create_connection(
            (urlsplit(host.url).hostname, urlsplit(host.url).port)
        ) as wire:
            wire.sendall(b"GET /wedge HTTP/1.1\r\nhost: h\r\n\r\n")
            with pytest.raises(TargetError, match="event loop is blocked"):
                _ask_until_blocked(host)

    assert not worker.is_running()


def _ask_until_blocked(host: Host) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        host.census(limit_s=1)


def test_handlers_are_recorded_with_their_overlap(tmp_path: Path) -> None:
    """Requests in flight together have intervals that meet, on one clock."""

    async def ask(url: str, operation: int) -> None:
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(
            b"GET /sleep HTTP/1.1\r\nhost: h\r\nconnection: close\r\n"
            b"x-isolation-op: %d\r\n\r\n" % operation
        )
        await reader.read()
        writer.close()

    async def ask_all(url: str) -> None:
        await asyncio.gather(*(ask(url, operation) for operation in range(20)))

    with hosted(tmp_path) as host:
        before = time.monotonic_ns()
        asyncio.run(ask_all(host.url))
        after = time.monotonic_ns()
        records = recorded(host, 20)

    assert sorted(record.op for record in records) == list(range(20))
    assert all(before < r.started_ns < r.ended_ns < after for r in records)
    overlapping = sum(
        one.started_ns < other.ended_ns and other.started_ns < one.ended_ns
        for one in records
        for other in records
        if one.op < other.op
    )
    assert overlapping > 0


def test_burst_is_gathered_at_the_door(tmp_path: Path) -> None:
    """Members written one after the other are all inside before any of them ends."""
    count = 40
    with hosted(tmp_path, workers=1) as host:
        parts = urlsplit(host.url)
        wires = [
            socket.create_connection((parts.hostname, parts.port)) for _ in range(count)
        ]
        for operation, wire in enumerate(wires):
            wire.sendall(
                b"GET / HTTP/1.1\r\nhost: h\r\nx-isolation-op: %d\r\n"
                b"x-isolation-burst: b\r\n\r\n" % operation
            )
        for wire in wires:
            wire.recv(4096)
            wire.close()
        records = recorded(host, count)

    assert len(records) == count
    # The path answers at once: without the door each would end before the next began.
    first_end = min(record.ended_ns for record in records)
    met = sum(record.started_ns < first_end for record in records)
    # A machine under load may part the writer from the service for longer than the
    # service waits; most are together all the same.
    assert met > count / 2


async def test_websockets_are_recorded(tmp_path: Path) -> None:
    """A socket is one record from handshake to close."""
    with hosted(tmp_path, workers=1) as host:
        url = host.url.replace("http", "ws")
        async with websockets.connect(
            url, additional_headers={"x-isolation-op": "77"}
        ) as wire:
            assert await wire.recv() == "hello"
        (record,) = await asyncio.to_thread(recorded, host, 1)

    assert (record.op, record.kind) == (77, "websocket")


def test_service_sees_no_header_of_ours(tmp_path: Path) -> None:
    """What the audit sends for itself does not reach the service."""
    with hosted(tmp_path, workers=1) as host:
        connection = connect(host)
        names = get(connection, "/headers", x_isolation_op="1", x_isolation_burst="b")
        connection.close()

    assert "isolation" not in names


def test_census_sees_a_leaked_task(tmp_path: Path) -> None:
    """A task that outlives its request is counted by name."""
    with hosted(tmp_path, workers=1) as host:
        (before,) = host.census()
        connection = connect(host)
        for _ in range(3):
            get(connection, "/leak")
        connection.close()
        (after,) = host.census()

    assert before.tasks.get("_leaked_worker", 0) == 0
    assert after.tasks["_leaked_worker"] == 3
    assert after.open_files > 3
    assert after.rss_bytes > 2**20
    assert after.threads >= 1


@pytest.mark.parametrize("is_watched", [True, False])
def test_census_tells_whose_a_task_is(tmp_path: Path, *, is_watched: bool) -> None:
    """What a request began is no background, as far as a detector makes that known."""
    detectors: dict[str, Any] = {"leaks": {}} if is_watched else {}
    with hosted(tmp_path, workers=1, detectors=detectors) as host:
        connection = connect(host)
        get(connection, "/leak", x_isolation_op="1")
        connection.close()
        (census,) = host.census()

    assert census.tasks["_leaked_worker"] == 1
    assert ("_leaked_worker" in census.background) is not is_watched
    assert sum(census.background.values()) >= 1


@pytest.mark.parametrize(("is_reset", "leaks"), [(False, True), (True, False)])
def test_context_leak_of_the_server_stays_visible(
    tmp_path: Path, *, is_reset: bool, leaks: bool
) -> None:
    """The next request on a connection inherits variables unless they are reset."""
    options = {"reset_contextvars": is_reset, "http": "httptools"}
    with hosted(tmp_path, workers=1, uvicorn=options) as host:
        parts = urlsplit(host.url)
        # Pipelined: the server starts the second while the first one ends.
        request = (
            b"GET /remember?%s HTTP/1.1\r\nhost: h\r\nx-isolation-op: 1\r\n"
            b"x-isolation-burst: b\r\n%s\r\n"
        )
        with socket.create_connection((parts.hostname, parts.port)) as wire:
            wire.sendall(
                request % (b"alice", b"") + request % (b"bob", b"connection: close\r\n")
            )
            answers = b"".join(iter(lambda: wire.recv(4096), b""))

    assert answers.count(b"nobody") == (1 if leaks else 2)
    assert answers.count(b"alice") == (1 if leaks else 0)


def test_crashed_worker_is_noticed(tmp_path: Path) -> None:
    """``require_alive`` names the status and quotes what the service printed."""
    with hosted(tmp_path, workers=1) as host:
        host.require_alive()
        connection = connect(host)
        with pytest.raises((http.client.HTTPException, OSError)):
            get(connection, "/crash")
        connection.close()

        with pytest.raises(TargetError, match=r"(?s)status 9.*the cup is full"):
            watch(host)
        assert "the cup is full" in host.log_paths[0].read_text()


def test_killed_worker_is_noticed(tmp_path: Path) -> None:
    """A worker ended by a signal is told by its name."""
    with hosted(tmp_path) as host:
        os.kill(host.pids[1], signal.SIGKILL)

        with pytest.raises(TargetError, match=r"Worker 1 of .* signal SIGKILL"):
            watch(host)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("absent", "has no attribute 'absent'"),
        ("broken_factory", "ValueError: the mould is cracked"),
        ("lifespan_fails", "RuntimeError: the well is dry"),
        ("HERE", "has no attribute 'HERE'"),
    ],
)
def test_service_that_does_not_start_is_quoted(
    tmp_path: Path, target: str, words: str
) -> None:
    """The line of its log that says why is in the sentence, without a traceback."""
    with pytest.raises(TargetError) as told, hosted(tmp_path, target, workers=1):
        pass

    first = str(told.value).splitlines()[0]
    assert f"'apps:{target}' does not start: " in first
    assert words in first
    assert "Traceback" not in str(told.value)


def test_module_that_does_not_import_is_quoted(tmp_path: Path) -> None:
    """An import error names the module."""
    (tmp_path / "broken.py").write_text("import nothing_of_the_kind\n")
    plan = HostPlan("broken:app", app_dir=tmp_path, workers=1)

    with (
        pytest.raises(
            TargetError, match="No module named 'nothing_of_the_kind'"
        ) as told,
        hosting(plan, work_dir=tmp_path / "work"),
    ):
        pass

    assert "broken.py" in str(told.value)


def test_service_that_never_starts_is_given_up(
    tmp_path: Path,
) -> None:
    """A startup that hangs ends after the limit, and so does the worker."""
    before = psutil.Process().children()

    with (
        pytest.raises(TargetError, match=r"did not start within 1\.5 s"),
        hosted(tmp_path, "never_starts", workers=1, start_limit_s=1.5),
    ):
        pass

    assert psutil.Process().children() == before


def test_taken_port_is_named_in_one_sentence(tmp_path: Path) -> None:
    """Somebody else's port is not shared with them."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        with (
            pytest.raises(
                TargetError, match=f"127.0.0.1:{port}: somebody else listens"
            ),
            hosted(tmp_path, port=port),
        ):
            pass


def test_port_of_another_audit_is_not_shared(tmp_path: Path) -> None:
    """SO_REUSEPORT must not mix the requests of two audits of one user."""
    with hosted(tmp_path / "one", workers=1) as host:
        port = urlsplit(host.url).port

        with (
            pytest.raises(TargetError, match="somebody else listens"),
            hosted(tmp_path / "two", workers=1, port=port),
        ):
            pass


def test_detector_of_a_worker_tells_operations_apart(tmp_path: Path) -> None:
    """A detector starts before the service, knows the operation, and reports."""
    detectors = {"watchers:Counter": {"limit": 2}}
    with hosted(tmp_path, "sound", workers=1, detectors=detectors) as host:
        with contextlib.closing(connect(host)) as connection:
            for operation in (4, 4, 9):
                get(connection, "/watched", x_isolation_op=str(operation))
            get(connection, "/watched")
        report = host.alarms()

    (alarm,) = report.alarms
    assert alarm.operations == (4, 4, 9)
    assert (alarm.count, alarm.worker) == (3, 0)
    assert report.watches == [
        WatchRecord("counter", ("before the service",), (), {"limit": 2}, 0)
    ]


def test_wrong_option_of_a_detector_is_told(tmp_path: Path) -> None:
    """A worker whose detector cannot be made says so in one sentence."""
    detectors = {"watchers:Counter": {"limits": 2}}

    with (
        pytest.raises(UsageError, match="does not take the options"),
        hosted(tmp_path, detectors=detectors),
    ):
        pass


def test_killed_worker_is_excused_and_replaced(tmp_path: Path) -> None:
    """Another process takes its place with its secrets, its users and its log."""
    with hosted(tmp_path, secrets=("SIGNING_KEY",)) as host:
        connection = connect(host)
        before = get(connection, "/secret").split()[0]
        connection.close()
        killed, spared = host.pids
        host.kill(0)

        host.require_alive()
        assert [census.worker for census in host.census()] == [1]
        host.replace()
        host.replace()

        assert host.pids[1] == spared
        assert host.pids[0] not in (killed, spared)
        assert [census.worker for census in host.census()] == [2, 1]
        answers = set()
        for _ in range(200):
            connection = connect(host)
            answers.add(tuple(get(connection, "/secret").split()))
            connection.close()
            if len(answers) == 2:
                break
        family = [psutil.Process(pid) for pid in host.pids]

    assert answers == {(before, str(pid)) for pid in host.pids}
    assert not any(worker.is_running() for worker in family)


@pytest.fixture(scope="module")
def lone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """One worker that is killed, stopped and set; each test leaves it serving."""
    with hosted(tmp_path_factory.mktemp("lone"), workers=1) as host:
        yield host


def test_handlers_of_a_killed_worker_are_kept(lone: Host) -> None:
    """What ran before and what runs after are told by different workers."""
    before = len(lone.handlers())
    for operation in ("1", "2"):
        connection = connect(lone)
        get(connection, "/", x_isolation_op=operation)
        connection.close()
        recorded(lone, before + int(operation))
        if operation == "1":
            lone.kill(0)
            lone.replace()
    first, second = lone.handlers()[before:]

    assert (first.op, second.op) == (1, 2)
    assert first.worker < second.worker


def test_only_worker_killed_refuses_and_keeps_the_port(lone: Host) -> None:
    """Nobody waits in the queue of the dead, and nobody else gets its port."""
    port = urlsplit(lone.url).port
    lone.kill(0)

    with pytest.raises(ConnectionRefusedError):
        connect(lone).connect()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
    lone.replace()

    connection = connect(lone)
    assert get(connection, "/") == str(lone.pids[0])
    connection.close()


def test_stopped_worker_goes_on_where_it_was(lone: Host) -> None:
    """It answers nothing, and afterwards everything."""
    lone.stop(0)
    assert psutil.Process(lone.pids[0]).status() == psutil.STATUS_STOPPED
    connection = connect(lone)
    connection.request("GET", "/")
    lone.resume()

    assert connection.getresponse().read().decode() == str(lone.pids[0])
    connection.close()


def test_clock_of_the_workers_is_set(lone: Host) -> None:
    """All that reads the wall clock is off by as much, and then right again.

    Monotonic clocks are not, and one step more sets it right.
    """
    for offset_s in (0.0, 7200.0, -7200.0, 0.0):
        lone.set_clock(offset_s)
        off = _clocks_of(lone)
        monotonic = off.pop("monotonic")
        assert off == pytest.approx(dict.fromkeys(off, offset_s), abs=60)
        assert monotonic == pytest.approx(
            time.monotonic() - time.time(),  # noqa: TID251  # what is compared
            abs=60,
        )


def test_stopped_worker_sets_its_clock_when_it_goes_on(lone: Host) -> None:
    """Nobody waits for it, and its late answer is taken for no other."""
    lone.stop(0)
    lone.set_clock(7200)
    lone.resume()

    assert lone.census()
    assert _clocks_of(lone)["held"] == pytest.approx(7200, abs=60)
    lone.set_clock(0)
    assert _clocks_of(lone)["held"] == pytest.approx(0, abs=60)


def test_next_worker_has_the_clock_and_a_stopped_one_ends(tmp_path: Path) -> None:
    """Who takes a place has the time of the one before; the end waits for nobody."""
    with hosted(tmp_path, workers=1) as host:
        host.set_clock(7200)
        host.kill(0)
        host.replace()
        assert _clocks_of(host)["held"] == pytest.approx(7200, abs=60)
        process = psutil.Process(host.pids[0])
        host.stop(0)

    assert not process.is_running()


def _clocks_of(host: Host) -> dict[str, float]:
    """Return how far each clock of the service is from ours."""
    connection = connect(host)
    told = json.loads(get(connection, "/clock"))
    connection.close()
    return {name: value - time.time() for name, value in told.items()}  # noqa: TID251  # what is compared
