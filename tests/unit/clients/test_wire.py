"""One connection, fed by hand: what the parser, the waiters and the closing do."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest

from test_framework.clients.wire import (
    STALE_AFTER_NS,
    CollateralError,
    Exchange,
    Wire,
    WireError,
)

GET = b"GET /a HTTP/1.1\r\nhost: h\r\n\r\n"
HEAD = b"HEAD /a HTTP/1.1\r\nhost: h\r\n\r\n"


def answer(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """Return an answer with its length."""
    lines = [b"HTTP/1.1 " + status, b"content-length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


class MemoryTransport(asyncio.Transport):
    """Keeps what is written and tells the protocol of its end, as the loop does."""

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self.written = b""
        self.ended = ""
        self._wire = wire

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep the bytes."""
        self.written += bytes(data)

    def abort(self) -> None:
        """End at once."""
        self._end("abort")

    def close(self) -> None:
        """End in good order."""
        self._end("close")

    def _end(self, how: str) -> None:
        if not self.ended:
            self.ended = how
            asyncio.get_running_loop().call_soon(self._wire.connection_lost, None)


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    """A connection whose other end is the test."""
    wire = Wire()
    wire.connection_made(MemoryTransport(wire))
    yield wire
    wire.close()
    await asyncio.sleep(0)


def _transport(wire: Wire) -> MemoryTransport:
    return cast("MemoryTransport", wire._transport)


async def test_answer_is_read_in_pieces(wire: Wire) -> None:
    """An answer that arrives byte by byte is the same answer."""
    exchange = wire.send(GET)

    for byte in answer(b"hello", b"x-a: 1"):
        wire.data_received(bytes([byte]))

    assert await exchange.body() == b"hello"
    assert exchange.status == 200
    assert (b"x-a", b"1") in exchange.headers
    assert wire.is_fresh


async def test_chunks_and_trailers_are_read(wire: Wire) -> None:
    """A chunked body is joined, and its trailers stand among the headers."""
    exchange = wire.send(GET)

    wire.data_received(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n2\r\nde\r\n0\r\nx-trailer: late\r\n\r\n"
    )

    assert await exchange.body() == b"abcde"
    assert (b"x-trailer", b"late") in exchange.headers


async def test_interim_answer_is_skipped(wire: Wire) -> None:
    """A 103 before the answer is not the answer, and its headers are not kept."""
    exchange = wire.send(GET)

    wire.data_received(b"HTTP/1.1 103 Early Hints\r\nlink: </s>\r\n\r\n")
    assert not exchange.has_head
    wire.data_received(answer(b"x"))

    assert await exchange.body() == b"x"
    assert [name for name, _ in exchange.headers] == [b"content-length"]


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_answer_without_body_is_complete(wire: Wire, status: bytes) -> None:
    """204 and 304 end with their head, whatever length 304 announces."""
    exchange = wire.send(GET)

    wire.data_received(b"HTTP/1.1 %s\r\netag: 1\r\n\r\n" % status)

    assert exchange.is_complete
    assert wire.is_fresh


async def test_head_request_keeps_its_connection(wire: Wire) -> None:
    """HEAD is answered by a head alone, and the connection serves the next request."""
    first = wire.send(HEAD)
    wire.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")

    second = wire.send(GET)
    wire.data_received(answer(b"other"))

    assert await first.body() == b""
    assert await second.body() == b"other"


async def test_answer_without_length_ends_with_connection(wire: Wire) -> None:
    """A body that is ended by the close of the connection is whole."""
    exchange = wire.send(GET)
    wire.data_received(b"HTTP/1.1 200 OK\r\n\r\nabc")

    wire.eof_received()
    wire.connection_lost(None)

    assert await exchange.body() == b"abc"


@pytest.mark.parametrize("error", [None, ConnectionResetError()])
async def test_cut_answer_is_an_error(wire: Wire, error: Exception | None) -> None:
    """A body shorter than its length is never taken for an answer."""
    exchange = wire.send(GET)
    wire.data_received(answer(b"hello")[:-2])

    wire.connection_lost(error)

    with pytest.raises(WireError, match="ended before the answer"):
        await exchange.body()


async def test_own_cut_completes_nothing(wire: Wire) -> None:
    """An answer without length that we cut ourselves does not pass for whole."""
    exchange = wire.send(GET)
    wire.data_received(b"HTTP/1.1 200 OK\r\n\r\nabc")

    exchange.abort()
    await asyncio.sleep(0)

    assert not exchange.is_complete


async def test_nonsense_ends_the_connection(wire: Wire) -> None:
    """What is not HTTP is reported and the connection is not used again."""
    exchange = wire.send(GET)

    wire.data_received(b"SSH-2.0-OpenSSH\r\n")

    with pytest.raises(WireError, match=r"not HTTP/1\.1"):
        await exchange.body()
    assert wire.is_closed


async def test_pipelined_answers_keep_their_order(wire: Wire) -> None:
    """Two answers in one packet go to the two requests, each with its instant."""
    first, second = wire.send(GET), wire.send(GET)

    wire.data_received(answer(b"one") + answer(b"two"))

    assert [await first.body(), await second.body()] == [b"one", b"two"]
    assert second.first_byte_ns is not None


async def test_cut_of_the_front_is_told_to_the_next(wire: Wire) -> None:
    """Who shares a connection that we cut learns that it was not the service."""
    first, second = wire.send(GET), wire.send(GET)

    first.abort()

    with pytest.raises(CollateralError):
        await second.body()


async def test_closing_answer_is_told_to_the_next(wire: Wire) -> None:
    """A request behind an answer with ``connection: close`` is not the service's."""
    first, second = wire.send(GET), wire.send(GET)

    wire.data_received(answer(b"bye", b"connection: close"))

    assert await first.body() == b"bye"
    with pytest.raises(CollateralError):
        await second.body()
    assert _transport(wire).ended == "close"


async def test_unasked_answer_ends_the_connection(wire: Wire) -> None:
    """A second answer to one request must not reach the next request."""
    exchange = wire.send(GET)

    wire.data_received(answer(b"one") + answer(b"two"))

    assert await exchange.body() == b"one"
    with pytest.raises(WireError):
        wire.send(GET)


async def test_late_unasked_answer_ends_the_connection(wire: Wire) -> None:
    """Bytes on an idle connection, such as a 408, spend it."""
    wire.data_received(answer(b"", status=b"408 Request Timeout"))

    assert wire.is_closed


async def test_half_closed_connection_is_not_used(wire: Wire) -> None:
    """Between the server's goodbye and its loss no request is sent into it."""
    wire.eof_received()

    with pytest.raises(WireError, match="closed"):
        wire.send(GET)


async def test_idle_connection_grows_stale(wire: Wire) -> None:
    """A connection that a server may be closing is replaced, not reused."""
    assert wire.is_fresh

    wire.last_used_ns -= STALE_AFTER_NS

    assert not wire.is_fresh


async def test_held_request_lacks_one_byte(wire: Wire) -> None:
    """A held request leaves but for the end of its head; release sends the rest."""
    exchange = wire.send(GET, b"body", hold=True)
    assert _transport(wire).written == GET[:-1]

    exchange.release()
    exchange.release()

    assert _transport(wire).written == GET + b"body"


async def test_two_readers_both_get_the_answer(wire: Wire) -> None:
    """A second reader does not take the place of the first."""
    exchange = wire.send(GET)
    readers = [asyncio.create_task(exchange.body()) for _ in range(2)]
    await asyncio.sleep(0)

    wire.data_received(answer(b"both"))

    async with asyncio.timeout(1):
        assert await asyncio.gather(*readers) == [b"both", b"both"]


async def test_cancelled_reader_leaves_the_other(wire: Wire) -> None:
    """Cancelling one reader neither ends nor cancels another."""
    exchange = wire.send(GET)
    gone, stays = (asyncio.create_task(exchange.body()) for _ in range(2))
    await asyncio.sleep(0)

    gone.cancel()
    await asyncio.sleep(0)
    wire.data_received(answer(b"still"))

    async with asyncio.timeout(1):
        assert await stays == b"still"
    assert gone.cancelled()


async def test_slow_consumer_is_not_timed_out(wire: Wire) -> None:
    """The time limit of a piece counts the wait for it, not the caller's own work."""
    exchange = wire.send(GET)
    wire.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na")
    pieces = []

    async for piece in exchange.pieces(timeout_s=0.01):
        pieces.append(piece)
        if len(pieces) == 1:
            await asyncio.sleep(0.03)
            wire.data_received(b"b")

    assert pieces == [b"a", b"b"]


async def test_missing_piece_times_out(wire: Wire) -> None:
    """An answer that stops half way is given up after the limit."""
    exchange = wire.send(GET)
    wire.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na")

    with pytest.raises(TimeoutError):
        async for _ in exchange.pieces(timeout_s=0.01):
            pass


async def test_exchange_without_wire_can_be_cut() -> None:
    """An answer from a cache has no connection, and nothing breaks for that."""
    exchange = Exchange(None, is_head_request=False)

    exchange.abort()
    exchange.release()

    assert exchange.error is None


def test_refusal_before_the_last_byte_does_not_come_before_its_request() -> None:
    """What is answered already was sent already, whenever its gate opens."""
    exchange = Exchange(None, is_head_request=False)
    exchange.sent_ns, exchange.completed_ns = 3, 5

    exchange.release()

    assert exchange.sent_ns == 3
