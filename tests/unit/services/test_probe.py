"""The probe records requests and changes nothing about them."""

import asyncio
import contextvars
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from test_framework.services.probe import Probe, Receive, Scope, Send, read_records

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE")


async def receive() -> dict[str, Any]:
    """Return an empty request."""
    return {"type": "http.request", "body": b""}


async def send(message: dict[str, Any]) -> None:
    """Take an answer."""


def scope_of(*headers: tuple[bytes, bytes], kind: str = "http") -> dict[str, Any]:
    """Return a scope with the given headers beside an ordinary one."""
    return {"type": kind, "headers": [(b"host", b"here"), *headers]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of the records."""
    return tmp_path / "handlers"


@pytest.fixture
def record(path: Path) -> Iterator[int]:
    """The open file of the records."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    yield descriptor
    os.close(descriptor)


class Recorder:
    """A service that keeps the scopes it was given."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        """Keep the scope."""
        self.scopes.append(scope)


async def test_request_of_others_is_handed_on_untouched(
    record: int, path: Path
) -> None:
    """Without our headers the service gets the very scope, and nothing is noted."""
    app = Recorder()
    scope = scope_of((b"x-request-id", b"1"))

    await Probe(app, record=record)(scope, receive, send)

    assert app.scopes[0] is scope
    assert read_records(path, worker=0) == []


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_operation_is_recorded_with_its_interval(
    record: int, path: Path, kind: str
) -> None:
    """A record names operation, kind and worker, and ends after it started."""
    scope = scope_of((b"x-isolation-op", b"412"), kind=kind)

    await Probe(Recorder(), record=record)(scope, receive, send)

    (noted,) = read_records(path, worker=1)
    assert (noted.op, noted.kind, noted.worker) == (412, kind, 1)
    assert 0 < noted.started_ns <= noted.ended_ns


async def test_service_never_sees_our_headers(record: int) -> None:
    """Ours are gone, the others stay in order, the server's scope is kept."""
    app = Recorder()
    scope = scope_of(
        (b"x-isolation-user", b"7"),
        (b"x-isolation-op", b"1"),
        (b"accept", b"*/*"),
        (b"x-isolation-burst", b"b"),
    )

    await Probe(app, record=record)(scope, receive, send)

    assert app.scopes[0]["headers"] == [(b"host", b"here"), (b"accept", b"*/*")]
    assert len(scope["headers"]) == 5


async def test_lifespan_is_handed_on(record: int) -> None:
    """A scope without headers is none of our business."""
    app = Recorder()

    await Probe(app, record=record)({"type": "lifespan"}, receive, send)

    assert app.scopes == [{"type": "lifespan"}]


async def test_error_of_the_service_goes_through_and_is_recorded(
    record: int, path: Path
) -> None:
    """The server gets the very exception that the service raised."""
    error = RuntimeError("of the service")

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise error

    with pytest.raises(RuntimeError) as caught:
        await Probe(app, record=record)(
            scope_of((b"x-isolation-op", b"7")), receive, send
        )

    assert caught.value is error
    assert [noted.op for noted in read_records(path, worker=0)] == [7]


@pytest.mark.parametrize("burst", [[], [(b"x-isolation-burst", b"b")]])
async def test_cancellation_goes_through_and_is_recorded(
    record: int, path: Path, burst: list[tuple[bytes, bytes]]
) -> None:
    """A cancelled request ends cancelled, in the service and at the door."""

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        await asyncio.Event().wait()

    async def serve() -> None:
        scope = scope_of((b"x-isolation-op", b"8"), *burst)
        await Probe(app, record=record)(scope, receive, send)

    task = asyncio.create_task(serve())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert task.cancelled()
    assert [noted.op for noted in read_records(path, worker=0)] == [8]


async def test_context_of_the_service_reaches_the_server(record: int) -> None:
    """A variable the service sets stays set: no task stands between."""

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        VARIABLE.set("of this request")

    await Probe(app, record=record)(
        scope_of((b"x-isolation-op", b"1"), (b"x-isolation-burst", b"b")), receive, send
    )

    assert VARIABLE.get() == "of this request"


async def test_burst_is_let_go_together_in_order_of_arrival(
    record: int, path: Path
) -> None:
    """Nobody enters before the last one came, and the first to come is the first."""
    entered: list[int] = []
    arrived: list[int] = []
    arrived_when_first_entered: list[int] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        if not entered:
            arrived_when_first_entered.append(len(arrived))
        entered.append(scope["number"])

    # Long enough for the slowest machine: only the silence lets them go.
    probe = Probe(app, record=record, quiet_s=0.05, longest_wait_s=60)

    async def arrive(number: int) -> None:
        # Each comes some turns of the loop after the one before.
        for _ in range(3 * number):
            await asyncio.sleep(0)
        arrived.append(number)
        scope = scope_of(
            (b"x-isolation-op", b"%d" % number), (b"x-isolation-burst", b"b")
        )
        await probe(scope | {"number": number}, receive, send)

    await asyncio.gather(*(arrive(number) for number in range(50)))

    assert entered == list(range(50))
    assert arrived_when_first_entered == [50]
    records = read_records(path, worker=0)
    assert max(r.started_ns for r in records) <= min(r.ended_ns for r in records)


async def test_bursts_do_not_wait_for_each_other(record: int) -> None:
    """A name that comes again later is a new meeting."""
    app = Recorder()
    probe = Probe(app, record=record)

    for name in (b"one", b"two", b"one"):
        scope = scope_of((b"x-isolation-burst", name))
        async with asyncio.timeout(1):
            await probe(scope, receive, send)

    assert len(app.scopes) == 3


async def test_steady_arrivals_hold_nobody_for_long(record: int) -> None:
    """A burst that keeps growing is let go all the same."""
    app = Recorder()
    probe = Probe(app, record=record)
    loop = asyncio.get_running_loop()
    first = asyncio.ensure_future(
        probe(scope_of((b"x-isolation-burst", b"b")), receive, send)
    )
    tasks = [first]
    began = loop.time()

    while not first.done() and loop.time() < began + 5:
        tasks.append(
            asyncio.ensure_future(
                probe(scope_of((b"x-isolation-burst", b"b")), receive, send)
            )
        )
        await asyncio.sleep(0.001)
    await asyncio.gather(*tasks)

    assert len(tasks) > 2
    assert loop.time() - began < 1


async def test_half_written_record_is_left_out(record: int, path: Path) -> None:
    """A worker killed while it wrote spoils no other record."""
    await Probe(Recorder(), record=record)(
        scope_of((b"x-isolation-op", b"5")), receive, send
    )
    os.write(record, b"half")

    assert [noted.op for noted in read_records(path, worker=0)] == [5]


async def test_operation_that_is_no_number_is_not_recorded(
    record: int, path: Path
) -> None:
    """A header that somebody else made up breaks nothing."""
    app = Recorder()

    await Probe(app, record=record)(
        scope_of((b"x-isolation-op", b"seven")), receive, send
    )

    assert len(app.scopes) == 1
    assert read_records(path, worker=0) == []
