"""The WebSocket client of a user: each frame received is an operation.

The protocol is ``websockets``; what is added is the record of every frame, the
service's own event number where it gives one, and waiting for a certain event.
Frames that came and that nobody read are recorded when the socket is closed, so a
foreign canary in one of them is seen; they carry no number, since a user who
resumes after the last event it *read* is owed them again.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from test_framework.clients.http import OPERATION_HEADER, USER_HEADER
from test_framework.clients.recorder import HEADERS, Part
from test_framework.core import Operation, Seen, TargetError

if TYPE_CHECKING:
    import ssl

    from websockets.http11 import Response

    from test_framework.clients.recorder import Recorder
    from test_framework.core import Outcome

OPEN_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 2.0
SILENCES = 6
"""After so many times the longest silence nobody waits, whatever else comes."""
_USUAL_CLOSE = frozenset({1000, 1001, 1005, 1006})
"""Closed in good order, or by a lost connection, which has no code of its own."""


class EventTimeoutError(TimeoutError):
    """Raised when an awaited event did not come: the service owes it to the user."""


class Events:
    """The events of one WebSocket, decoded from JSON where they are JSON."""

    def __init__(  # what identifies one socket
        self,
        connection: ClientConnection,
        recorder: "Recorder",
        *,
        user: int,
        path: str,
        sequence_field: str | None,
        type_field: str,
        socket: int,
    ) -> None:
        self._connection = connection
        self._recorder = recorder
        self._user = user
        self._path = path
        self._endpoint = f"EVENT {path}"
        self._sequence_field = sequence_field
        self._type_field = type_field
        self.socket = socket

    async def receive(self) -> Any:  # noqa: ANN401  # whatever JSON the service sends
        """Return the next event.

        Raises:
            websockets.ConnectionClosed: The service closed the socket.
        """
        frame = await self._connection.recv(decode=False)
        return self._record(bytes(frame))

    async def __aiter__(self) -> AsyncIterator[Any]:
        """Yield events until the service closes the socket."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                yield await self.receive()

    async def until(
        self, is_wanted: Callable[[Any], bool], *, timeout_s: float = OPEN_TIMEOUT_S
    ) -> list[Any]:
        """Return the events up to and including the first wanted one.

        Args:
            is_wanted: Called with each event.
            timeout_s: How long the socket may be silent (s). A service that is busy
                tells events late and loses none, so whatever comes prolongs the wait,
                to ``SILENCES`` times this at most.

        Raises:
            EventTimeoutError: It did not come, or the socket was closed before it came.
        """
        events: list[Any] = []
        begun_at = asyncio.get_running_loop().time()
        latest = begun_at + SILENCES * timeout_s
        try:
            async with asyncio.timeout(timeout_s) as silence:
                while not events or not is_wanted(events[-1]):
                    events.append(await self.receive())
                    if not silence.expired():
                        now = asyncio.get_running_loop().time()
                        silence.reschedule(min(now + timeout_s, latest))
        except TimeoutError as exc:
            waited_s = asyncio.get_running_loop().time() - begun_at
            message = (
                f"the awaited event did not come within {waited_s:.1f} s; "
                f"{len(events)} other events came on {self._endpoint}"
            )
            raise EventTimeoutError(message) from exc
        except ConnectionClosed as exc:
            message = (
                f"the socket of {self._endpoint} was closed "
                f"({exc.rcvd.code if exc.rcvd else 'no close frame'}) before the "
                f"awaited event; {len(events)} other events came"
            )
            raise EventTimeoutError(message) from exc
        return events

    async def send(self, event: object) -> None:
        """Send a JSON event.

        Raises:
            websockets.ConnectionClosed: The socket is closed.
        """
        frame = json.dumps(event)
        started_ns = self._recorder.clock.now_ns()
        await self._connection.send(frame)
        planted = self._recorder.ids(frame.encode())
        if planted:
            # The witness of a leak is the operation that planted the canary.
            self._add(f"SEND {self._path}", started_ns, planted=planted, sent=frame)

    async def close(self) -> None:
        """Close the socket and record what came and was not read."""
        try:
            await self._connection.close()
        finally:
            await self._record_rest()

    async def _record_rest(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                frame = await self._connection.recv(decode=False)
                self._recorder.event(
                    user=self._user,
                    channel="websocket",
                    endpoint=self._endpoint,
                    data=bytes(frame),
                    socket=self.socket,
                    sequence=None,
                    event=None,
                )
        code = self._connection.close_code
        reason = (self._connection.close_reason or "").encode()
        seen = self._recorder.seen((Part("close reason", reason),))
        if seen or code not in _USUAL_CLOSE:
            now_ns = self._recorder.clock.now_ns()
            self._add(f"CLOSE {self._path}", now_ns, status=code, seen=seen)

    def _add(  # one argument per fact of the frame
        self,
        endpoint: str,
        started_ns: int,
        *,
        status: int | None = None,
        planted: tuple[str, ...] = (),
        seen: tuple[Seen, ...] = (),
        sent: str = "",
    ) -> None:
        self._recorder.add(
            Operation(
                index=self._recorder.number(),
                user=self._user,
                channel="websocket",
                endpoint=endpoint,
                path=self._path,
                shape=self._recorder.shape,
                invoked_ns=started_ns,
                first_byte_ns=None,
                completed_ns=self._recorder.clock.now_ns(),
                outcome="ok",
                status=status,
                sent_bytes=len(sent),
                planted=planted,
                seen=seen,
                socket=self.socket,
            )
        )

    async def drain(self, *, quiet_s: float) -> list[Any]:
        """Return what still comes until nothing came for ``quiet_s`` seconds."""
        events: list[Any] = []
        with contextlib.suppress(TimeoutError, ConnectionClosed):
            while True:
                async with asyncio.timeout(quiet_s):
                    events.append(await self.receive())
        return events

    def cut(self) -> None:
        """Drop the connection without a closing handshake."""
        self._connection.transport.abort()

    def _record(self, frame: bytes) -> Any:  # noqa: ANN401  # whatever JSON the service sends
        try:
            event = json.loads(frame)
        except ValueError:
            event = frame
        sequence: int | None = None
        kind: str | None = None
        if isinstance(event, dict):
            if self._sequence_field is not None:
                number = event.get(self._sequence_field)
                is_number = isinstance(number, int) and not isinstance(number, bool)
                sequence = number if is_number else None
            kind = str(event[self._type_field]) if self._type_field in event else None
        self._recorder.event(
            user=self._user,
            channel="websocket",
            endpoint=self._endpoint,
            data=frame,
            socket=self.socket,
            sequence=sequence,
            event=kind,
        )
        return event


@contextlib.asynccontextmanager
async def open_events(  # what identifies one socket
    recorder: "Recorder",
    *,
    user: int,
    url: str,
    path: str,
    headers: dict[str, str],
    tls: "ssl.SSLContext | None",
    sequence_field: str | None,
    type_field: str,
    resumes_after: int | None = None,
) -> AsyncIterator[Events]:
    """Open a WebSocket for a user and close it at the end.

    Args:
        recorder: Writes the operations.
        user: Number of the user.
        url: Where to.
        path: Its path, for the record.
        headers: Of the handshake.
        tls: How to speak TLS; None for no TLS.
        sequence_field: Field that numbers events; None for none.
        type_field: Field that names the type of an event.
        resumes_after: Number of the event after which the first one is owed; None
            when it does not say.

    Raises:
        TargetError: The handshake was refused or nobody listens.
    """
    index = recorder.number()
    socket = recorder.socket_number()
    started_ns = recorder.clock.now_ns()
    if recorder.is_tagging:
        headers = {**headers, OPERATION_HEADER: str(index), USER_HEADER: str(user)}
    response: Response | None = None
    outcome: Outcome = "info"
    error: str | None = "cancelled"
    try:
        connection = await connect(
            url,
            additional_headers=headers,
            compression=None,
            open_timeout=OPEN_TIMEOUT_S,
            close_timeout=CLOSE_TIMEOUT_S,
            ssl=tls,
            max_size=2**24,
            # A proxy between would be somebody else's, as in user.http.
            proxy=None,
            # A slow reader must not hold back the close of its own socket.
            max_queue=None,
        )
        response, outcome, error = connection.response, "ok", None
    except InvalidHandshake as exc:
        response, error = getattr(exc, "response", None), "handshake"
        if response is not None and 400 <= response.status_code < 500:
            outcome = "fail"  # an answer: it did not happen
        message = f"The WebSocket {path} was refused ({exc})."
        raise TargetError(message) from exc
    except (OSError, TimeoutError, InvalidURI) as exc:
        error = "timeout" if isinstance(exc, TimeoutError) else "refused"
        message = (
            f"The WebSocket {path} could not be opened ({str(exc) or 'no answer'})."
        )
        raise TargetError(message) from exc
    finally:
        recorder.add(
            Operation(
                index=index,
                user=user,
                channel="websocket",
                endpoint=f"CONNECT {path}",
                path=path,
                shape=recorder.shape,
                invoked_ns=started_ns,
                first_byte_ns=None,
                completed_ns=recorder.clock.now_ns(),
                outcome=outcome,
                status=response.status_code if response is not None else None,
                error=error,
                sent_bytes=len(url),
                planted=recorder.ids(f"{url} {headers}".encode()),
                seen=recorder.seen(_parts(response)) if response is not None else (),
                socket=socket,
                sequence=resumes_after if outcome == "ok" else None,
            )
        )
    events = Events(
        connection,
        recorder,
        user=user,
        path=path,
        sequence_field=sequence_field,
        type_field=type_field,
        socket=socket,
    )
    try:
        yield events
    finally:
        await events.close()


def _parts(response: "Response") -> list[Part]:
    head = "\r\n".join(
        f"{name}: {value}" for name, value in response.headers.raw_items()
    )
    return [
        Part("body", bytes(response.body or b"")),
        Part(HEADERS, head.encode("utf-8", "surrogateescape")),
    ]
