"""One kept-alive HTTP/1.1 connection, at a tenth of the cost of a full client.

A hundred users on two cores leave no CPU for the client, so requests are bytes
that the caller made, the parser is httptools (C), and an exchange is one object.
A connection can hold a request back by its last header byte and let it go later:
that is last-byte synchronisation, which releases a hundred requests within a
millisecond where ``gather`` over a client needs thirty. Requests may be pipelined.

It does not follow redirects, keep cookies or retry: httpx does that above, and a
retry would hide a defect.

Source: J. Kettle, "Smashing the state machine", 2023 (last-byte sync).
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import httptools

if TYPE_CHECKING:
    import ssl

STALE_AFTER_NS = 1_500_000_000
"""Idle time after which a connection is replaced, not reused.

uvicorn closes idle connections after five seconds, under gunicorn after two; a
request sent into a closing connection would look like a failure of the service.
"""
CONNECT_TIMEOUT_S = 5.0

LARGEST_ANSWER_BYTES = 64 * 2**20
"""An answer that goes on beyond this is cut by us: it would fill the memory."""

SERVER_ERROR = 500
"""Servers often hang up after it without saying so: the connection is not used again."""


class WireError(ConnectionError):
    """Raised when a connection ends before the answer does: unknown, not failed."""


class CollateralError(WireError):
    """Raised when an answer was lost because we shared its connection with another's.

    The other request was cut by us, or its answer ended the connection. A client
    that pipelines must expect that; the service is not at fault.
    """


class Exchange:
    """A request on its way and the answer so far.

    Attributes:
        sent_ns: When its last byte was written.
        first_byte_ns: When the first byte of the answer came, None before that.
        completed_ns: When the answer was complete, 0 before that.
        status: HTTP status, 0 before the head is complete.
        headers: Header pairs in the order they came.
        parts: Pieces of the body so far.
        received_bytes: Body bytes so far.
    """

    __slots__ = (
        "_held",
        "_waiters",
        "_wire",
        "completed_ns",
        "error",
        "first_byte_ns",
        "has_head",
        "headers",
        "is_head_request",
        "parts",
        "received_bytes",
        "sent_ns",
        "status",
    )

    def __init__(self, wire: "Wire | None", *, is_head_request: bool) -> None:
        """Belong to ``wire``; None for an answer that needs no connection."""
        self._wire = wire
        self._held = b""
        self._waiters: list[asyncio.Future[None]] = []
        self.is_head_request = is_head_request
        self.sent_ns = 0
        self.first_byte_ns: int | None = None
        self.completed_ns = 0
        self.status = 0
        self.has_head = False
        self.headers: list[tuple[bytes, bytes]] = []
        self.parts: list[bytes] = []
        self.received_bytes = 0
        self.error: WireError | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the whole answer has arrived."""
        return self.completed_ns > 0

    def release(self) -> None:
        """Write the byte that was held back; the service starts on the request now."""
        held, self._held = self._held, b""
        if held and self._wire is not None:
            self._wire.write(held)
        if not self.is_complete:  # a service may refuse before it has read all
            self.sent_ns = time.monotonic_ns()

    async def head(self) -> None:
        """Wait until status and headers are known.

        Raises:
            WireError: The connection ended first.
        """
        while not self.has_head:
            await self._progress()

    async def body(self) -> bytes:
        """Wait for the whole answer and return its body.

        Raises:
            WireError: The connection ended first.
        """
        while not self.completed_ns:
            await self._progress()
        return self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)

    async def pieces(self, *, timeout_s: float | None = None) -> AsyncIterator[bytes]:
        """Yield the body as it arrives, then return.

        Args:
            timeout_s: Longest wait for one piece; None waits without end.

        Raises:
            WireError: The connection ended first.
            TimeoutError: A piece did not come in time.
        """
        taken = 0
        while True:
            if taken < len(self.parts):
                taken += 1
                yield self.parts[taken - 1]
            elif self.completed_ns:
                return
            else:
                # Around the wait alone: while the caller holds a piece, a timeout
                # here would cancel the caller.
                async with asyncio.timeout(timeout_s):
                    await self._progress()

    def abort(self) -> None:
        """Cut the connection now, as a client that walks away does."""
        if self._wire is not None:
            self._wire.abort()

    async def _progress(self) -> None:
        if self.error is not None:
            raise self.error
        # One future for each reader: a shared one dies with the first cancellation.
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            self._waiters.remove(waiter)

    def wake(self) -> None:
        """Let every waiting reader look again."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def fail(self, error: WireError) -> None:
        """End the exchange with ``error`` unless it is already complete."""
        if not self.completed_ns:
            self.error = error
            self.wake()


class Wire(asyncio.Protocol):
    """One connection to the service; answers come in the order of the requests."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._pending: deque[Exchange] = deque()
        self._has_spent_parser = False
        self.last_used_ns = time.monotonic_ns()
        self.is_closed = False
        self._is_soured = False

    @classmethod
    async def open(
        cls, host: str, port: int, *, tls: "ssl.SSLContext | None" = None
    ) -> "Wire":
        """Connect.

        Raises:
            OSError: Nobody listens there, or nobody answers in time.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, wire = await loop.create_connection(
                cls, host, port, ssl=tls, server_hostname=host if tls else None
            )
        return wire

    @property
    def in_flight(self) -> int:
        """How many requests wait for their answer on this connection."""
        return len(self._pending)

    @property
    def can_pipeline(self) -> bool:
        """Whether one request may be sent behind the one under way."""
        return (
            not self.is_closed
            and len(self._pending) == 1
            and not self._pending[0].is_head_request
        )

    @property
    def is_fresh(self) -> bool:
        """Whether a new request may be sent without meeting a closing server."""
        idle_ns = time.monotonic_ns() - self.last_used_ns
        return not self.is_closed and idle_ns < STALE_AFTER_NS

    def send(self, head: bytes, body: bytes = b"", *, hold: bool = False) -> Exchange:
        """Send a request.

        Args:
            head: Request line and headers with the empty line.
            body: The body, empty for none.
            hold: Keep back the last byte of the head and the body until
                ``release``: servers start a handler when the head is complete.

        Returns:
            The exchange; its answer arrives while it is awaited.

        Raises:
            WireError: The connection is closed.
        """
        if self.is_closed:
            message = "the connection is closed"
            raise WireError(message)
        exchange = Exchange(self, is_head_request=head.startswith(b"HEAD "))
        self._pending.append(exchange)
        if hold:
            self.write(head[:-1])
            exchange._held = head[-1:] + body  # noqa: SLF001  # one idea in two classes
        else:
            self.write(head + body if body else head)
        exchange.sent_ns = time.monotonic_ns()
        return exchange

    def write(self, data: bytes) -> None:
        """Write bytes as they are; a closed connection swallows them."""
        if self._transport is not None and not self.is_closed:
            self._transport.write(data)
            self.last_used_ns = time.monotonic_ns()

    def abort(self) -> None:
        """Reset the connection; what is in flight fails at once."""
        self._end(CollateralError, "the connection was cut with another request")
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close the connection in good order; what is in flight fails at once."""
        self._end(CollateralError, "the connection was closed by its owner")
        if self._transport is not None:
            self._transport.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport  # type: ignore[assignment]  # the loop hands a Transport to a Protocol

    def data_received(self, data: bytes) -> None:
        """Feed the parser; a server that talks nonsense ends the connection."""
        if not self._pending:
            # Nobody asked: the server says good-bye, or answers twice.
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as exc:
            self._end(WireError, f"the answer is not HTTP/1.1 ({exc})")
            self.abort()
        if self._has_spent_parser:
            self._parser = httptools.HttpResponseParser(self)
            self._has_spent_parser = False

    def eof_received(self) -> None:
        """Send nothing more: the transport closes itself now."""
        self.is_closed = True

    def connection_lost(self, exc: Exception | None) -> None:
        """End what is in flight; an answer without length ends here in good order."""
        if self._pending and exc is None and self._ends_with_connection:
            self._complete()
        reason = type(exc).__name__ if exc is not None else "closed by the service"
        # Servers close after an error they did not expect, without announcing it; who
        # was next on the connection is no victim of another user.
        kind = CollateralError if self._is_soured else WireError
        self._end(kind, f"the connection ended before the answer ({reason})")

    @property
    def _ends_with_connection(self) -> bool:
        """Whether the answer in front has no other end than that of the connection."""
        first = self._pending[0]
        return first.has_head and not any(
            name.lower() in {b"content-length", b"transfer-encoding"}
            for name, _ in first.headers
        )

    def _end(self, kind: type[WireError], reason: str) -> None:
        self.is_closed = True
        while self._pending:
            # An error for each: one that is raised twice collects two tracebacks.
            self._pending.popleft().fail(kind(reason))

    # httptools callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect one header."""
        if self._pending:
            self._pending[0].headers.append((name, value))

    def on_message_begin(self) -> None:
        """Take the instant; the answer behind another's may stand in its packet."""
        if self._pending:
            self._pending[0].first_byte_ns = time.monotonic_ns()
        else:
            # A second answer to one request; what follows could not be told apart.
            self.close()

    def on_headers_complete(self) -> None:
        """Publish the head; interim answers are skipped."""
        if not self._pending:
            return
        exchange = self._pending[0]
        exchange.status = self._parser.get_status_code()
        if exchange.status < 200:  # 1xx are interim answers
            exchange.headers.clear()
            return
        exchange.has_head = True
        exchange.wake()
        if exchange.is_head_request:
            # httptools cannot be told that no body follows: it is replaced.
            self._has_spent_parser = True
            self._complete()
            if not self._parser.should_keep_alive():
                self.close()

    def on_body(self, body: bytes) -> None:
        """Collect a piece of the body."""
        if self._pending:
            exchange = self._pending[0]
            exchange.parts.append(body)
            exchange.received_bytes += len(body)
            if exchange.received_bytes > LARGEST_ANSWER_BYTES:
                self._end(
                    CollateralError,
                    f"the answer goes on beyond {LARGEST_ANSWER_BYTES >> 20} MiB",
                )
                self.abort()
                return
            exchange.wake()

    def on_message_complete(self) -> None:
        """End the exchange in front unless it was an interim answer."""
        if self._pending and self._pending[0].has_head:
            self._complete()
        if not self._parser.should_keep_alive():
            self._end(CollateralError, "the answer before it ended the connection")
            self.close()

    def _complete(self) -> None:
        exchange = self._pending.popleft()
        now_ns = time.monotonic_ns()
        exchange.completed_ns = now_ns
        self._is_soured = exchange.status >= SERVER_ERROR
        self.last_used_ns = now_ns
        exchange.wake()
