"""Routes and the recording transport over real connections on loopback."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httpx
import pytest

from test_framework.clients.http import (
    Caller,
    RecordingTransport,
    encode_request,
    send_again,
)
from test_framework.clients.passage import Route, WireRequest
from test_framework.clients.recorder import Recorder
from test_framework.clients.routes import Address, DirectRoute, SharedRoute
from test_framework.clients.wire import CollateralError
from test_framework.core import History, MonotonicClock, Operation, TargetError

pytestmark = pytest.mark.integration


class Server:
    """A small HTTP server whose paths misbehave on demand.

    ``/echo`` answers with the length of the body, ``/hang`` never, ``/bye`` closes
    the connection, ``/half`` stops in mid-answer, ``/drip`` sends five pieces.
    """

    def __init__(self) -> None:
        self.connections = 0
        self.port = 0
        self.writers: list[asyncio.StreamWriter] = []
        self.is_over = asyncio.Event()

    async def handle(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer the requests of one connection."""
        self.connections += 1
        self.writers.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = 0
                for line in head.lower().split(b"\r\n"):
                    if line.startswith(b"content-length:"):
                        length = int(line.partition(b":")[2])
                body = await reader.readexactly(length)
                await self._answer(head.split(b" ")[1], body, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(
        self, path: bytes, body: bytes, writer: asyncio.StreamWriter
    ) -> None:
        if path == b"/hang":
            await self.is_over.wait()
            raise ConnectionResetError
        if path == b"/bye":
            raise ConnectionResetError
        if path == b"/half":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")
        elif path == b"/drip":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")
            for _ in range(5):
                writer.write(b"x")
                await asyncio.sleep(0.03)
        else:
            text = b"%d" % len(body)
            head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(text)
            writer.write(head + text)
        await writer.drain()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A listening server; its connections end with the test."""
    answering = Server()
    listener = await asyncio.start_server(answering.handle, "127.0.0.1", 0)
    answering.port = listener.sockets[0].getsockname()[1]
    before = asyncio.all_tasks()
    yield answering
    listener.close()
    handlers = [
        task
        for task in asyncio.all_tasks() - before
        if task is not asyncio.current_task()
    ]
    for writer in answering.writers:
        writer.transport.abort()
    answering.is_over.set()
    await asyncio.gather(*handlers)


@pytest.fixture
def recorder() -> Recorder:
    """A recorder in memory."""
    return Recorder(History(), seed=7, clock=MonotonicClock(), is_tagging=False)


def _address(server: Server) -> Address:
    return Address.of(urlsplit(f"http://127.0.0.1:{server.port}"), None)


def _request(
    recorder: Recorder, path: str, body: bytes = b"", *, method: str = "GET"
) -> WireRequest:
    return encode_request(
        recorder,
        index=0,
        method=method,
        target=path,
        headers=[(b"host", b"h"), (b"content-length", b"%d" % len(body))],
        body=body,
        hold=False,
    )


@asynccontextmanager
async def _http(
    recorder: Recorder, route: Route, *, timeout_s: float = 5
) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        base_url="http://h",
        transport=RecordingTransport(recorder, Caller(0, route)),
        timeout=timeout_s,
    ) as client:
        yield client
    route.close()
    await asyncio.sleep(0)


def _shared(server: Server, *, size: int, pipelining: float = 0.0) -> SharedRoute:
    return SharedRoute(
        _address(server), size=size, rng=random.Random(1), pipelining=pipelining
    )


def _only(recorder: Recorder) -> Operation:
    (operation,) = recorder.history.of(Operation)
    return operation


async def test_own_connection_is_used_again(server: Server, recorder: Recorder) -> None:
    """Requests one after the other travel over one connection, warmed or not."""
    route = DirectRoute(_address(server))
    await route.warm()

    async with _http(recorder, route) as http:
        for _ in range(3):
            assert (await http.get("/echo")).text == "0"

    assert server.connections == 1


async def test_big_body_arrives_whole(server: Server, recorder: Recorder) -> None:
    """A body larger than every buffer on the way is not cut."""
    body = b"x" * 3_000_000

    async with _http(recorder, DirectRoute(_address(server))) as http:
        answer = await http.post("/echo", content=body)

    assert answer.text == str(len(body))


async def test_closed_idle_connection_is_replaced(
    server: Server, recorder: Recorder
) -> None:
    """A connection that the service closed while idle costs no request."""
    async with _http(recorder, DirectRoute(_address(server))) as http:
        await http.get("/echo")
        server.writers[0].close()
        await asyncio.sleep(0.02)
        answer = await http.get("/echo")

    assert answer.status_code == 200
    assert server.connections == 2


@pytest.mark.parametrize("path", ["/hang", "/half"])
async def test_missing_answer_is_a_timeout(
    server: Server, recorder: Recorder, path: str
) -> None:
    """No answer, or half of one, is a timeout for httpx and ``info`` for the record."""
    async with _http(recorder, DirectRoute(_address(server)), timeout_s=0.05) as http:
        with pytest.raises(httpx.ReadTimeout):
            await http.get(path)

    assert (_only(recorder).outcome, _only(recorder).error) == ("info", "timeout")
    assert not _only(recorder).disturbed


async def test_raw_timeout_is_recorded_not_raised(
    server: Server, recorder: Recorder
) -> None:
    """The burst path records what the httpx path raises."""
    route = DirectRoute(_address(server))

    operation = await send_again(
        recorder, Caller(0, route), _request(recorder, "/hang"), timeout_s=0.05
    )
    route.close()

    assert (operation.outcome, operation.error) == ("info", "timeout")


async def test_slow_stream_is_no_timeout(server: Server, recorder: Recorder) -> None:
    """A stream may last longer than the limit while its pieces come in time."""
    async with _http(recorder, DirectRoute(_address(server)), timeout_s=0.1) as http:
        answer = await http.get("/drip")

    assert answer.text == "xxxxx"


async def test_slow_reader_of_a_stream_is_not_cancelled(
    server: Server, recorder: Recorder
) -> None:
    """The limit of the transport does not reach into the code that reads."""
    async with (
        _http(recorder, DirectRoute(_address(server)), timeout_s=0.06) as http,
        http.stream("GET", "/drip") as answer,
    ):
        async for _ in answer.aiter_raw():
            await asyncio.sleep(0.1)

    assert _only(recorder).outcome == "ok"


async def test_lost_connection_is_unknown(server: Server, recorder: Recorder) -> None:
    """A connection that the service ends is an error for httpx and ``info``."""
    async with _http(recorder, DirectRoute(_address(server))) as http:
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get("/bye")

    assert (_only(recorder).outcome, _only(recorder).error) == ("info", "disconnected")


async def test_cancelled_request_is_recorded(
    server: Server, recorder: Recorder
) -> None:
    """A cancellation passes through and leaves one record that names it."""
    async with _http(recorder, DirectRoute(_address(server))) as http:
        task = asyncio.create_task(http.get("/half"))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert (_only(recorder).outcome, _only(recorder).error) == ("info", "cancelled")


async def test_abandoned_stream_is_our_own_doing(
    server: Server, recorder: Recorder
) -> None:
    """Who leaves a stream early is not a bystander that failed."""
    async with (
        _http(recorder, DirectRoute(_address(server))) as http,
        http.stream("GET", "/drip") as answer,
    ):
        async for _ in answer.aiter_raw():
            break

    assert (_only(recorder).error, _only(recorder).disturbed) == ("abandoned", True)


async def test_forgotten_answer_is_recorded(server: Server, recorder: Recorder) -> None:
    """An answer that nobody reads or closes is recorded with the client's end."""
    async with _http(recorder, DirectRoute(_address(server))) as http:
        request = http.build_request("GET", "/half")
        await http.send(request, stream=True)
        assert recorder.history.of(Operation) == []

    assert _only(recorder).outcome == "info"


async def test_service_that_is_down_is_said(recorder: Recorder) -> None:
    """A port nobody listens on gives one sentence with the cure."""
    nowhere = Address.of(urlsplit("http://127.0.0.1:1"), None)

    with pytest.raises(
        TargetError, match=r"does not accept connections \(.*\)\. Start"
    ):
        await DirectRoute(nowhere).start(_request(recorder, "/"))


async def test_shared_route_bounds_its_connections(
    server: Server, recorder: Recorder
) -> None:
    """Twenty requests at once share two connections and all are answered."""
    route = _shared(server, size=2)

    async with _http(recorder, route) as http:
        await asyncio.gather(*(http.get("/echo") for _ in range(20)))

    assert server.connections == 2
    assert route.requests == 20


async def _lose(route: SharedRoute, recorder: Recorder, path: str) -> None:
    await send_again(
        recorder, Caller(0, route), _request(recorder, path), timeout_s=0.03
    )


async def _cancel(route: SharedRoute, recorder: Recorder, path: str) -> None:
    task = asyncio.create_task(
        send_again(recorder, Caller(0, route), _request(recorder, path))
    )
    await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize("mishap", [_lose, _cancel])
@pytest.mark.parametrize("path", ["/hang", "/half", "/bye", "/drip", "/echo"])
async def test_slot_comes_back_exactly_once(
    server: Server,
    recorder: Recorder,
    path: str,
    mishap: Callable[[SharedRoute, Recorder, str], Awaitable[None]],
) -> None:
    """However a request ends, its slot serves the next, and no slot is made up."""
    route = _shared(server, size=1)

    for _ in range(3):
        await mishap(route, recorder, path)
    async with asyncio.timeout(2):
        operation = await send_again(
            recorder, Caller(0, route), _request(recorder, "/echo")
        )

    assert operation.outcome == "ok"
    assert route._slots.qsize() == 1
    route.close()
    await asyncio.sleep(0)


async def test_cancelled_waiter_loses_no_slot(
    server: Server, recorder: Recorder
) -> None:
    """Who is cancelled while waiting for a slot takes none along."""
    route = _shared(server, size=1)
    front = await route.start(_request(recorder, "/drip"))
    waiting = asyncio.create_task(route.start(_request(recorder, "/echo")))
    await asyncio.sleep(0)

    waiting.cancel()
    await asyncio.wait([waiting])
    await front.exchange.body()
    front.done()

    assert route._slots.qsize() == 1
    route.close()
    await asyncio.sleep(0)


async def test_pipelined_request_keeps_the_slot(
    server: Server, recorder: Recorder
) -> None:
    """A connection is free only when all who travel on it have arrived."""
    route = _shared(server, size=1, pipelining=1.0)
    front = await route.start(_request(recorder, "/echo", b"ab"))
    behind = await route.start(_request(recorder, "/drip"))

    assert await front.exchange.body() == b"2"
    front.done()
    assert route._slots.qsize() == 0
    assert await behind.exchange.body() == b"xxxxx"
    behind.done()

    assert (route._slots.qsize(), route.pipelined, server.connections) == (1, 1, 1)
    route.close()
    await asyncio.sleep(0)


async def test_pipelined_victim_is_not_blamed_on_the_service(
    server: Server, recorder: Recorder
) -> None:
    """Cutting the front request fails the one behind it as ours, not the service's."""
    route = _shared(server, size=1, pipelining=1.0)
    front = await route.start(_request(recorder, "/hang"))
    victim = asyncio.create_task(
        send_again(recorder, Caller(1, route), _request(recorder, "/echo"))
    )
    await asyncio.sleep(0.02)

    front.done()
    operation = await victim

    assert isinstance(front.exchange.error, CollateralError)
    assert (operation.error, operation.disturbed) == ("collateral", True)
    assert route._slots.qsize() == 1


async def test_head_is_never_pipelined_behind(
    server: Server, recorder: Recorder
) -> None:
    """Nothing is sent behind a HEAD, whose answer the parser cannot part from it."""
    route = _shared(server, size=2, pipelining=1.0)
    front = await route.start(_request(recorder, "/hang", method="HEAD"))

    behind = await route.start(_request(recorder, "/echo"))

    assert await behind.exchange.body() == b"0"
    assert route.pipelined == 0
    front.done()
    behind.done()
    route.close()
    await asyncio.sleep(0)
