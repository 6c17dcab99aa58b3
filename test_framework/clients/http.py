"""The HTTP client of a user: httpx on top, our wire below, every call an operation.

``user.http`` is a stock ``httpx.AsyncClient``; only its transport is ours, which
makes a request cost a third of httpx's own. The transport sends over a ``Route``,
takes part in a burst when the user stands at a rendezvous, and records the
operation when the answer is read, cut or given up.
"""

import asyncio
import dataclasses
import json
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Protocol

import httpx

from test_framework.clients.recorder import HEADERS, Part, Recorder
from test_framework.clients.routes import Passage, Route, WireRequest
from test_framework.clients.wire import (
    SERVER_ERROR,
    CollateralError,
    Exchange,
    WireError,
)
from test_framework.core import VISITOR, Operation, TargetError

if TYPE_CHECKING:
    from test_framework.core import Outcome

OPERATION_HEADER = "x-isolation-op"
BURST_HEADER = "x-isolation-burst"
"""Tells the service's own processes which requests belong together."""
USER_HEADER = "x-isolation-user"
"""Tells the detectors there which requests are of one user."""
TIMEOUT_S = 10.0
_CREATED = frozenset({201, 202})
_UNAVAILABLE = 503
_LARGEST_CREATED_BYTES = 65536
_NOT_IN_TOKEN = re.compile(r"[^A-Za-z0-9!#$%&'*+.^_`|~-]")
_TAGS = b"\r\n" + OPERATION_HEADER.encode() + b": "


class Gate(Protocol):
    """Where a request that is part of a burst waits for the others."""

    @property
    def name(self) -> str:
        """Name of the burst."""
        ...

    async def pass_through(self, exchange: Exchange, operation: int) -> None:
        """Wait until the burst is released; ``exchange`` is released with it."""
        ...

    def excuse(self) -> None:
        """Expect one member less: it ended without sending."""
        ...


class Caller:
    """Who sends a request and how: what a transport must know of its user.

    Attributes:
        user: Number of the user, ``VISITOR`` for nobody.
        route: The way its requests take; changes from shape to shape.
        gate: Burst that the next request joins; None for none.
        last_op: Number of its latest operation.
        reads: Latest GET of each endpoint that gave the user an own canary.
        streams: Those of them whose answer came in chunks.
        writes: Latest accepted JSON write of each endpoint.
        borrowed_from: User whose requests are sent with the caller's own credentials;
            None when they are its own.
    """

    __slots__ = (
        "borrowed_from",
        "gate",
        "last_op",
        "reads",
        "route",
        "streams",
        "user",
        "writes",
    )

    def __init__(
        self, user: int, route: Route, *, borrowed_from: int | None = None
    ) -> None:
        self.user = user
        self.route = route
        self.borrowed_from = borrowed_from
        self.gate: Gate | None = None
        self.last_op: int | None = None
        self.reads: dict[str, WireRequest] = {}
        self.streams: dict[str, WireRequest] = {}
        self.writes: dict[str, WireRequest] = {}

    def learn(
        self, request: WireRequest, exchange: Exchange, operation: Operation
    ) -> None:
        """Remember a request that later traffic shapes can send again."""
        if operation.outcome != "ok":
            return
        if request.method == "GET":
            if any(seen.owner == self.user for seen in operation.seen):
                self.reads[operation.endpoint] = request
                if any(
                    name.lower() == b"transfer-encoding" for name, _ in exchange.headers
                ):
                    self.streams[operation.endpoint] = request
        elif operation.planted and _is_json_object(request.body):
            self.writes[operation.endpoint] = request


class Call:
    """One request from its first byte to its record.

    Args:
        recorder: Writes the operation.
        caller: Who calls; its route is taken.
        request: What is sent.
        index: Number of the operation, already in the request.
        gate: Burst the request is part of.
        once: Group of requests of which at most one may succeed.
        disturbed: We mean to cut it before its answer is complete.
    """

    __slots__ = (
        "_caller",
        "_disturbed",
        "_gate",
        "_once",
        "_passage",
        "_planted",
        "_recorder",
        "_request",
        "_started_ns",
        "index",
        "operation",
    )

    def __init__(  # one argument per fact of the call
        self,
        recorder: Recorder,
        caller: Caller,
        request: WireRequest,
        index: int,
        *,
        gate: Gate | None = None,
        once: str | None = None,
        disturbed: bool = False,
    ) -> None:
        self._recorder = recorder
        self._caller = caller
        self._request = request
        self._gate = gate
        self._once = once
        self._disturbed = disturbed
        self._passage: Passage | None = None
        self._planted = recorder.ids(request.head + request.body)
        self._started_ns = recorder.clock.now_ns()
        self.index = index
        self.operation: Operation | None = None
        caller.last_op = index

    async def start(self) -> Exchange:
        """Send the request and return its exchange once it is on its way.

        Raises:
            TargetError: The service does not accept connections.
            WireError: The connection was lost before the request left.
        """
        try:
            passage = await self._caller.route.start(self._request)
            self._passage = passage
            if self._gate is not None:
                await self._gate.pass_through(passage.exchange, self.index)
        except BaseException as exc:
            if self._passage is None and self._gate is not None:
                self._gate.excuse()
            self.finish(exc)
            raise
        return passage.exchange

    def finish(self, error: BaseException | None = None) -> Operation:
        """Give the connection back and record the operation, the first time.

        Args:
            error: Why there is no whole answer; None when there is one, or when the
                caller wants no more of it.
        """
        if self.operation is not None:
            return self.operation
        passage = self._passage
        exchange = passage.exchange if passage is not None else None
        whole = exchange is not None and exchange.is_complete
        if exchange is not None and exchange.error is not None and error is None:
            error = exchange.error
        if passage is not None:
            passage.done()
        operation = self.operation = self._operation(exchange, error, whole=whole)
        self._recorder.add(operation)
        if whole and exchange is not None:
            self._caller.learn(self._request, exchange, operation)
        return operation

    def _operation(
        self, exchange: Exchange | None, error: BaseException | None, *, whole: bool
    ) -> Operation:
        request, recorder = self._request, self._recorder
        passage = self._passage
        path = request.target.partition("?")[0]
        return Operation(
            index=self.index,
            user=self._caller.user,
            channel="http",
            endpoint=recorder.endpoints.name(request.method, path),
            path=path,
            shape=recorder.shape,
            invoked_ns=(exchange.sent_ns if exchange else 0) or self._started_ns,
            first_byte_ns=exchange.first_byte_ns if exchange else None,
            completed_ns=(exchange.completed_ns if exchange else 0)
            or recorder.clock.now_ns(),
            outcome=_outcome(exchange, whole=whole),
            status=exchange.status or None if exchange else None,
            error=None if whole else _reason(error),
            sent_bytes=len(request.head) + len(request.body),
            received_bytes=exchange.received_bytes if exchange else 0,
            planted=self._planted,
            seen=recorder.seen(_parts(exchange)) if exchange else (),
            disturbed=self._disturbed
            or (not whole and (error is None or isinstance(error, CollateralError))),
            burst=self._gate.name if self._gate is not None else None,
            cached=passage.is_cached if passage else False,
            created_id=_created_id(path, exchange) if exchange and whole else None,
            once=self._once,
            borrowed_from=self._caller.borrowed_from,
        )


def _is_json_object(body: bytes) -> bool:
    if not body.startswith(b"{"):
        return False
    try:
        return isinstance(json.loads(body), dict)
    except ValueError:
        return False


def _outcome(exchange: Exchange | None, *, whole: bool) -> "Outcome":
    if exchange is None or not whole:
        return "info"
    if exchange.status == _UNAVAILABLE and any(
        name.lower() == b"retry-after" for name, _ in exchange.headers
    ):
        return "fail"  # load shedding: refused in so many words, did not happen
    if exchange.status >= SERVER_ERROR:
        return "info"
    return "ok" if exchange.status < 400 else "fail"  # 4xx: refused


def _reason(error: BaseException | None) -> str:
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    if isinstance(error, TargetError):
        return "refused"
    if isinstance(error, CollateralError):
        return "collateral"
    return "abandoned" if error is None else "disconnected"


def _parts(exchange: Exchange) -> list[Part]:
    parts = [Part("body", b"".join(exchange.parts))]
    head = b"\r\n".join([name + b": " + value for name, value in exchange.headers])
    parts.append(Part(HEADERS, head))
    return parts


def _created_id(path: str, exchange: Exchange) -> str | None:
    """Return the identifier of what was created: ``id``, or ``run_id`` of ``/runs``.

    Any other ``*_id`` names something older, such as the tenant all users share.
    """
    is_small = exchange.received_bytes <= _LARGEST_CREATED_BYTES
    if exchange.status not in _CREATED or not is_small:
        return None
    try:
        body = json.loads(b"".join(exchange.parts))
    except ValueError:
        return None
    if not isinstance(body, dict):
        return None
    collection = path.rstrip("/").rpartition("/")[2]
    for name in ("id", *(name for name in body if name.endswith("_id"))):
        if name != "id" and not collection.startswith(name[:-3]):
            continue
        value = body.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool):
            return str(value)
    return None


async def send_again(  # one argument per fact of the call
    recorder: Recorder,
    caller: Caller,
    request: WireRequest,
    *,
    gate: Gate | None = None,
    timeout_s: float = TIMEOUT_S,
    disturbed: bool = False,
) -> Operation:
    """Send a request again as bytes, without httpx, and return its operation.

    A tenth of the cost of ``user.http``: bursts and replays use it. Failures of
    the connection are recorded, not raised. ``disturbed`` marks one that a service
    may well cut.
    """
    index = recorder.number()
    call = Call(
        recorder,
        caller,
        renumbered(recorder, request, index, gate),
        index,
        gate=gate,
        disturbed=disturbed,
    )
    try:
        exchange = await call.start()
        async with asyncio.timeout(timeout_s):
            await exchange.body()
    except (TargetError, TimeoutError, WireError) as exc:
        return call.finish(exc)
    except BaseException as exc:
        call.finish(exc)
        raise
    return call.finish()


def renumbered(
    recorder: Recorder, request: WireRequest, index: int, gate: Gate | None = None
) -> WireRequest:
    """Return ``request`` with the number of its new operation, and its burst."""
    head = request.head
    if recorder.is_tagging:
        kept, found, _ = head.partition(_TAGS)
        head = (kept if found else head[:-4]) + _tags(index, gate) + b"\r\n\r\n"
    return dataclasses.replace(request, head=head, hold=gate is not None)


def _tags(index: int, gate: Gate | None) -> bytes:
    """Return the header lines for the service's own processes; they come last."""
    line = b"%s%d" % (_TAGS, index)
    if gate is None:
        return line
    name = _NOT_IN_TOKEN.sub("-", gate.name).encode()
    return b"%s\r\n%s: %s" % (line, BURST_HEADER.encode(), name)


def encode_request(  # the parts of an HTTP request
    recorder: Recorder,
    *,
    index: int,
    method: str,
    target: str,
    headers: list[tuple[bytes, bytes]],
    body: bytes,
    hold: bool,
    gate: Gate | None = None,
    user: int = VISITOR,
) -> WireRequest:
    """Return the bytes of a request.

    Args:
        recorder: Says whether requests carry their number.
        index: Number of the operation.
        method: ``GET``, ``POST``, ...
        target: Path and query.
        headers: Header pairs as they are sent.
        body: The body, empty for none.
        hold: Whether the last byte stays back until the exchange is released.
        gate: Burst the request is part of.
        user: Number of the user who sends it.
    """
    lines = [b"%s %s HTTP/1.1" % (method.encode(), target.encode("latin-1"))]
    lines += [name + b": " + value for name, value in headers]
    tags = b""
    if recorder.is_tagging:
        tags = _tags(index, gate)
        if user != VISITOR:
            # Before the others, which are written anew when it is sent again.
            tags = b"\r\n%s: %d%s" % (USER_HEADER.encode(), user, tags)
    return WireRequest(
        method=method,
        target=target,
        head=b"\r\n".join(lines) + tags + b"\r\n\r\n",
        body=body,
        headers=tuple(
            (name.decode("latin-1").lower(), value.decode("latin-1"))
            for name, value in headers
        ),
        hold=hold,
    )


def _with_length(
    headers: list[tuple[bytes, bytes]], body: bytes
) -> list[tuple[bytes, bytes]]:
    """Return the headers for a body sent whole, which httpx would send in chunks."""
    kept = [
        (name, value)
        for name, value in headers
        if name.lower() not in {b"transfer-encoding", b"content-length"}
    ]
    return [*kept, (b"content-length", b"%d" % len(body))]


class _Body(httpx.AsyncByteStream):
    """The answer's body as httpx reads it; reading to the end records the call."""

    def __init__(self, call: Call, exchange: Exchange, timeout_s: float) -> None:
        self._call = call
        self._exchange = exchange
        self._timeout_s = timeout_s

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._exchange.pieces(timeout_s=self._timeout_s):
                yield part
        except TimeoutError as exc:
            self._call.finish(exc)
            message = f"the answer did not go on within {self._timeout_s} s"
            raise httpx.ReadTimeout(message) from exc
        except WireError as exc:
            self._call.finish(exc)
            raise httpx.RemoteProtocolError(str(exc)) from exc
        except GeneratorExit:
            self._call.finish()
            raise
        except BaseException as exc:
            self._call.finish(exc)
            raise
        self._call.finish()

    async def aclose(self) -> None:
        self._call.finish()


class RecordingTransport(httpx.AsyncBaseTransport):
    """Sends httpx requests over the caller's route and records them.

    Args:
        recorder: Writes the operations.
        caller: Whose requests they are.
        host: The only host they may go to; None for any, which is that of the route.
    """

    def __init__(
        self, recorder: Recorder, caller: Caller, *, host: str | None = None
    ) -> None:
        self._recorder = recorder
        self._caller = caller
        self._host = host
        # Answers handed out and neither read nor closed so far.
        self._unread: set[Call] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request.

        Raises:
            httpx.ConnectError: The service does not accept connections.
            httpx.ReadTimeout: No answer within the timeout.
            httpx.RemoteProtocolError: The connection ended before the answer.
            httpx.UnsupportedProtocol: The request is for another host.
        """
        if self._host is not None and request.url.host != self._host:
            # Sent over the route it would reach the service under test instead.
            message = (
                f"user.http speaks to {self._host!r} only, not to "
                f"{request.url.host!r}. Use an httpx client of your own for others."
            )
            raise httpx.UnsupportedProtocol(message)
        timeout_s = request.extensions.get("timeout", {}).get("read") or TIMEOUT_S
        call = await self._prepare(request)
        try:
            exchange = await call.start()
            if not exchange.has_head:
                async with asyncio.timeout(timeout_s):
                    await exchange.head()
        except TargetError as exc:
            raise httpx.ConnectError(str(exc)) from exc
        except TimeoutError as exc:
            call.finish(exc)
            message = f"no answer within {timeout_s} s"
            raise httpx.ReadTimeout(message) from exc
        except WireError as exc:
            call.finish(exc)
            raise httpx.RemoteProtocolError(str(exc)) from exc
        except BaseException as exc:
            call.finish(exc)
            raise
        if exchange.is_complete:
            call.finish()
        else:
            self._forget_finished()
            self._unread.add(call)
        return httpx.Response(
            exchange.status,
            headers=exchange.headers,
            stream=_Body(call, exchange, timeout_s),
            extensions={"isolation_op": call.index},
        )

    async def aclose(self) -> None:
        """Record the calls whose answers nobody read to the end."""
        for call in self._unread:
            call.finish()
        self._unread.clear()

    async def _prepare(self, request: httpx.Request) -> Call:
        """Number and encode the request, which joins the burst of its caller."""
        gate = request.extensions.get("isolation_gate")
        if gate is None:
            # Taken before the first await: only one request joins the burst.
            gate, self._caller.gate = self._caller.gate, None
        try:
            body = await request.aread()
        except BaseException:
            if gate is not None:
                gate.excuse()
            raise
        headers = request.headers.raw
        if "transfer-encoding" in request.headers:
            headers = _with_length(headers, body)
        index = self._recorder.number()
        wire_request = encode_request(
            self._recorder,
            index=index,
            method=request.method,
            target=request.url.raw_path.decode("latin-1"),
            headers=headers,
            body=body,
            hold=gate is not None,
            gate=gate,
            user=self._caller.user,
        )
        return Call(
            self._recorder,
            self._caller,
            wire_request,
            index,
            gate=gate,
            once=request.extensions.get("isolation_once"),
        )

    def _forget_finished(self) -> None:
        self._unread = {call for call in self._unread if call.operation is None}
