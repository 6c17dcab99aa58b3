"""Calls that block the loop are told with their line; those in threads are not."""

import asyncio
import contextlib
import inspect
import io
import os
import socket
import sqlite3
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from test_framework.core import UsageError
from test_framework.detect import make_detector, operation_scope
from test_framework.detect.blocking import BlockingCalls

NAP_S = 0.02


def originals() -> tuple[object, ...]:
    """Return some of what a detector replaces: of modules, of classes, of C types."""
    nap = time.sleep  # noqa: TID251  # looked at, and not called
    return (
        nap,
        os.read,
        socket.socket.recv,
        sqlite3.Connection.execute,
        io.BufferedReader.read,
        type(threading.Lock()).acquire,
    )


@contextlib.contextmanager
def watching(
    slow_s: float = 0.01, held_s: float = 60, allow: tuple[str, ...] = ()
) -> Iterator[BlockingCalls]:
    """Run a detector, and see that it takes everything back."""
    before = originals()
    detector = BlockingCalls(slow_s, held_s, allow)
    detector.start()
    try:
        yield detector
    finally:
        detector.stop()
    assert originals() == before


def nap() -> None:
    """Block for a moment."""
    time.sleep(NAP_S)  # noqa: TID251  # the defect that is looked for


def read_file(path: Path) -> bytes:
    """Read a file as most programs do."""
    return path.read_bytes()


def query() -> None:
    """Ask a database that lives in this process."""
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        database.execute("SELECT 1").fetchall()


def receive() -> bytes:
    """Wait for a byte on a socket that blocks."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"x")
        return ours.recv(1)


def wait_for_thread() -> None:
    """Wait for a lock that somebody holds."""
    lock = threading.Lock()
    lock.acquire()
    lock.acquire(timeout=NAP_S)


CALLS: dict[str, Callable[[], object]] = {
    "time.sleep": nap,
    "io.BufferedReader.read": lambda: read_file(Path(__file__)),
    "sqlite3.Connection.execute": query,
    "socket.socket.recv": receive,
    "threading.Lock.acquire": wait_for_thread,
}


@pytest.mark.power
@pytest.mark.parametrize("function", CALLS)
async def test_blocking_call_in_the_loop_is_told(function: str) -> None:
    """Each kind of call is named, with the line of the program that made it."""
    with watching() as detector:
        CALLS[function]()

    claims = {alarm.claim.partition(" held")[0] for alarm in detector.alarms()}
    sites = {alarm.site.partition(":")[0] for alarm in detector.alarms()}
    assert function in claims
    assert sites == {str(Path("tests", "unit", "detect", "test_blocking.py"))}


@pytest.mark.parametrize("function", CALLS)
async def test_same_call_in_a_thread_is_silent(function: str) -> None:
    """A thread blocks nobody."""
    with watching() as detector:
        await asyncio.to_thread(CALLS[function])

    assert detector.alarms() == []


async def test_asynchronous_siblings_are_silent() -> None:
    """Sleeping, streams and locks of asyncio give the loop back."""

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(await reader.read(1))
        writer.close()
        await writer.wait_closed()

    with watching() as detector:
        await asyncio.sleep(NAP_S)
        async with asyncio.Lock():
            server = await asyncio.start_server(answer, "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(
                *server.sockets[0].getsockname()
            )
            writer.write(b"x")
            assert await reader.read() == b"x"
            writer.close()
            await writer.wait_closed()
            server.close()
            await server.wait_closed()

    assert detector.alarms() == []


def test_call_without_a_loop_is_silent() -> None:
    """A program that serves nobody may block, also after its loop has ended."""

    async def serve() -> None:
        nap()

    with watching() as detector:
        nap()
        assert detector.alarms() == []
        asyncio.run(serve())
        nap()

    (alarm,) = detector.alarms()
    assert alarm.count == 1


async def _handle(operation: int, work: Callable[[], object]) -> None:
    with operation_scope(operation):
        await asyncio.sleep(0)
        work()


@pytest.mark.power
async def test_alarm_has_stack_operations_and_count() -> None:
    """Two requests that block at one line are one alarm, with both of them."""
    with watching() as detector:
        await asyncio.gather(_handle(7, nap), _handle(9, nap))

    (alarm,) = detector.alarms()
    assert (alarm.rule, alarm.level, alarm.count) == ("blocking-call", "warning", 2)
    assert sorted(alarm.operations) == [7, 9]
    assert "time.sleep(NAP_S)" in alarm.evidence[-1]
    assert "in nap:" in alarm.evidence[-1]
    assert alarm.site == alarm.evidence[-1].partition(" in ")[0]
    assert detector.coverage().facts["calls"] == 2


@pytest.mark.parametrize(("slow_s", "level"), [(60, "note"), (0, "warning")])
async def test_short_call_is_a_note(slow_s: float, level: str) -> None:
    """What takes no time here may take long elsewhere: told, and no more."""
    with watching(slow_s) as detector:
        nap()

    assert [alarm.level for alarm in detector.alarms()] == [level]


async def test_service_goes_on_as_without_the_detector(tmp_path: Path) -> None:
    """Results and exceptions of a watched call are its own."""
    file = tmp_path / "text"
    with watching() as detector:
        file.write_text("grüße", encoding="utf-8")
        text = file.read_text(encoding="utf-8")
        with pytest.raises(FileNotFoundError):
            (tmp_path / "absent").stat()
        with file.open() as opened:
            pass
        with pytest.raises(ValueError, match="closed file"):
            opened.read()

    assert text == "grüße"
    assert any("os.stat" in alarm.claim for alarm in detector.alarms())


async def test_call_inside_of_a_call_is_told_once() -> None:
    """What a blocking call does inside is part of it, and of no later call."""
    with watching() as detector:
        os.path.abspath("here")  # noqa: PTH100, ASYNC240  # asks for the current folder
        asyncio.get_running_loop().run_in_executor(None, nap)
        await asyncio.to_thread(nap)

    (alarm,) = detector.alarms()
    assert alarm.claim.startswith("os.path.abspath held")
    assert alarm.count == 1


def _library() -> dict[str, Any]:
    """Return the functions of a module among the installed packages."""
    source = """
import time

def call():
    time.sleep(0)

async def serve(handler=None):
    await handler() if handler else call()
"""
    file = str(Path(sysconfig.get_path("purelib"), "some_library", "core.py"))
    names: dict[str, Any] = {}
    exec(compile(source, file, "exec"), names)  # noqa: S102  # stands for an import
    return names


async def test_line_of_the_service_is_named_before_a_library() -> None:
    """Who calls a library that blocks is named, also through made-up code."""
    library = _library()

    async def handler() -> None:
        library["call"]()

    with watching() as detector:
        await library["serve"](handler)
        eval("call()", library)  # noqa: S307  # as dataclasses make their __init__

    file = str(Path("tests", "unit", "detect", "test_blocking.py"))
    sites = [alarm.site.rpartition(":")[0] for alarm in detector.alarms()]
    assert sites == [file, file]


async def test_library_that_blocks_by_itself_is_named() -> None:
    """A line that merely awaited a library's coroutine is not accused."""
    library = _library()
    with watching() as detector:
        await library["serve"]()

    (alarm,) = detector.alarms()
    assert alarm.site == str(Path("some_library", "core.py:5"))
    assert "in serve" in alarm.evidence[1]


async def test_allowed_function_may_block() -> None:
    """What was looked at and found harmless is told no more, and nothing else is."""
    with watching(allow=("detect/test_blocking.py:nap",)) as detector:
        nap()
        query()

    assert all("sqlite3" in alarm.claim for alarm in detector.alarms())
    assert detector.alarms() != []


async def test_function_imported_by_name_is_let_go() -> None:
    """A module that kept the watched function calls the plain one after the end."""
    with watching() as detector:
        kept = time.sleep  # noqa: TID251  # as `from time import sleep` does
    kept(NAP_S)

    assert detector.alarms() == []


@pytest.mark.parametrize(
    "options",
    [
        {"slow_s": -1},
        {"slow_s": float("nan")},
        {"allow": ["nap"]},
        {"allow": ["a.py:"]},
    ],
)
def test_wrong_options_are_refused(options: dict[str, object]) -> None:
    """Each is named with what was expected."""
    with pytest.raises(UsageError, match="expected"):
        make_detector("blocking", options)


def test_coverage_says_what_is_not_seen() -> None:
    """Nobody can look while a step holds the lock of the interpreter."""
    with watching() as detector:
        watch = detector.coverage()

    assert {"time", "os", "socket.socket", "sqlite3.Cursor"} <= set(watch.watched)
    assert watch.facts["functions"] > 50
    assert "interpreter's lock" in watch.unwatched[0]


HELD_S = 0.2


def compute(seconds: float) -> None:
    """Keep the processor busy."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def _runner(loop: str) -> asyncio.Runner:
    """Return what runs a program on a kind of loop."""
    return asyncio.Runner(
        loop_factory=uvloop.new_event_loop if loop == "uvloop" else None
    )


def hold_until_seen(detector: BlockingCalls) -> None:
    """Keep the processor busy until it is noticed, or for ten seconds."""
    end = time.perf_counter() + 10
    while time.perf_counter() < end and not detector.alarms():
        pass


@pytest.mark.slow
@pytest.mark.power
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_computing_in_the_loop_is_told(loop: str) -> None:
    """A step that computes is named by its function, with the time it took at least."""

    async def main() -> None:
        await asyncio.sleep(0)
        hold_until_seen(detector)

    with watching(held_s=HELD_S) as detector, _runner(loop) as runner:
        runner.run(main())

    (alarm,) = detector.alarms()
    line = inspect.getsourcelines(hold_until_seen)[1]
    assert (alarm.rule, alarm.level, alarm.count) == ("held-loop", "warning", 1)
    assert alarm.site == str(
        Path("tests", "unit", "detect", f"test_blocking.py:{line}")
    )
    assert "in hold_until_seen:" in alarm.evidence[-1]


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_busy_loop_of_short_steps_is_silent(loop: str) -> None:
    """Computing bit by bit, in a thread, or not at all lets everybody in between."""

    async def main() -> None:
        end = time.perf_counter() + 3 * HELD_S
        while time.perf_counter() < end:
            compute(0.03)  # longer than a thread waits for the lock
            await asyncio.sleep(0)
        # Meanwhile the loop is idle.
        await asyncio.to_thread(compute, 1.5 * HELD_S)

    with watching(held_s=HELD_S) as detector, _runner(loop) as runner:
        runner.run(main())

    assert detector.alarms() == []


@pytest.mark.slow
def test_known_call_is_not_told_twice() -> None:
    """What the list of blocking calls names is no step that computes."""

    async def main() -> None:
        time.sleep(2 * HELD_S)  # noqa: ASYNC251, TID251  # the defect that is looked for

    with watching(held_s=HELD_S) as detector:
        asyncio.run(main())

    assert [alarm.rule for alarm in detector.alarms()] == ["blocking-call"]
