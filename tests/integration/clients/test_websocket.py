"""The WebSocket client records every frame, read or not, and how a socket ends."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from test_framework.canary import Mint
from test_framework.clients.recorder import Recorder
from test_framework.clients.websocket import (
    Events,
    EventTimeoutError,
    open_events,
)
from test_framework.core import History, MonotonicClock, Operation, TargetError

pytestmark = pytest.mark.integration

SEED = 7
FOREIGN = Mint(SEED).mint(31, 2)


@pytest.fixture
def recorder() -> Recorder:
    """A recorder in memory."""
    return Recorder(History(), seed=SEED, clock=MonotonicClock(), is_tagging=True)


@asynccontextmanager
async def _serving(
    handler: Callable[[ServerConnection], Awaitable[None]],
    *,
    refusal: Response | None = None,
) -> AsyncIterator[int]:
    def process(_: ServerConnection, __: Request) -> Response | None:
        return refusal

    async with serve(handler, "127.0.0.1", 0, process_request=process) as server:
        yield next(iter(server.sockets)).getsockname()[1]


def _open(recorder: Recorder, port: int) -> AbstractAsyncContextManager[Events]:
    return open_events(
        recorder,
        user=0,
        url=f"ws://127.0.0.1:{port}/ws?after=3",
        path="/ws",
        headers={},
        tls=None,
        sequence_field="seq",
        type_field="type",
    )


def _events(recorder: Recorder) -> list[Operation]:
    return [
        op for op in recorder.history.of(Operation) if op.endpoint.startswith("EVENT ")
    ]


async def _three(socket: ServerConnection) -> None:
    for number in (1, 2, 3):
        await socket.send(json.dumps({"seq": number, "type": "note", "text": FOREIGN}))
    await socket.wait_closed()


async def test_unread_frames_are_recorded_without_number(recorder: Recorder) -> None:
    """What came and nobody read is scanned, and is owed again after a resume."""
    async with _serving(_three) as port, _open(recorder, port) as events:
        await events.until(lambda event: event["seq"] == 1)
        await asyncio.sleep(0.05)

    found = [(op.sequence, op.event, op.seen[0].owner) for op in _events(recorder)]
    assert found == [(1, "note", 31), (None, None, 31), (None, None, 31)]


async def test_unread_flood_does_not_delay_the_close(recorder: Recorder) -> None:
    """A thousand unread frames neither block the close nor get lost."""

    async def flood(socket: ServerConnection) -> None:
        for number in range(1000):
            await socket.send(str(number))
        await socket.wait_closed()

    async with asyncio.timeout(5), _serving(flood) as port, _open(recorder, port):
        await asyncio.sleep(0.3)

    assert len(_events(recorder)) == 1000


async def test_cut_ends_without_farewell(recorder: Recorder) -> None:
    """After a cut the service sees no close frame, and the client does not wait."""
    codes: asyncio.Queue[int | None] = asyncio.Queue()

    async def watch(socket: ServerConnection) -> None:
        await socket.wait_closed()
        codes.put_nowait(socket.close_code)

    async with asyncio.timeout(3), _serving(watch) as port:
        async with _open(recorder, port) as events:
            events.cut()
        code = await codes.get()

    assert code == 1006


async def test_awaited_event_that_stays_away_is_told(recorder: Recorder) -> None:
    """Waiting in vain says how many others came; a closed socket says its code."""

    async def leave(socket: ServerConnection) -> None:
        await socket.send("{}")
        await socket.close(4001, f"by {FOREIGN}")

    async with _serving(_three) as port, _open(recorder, port) as events:
        with pytest.raises(EventTimeoutError, match="3 other events"):
            await events.until(lambda _: False, timeout_s=0.1)
    async with _serving(leave) as port, _open(recorder, port) as events:
        with pytest.raises(EventTimeoutError, match=r"closed \(4001\)"):
            await events.until(lambda _: False)

    close = recorder.history.of(Operation)[-1]
    assert (close.endpoint, close.status) == ("CLOSE /ws", 4001)
    assert [seen.where for seen in close.seen] == ["close reason"]


async def _ticking(socket: ServerConnection) -> None:
    """Tell the time again and again, and after a second and a half that it is late."""
    begun_at = asyncio.get_running_loop().time()
    while True:
        is_late = asyncio.get_running_loop().time() > begun_at + 1.5
        await socket.send(json.dumps({"late": is_late}))
        await asyncio.sleep(0.02)


async def test_event_that_comes_late_after_others_is_no_lost_one(
    recorder: Recorder,
) -> None:
    """A busy service is waited for while it tells anything at all."""
    async with _serving(_ticking) as port, _open(recorder, port) as events:
        heard = await events.until(lambda event: event["late"], timeout_s=1.0)

    assert [event["late"] for event in heard[-2:]] == [False, True]


async def test_event_that_never_comes_is_not_awaited_for_ever(
    recorder: Recorder,
) -> None:
    """Others do not prolong the wait without end."""
    async with _serving(_ticking) as port, _open(recorder, port) as events:
        with pytest.raises(EventTimeoutError, match="did not come within"):
            await events.until(lambda _: False, timeout_s=0.05)


async def test_sent_canary_is_planted(recorder: Recorder) -> None:
    """The operation that planted a canary over a socket can be named as witness."""
    own = recorder.canary(0, "chat")

    async with _serving(_three) as port, _open(recorder, port) as events:
        await events.send({"text": own})
        await events.send({"text": "nothing"})

    sent = [
        op.planted for op in recorder.history.of(Operation) if op.endpoint == "SEND /ws"
    ]
    assert sent == [("u0/0",)]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(HTTPStatus.FORBIDDEN, "fail"), (HTTPStatus.BAD_GATEWAY, "info")],
)
async def test_refused_handshake_is_recorded(
    recorder: Recorder, status: HTTPStatus, outcome: str
) -> None:
    """A refusal is one, a server error is unknown, and its body is scanned."""
    body = FOREIGN.encode()
    refusal = Response(
        status, "", Headers({"content-length": str(len(body))}), body=body
    )

    async with _serving(_three, refusal=refusal) as port:
        with pytest.raises(TargetError, match="was refused"):
            await _open(recorder, port).__aenter__()

    (operation,) = recorder.history.of(Operation)
    assert (operation.outcome, operation.status) == (outcome, status)
    assert [seen.owner for seen in operation.seen] == [31]


async def test_cancelled_handshake_is_not_a_success(recorder: Recorder) -> None:
    """A handshake that we gave up is unknown, not an open socket."""
    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(
        lambda _, writer: writers.append(writer), "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]
    task = asyncio.create_task(_open(recorder, port).__aenter__())
    await asyncio.sleep(0.05)

    task.cancel()
    await asyncio.wait([task])
    server.close()
    for writer in writers:
        writer.close()
        await writer.wait_closed()

    (operation,) = recorder.history.of(Operation)
    assert (operation.outcome, operation.error) == ("info", "cancelled")


async def test_missing_server_is_told(recorder: Recorder) -> None:
    """Nobody listening is one sentence and one record."""
    with pytest.raises(TargetError, match="could not be opened"):
        await _open(recorder, 1).__aenter__()

    assert recorder.history.of(Operation)[0].error == "refused"
