"""The server's side of one request or WebSocket: what uvicorn does around an app.

An app sees what it would see behind uvicorn: ``receive`` says ``http.disconnect`` once
the reply is complete or the client has left, and what is sent to a client that has
left is dropped (HTTP) or refused with ``OSError`` (WebSocket). Nothing here suspends
where uvicorn does not, for sending to a client that reads.

What a client sends arrives as events of the scheduler, in the order in which it was
sent. Backpressure of a slow client is not modelled.
"""

import asyncio
import collections
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
App = Callable[
    [Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[object],
]

NORMAL_CLOSURE = 1000
NO_STATUS = 1005
ABNORMAL_CLOSURE = 1006
_FORBIDDEN = 403


class ClientLeftError(asyncio.CancelledError):
    """Raised in a user whose connection a fault has cut: its script ends there.

    A cancellation, because it is nobody's defect.
    """


class BrokenReplyError(ConnectionError):
    """Raised in a user whose request ended without a complete reply."""


def outside(loop: asyncio.AbstractEventLoop, label: str) -> asyncio.Future[None]:
    """Return a future that is done when an event of the world outside happens.

    Under the explorer the scheduler decides when; elsewhere it happens at once.
    """
    event: Callable[[str], asyncio.Future[None]] | None = getattr(
        loop, "external_event", None
    )
    if event is not None:
        return event(label)
    future: asyncio.Future[None] = loop.create_future()
    future.set_result(None)
    return future


class Wire:
    """What a client sends on one connection; it arrives in order, one event each.

    Args:
        loop: The running loop.
        label: What the events are called.
    """

    __slots__ = ("_items", "_label", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, label: str) -> None:
        self._loop = loop
        self._label = label
        self._items: collections.deque[Callable[[], object]] = collections.deque()

    def send(self, arrive: Callable[[], object]) -> None:
        """Send something; ``arrive`` is called when it gets there."""
        self._items.append(arrive)
        if len(self._items) == 1:
            self._wait()

    def _wait(self) -> None:
        outside(self._loop, self._label).add_done_callback(self._arrive)

    def _arrive(self, _: object) -> None:
        self._items.popleft()()
        if self._items:
            self._wait()


class Exchange:
    """What a request and a WebSocket have in common.

    Args:
        loop: The running loop.
        scope: The ASGI scope.
        name: Name of its task, such as ``GET /notes/1``.

    Attributes:
        wire: How the client sends.
        task: The task in which the app runs; None until it arrived.
        error: What the app raised.
        has_left: The client is gone.
        is_complete: Nothing more will be sent.
        is_broken: The app ended too early.
        on_late_error: Gets the error of an app whose client no longer waits.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, scope: Scope, name: str
    ) -> None:
        self.scope = scope
        self.name = name
        self.wire = Wire(loop, name)
        self.task: asyncio.Task[None] | None = None
        self.error: Exception | None = None
        self.has_left = False
        self.is_complete = False
        self.is_broken = False
        self.is_taken = False
        self.on_late_error: Callable[[Exchange, Exception], object] | None = None
        self._loop = loop
        self._inbox: collections.deque[Message] = collections.deque()
        self._news = asyncio.Event()
        self._waiter: asyncio.Future[None] | None = None

    # -- the client's side -----------------------------------------------------------

    async def news(self) -> None:
        """Wait until the app has sent something or ended, as the client.

        Raises:
            ClientLeftError: A fault cut the connection meanwhile.
        """
        waiter = self._waiter = self._loop.create_future()
        await waiter

    def leave(self) -> None:
        """Go away, as the client; the app learns it when it asks."""
        if self.has_left or self.is_complete:
            return
        self.has_left = True
        self._news.set()
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_exception(ClientLeftError(f"the client of {self.name} left"))

    def arrives(self, message: Message) -> None:
        """Give the app a message."""
        self._inbox.append(message)
        self._news.set()

    def _wake_client(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # -- the app's side --------------------------------------------------------------

    async def receive(self) -> Message:
        """Return the next message, as the ``receive`` of ASGI."""
        while True:
            farewell = self._farewell()
            if farewell is not None:
                return farewell
            if self._inbox:
                return self._inbox.popleft()
            self._news.clear()
            await self._news.wait()

    async def send(self, message: Message) -> None:
        """Take a message of the app, as the ``send`` of ASGI."""
        raise NotImplementedError

    def _farewell(self) -> Message | None:
        """Return what ``receive`` says from now on; None while there is more."""
        raise NotImplementedError

    async def serve(self, app: App) -> None:
        """Run the app; the coroutine of the task of this exchange."""
        try:
            await app(self.scope, self.receive, self.send)
        except asyncio.CancelledError:
            self._cancelled()
            raise
        except Exception as exc:  # noqa: BLE001  # it goes to the client, as with uvicorn
            self._failed(exc)
        finally:
            if not self.is_complete and not self.has_left:
                self.is_broken = True
            self._wake_client()
            disconnects = getattr(self._loop, "disconnects", None)
            if disconnects is not None:
                disconnects.pop(self.task, None)

    def _cancelled(self) -> None:
        # hypercorn cancels the request of a client that left, and that is the fault
        # "cancel". Without a fault the app has cancelled somebody's request.
        struck = getattr(self._loop, "cancelled", None)
        if struck is None or self.task in struck:
            self.leave()

    def _failed(self, error: Exception) -> None:
        self.error = error
        if (self.is_taken or self.has_left) and self.on_late_error is not None:
            self.on_late_error(self, error)


class HttpExchange(Exchange):
    """One request and its reply.

    Args:
        streams: Whether the client reads the reply piece by piece.

    Attributes:
        status: Status of the reply, 0 before it starts.
        headers: Headers of the reply.
        chunks: Body of the reply so far.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        scope: Scope,
        name: str,
        *,
        streams: bool = False,
    ) -> None:
        super().__init__(loop, scope, name)
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.chunks: list[bytes] = []
        self._streams = streams
        self._is_head = scope["method"] == "HEAD"

    async def send(self, message: Message) -> None:
        """Take a part of the reply.

        Raises:
            RuntimeError: It is out of order.
        """
        if self.has_left:
            return
        kind = message["type"]
        if not self.status:
            if kind != "http.response.start":
                raise RuntimeError(
                    f"Expected ASGI message 'http.response.start', but got {kind!r}."
                )
            self.status = message["status"]
            self.headers = list(message.get("headers", ()))
        elif self.is_complete or kind != "http.response.body":
            wanted = "nothing" if self.is_complete else "'http.response.body'"
            raise RuntimeError(f"Expected ASGI message {wanted}, but got {kind!r}.")
        else:
            body = message.get("body", b"")
            if body and not self._is_head:
                self.chunks.append(bytes(body))
            if not message.get("more_body", False):
                self.is_complete = True
                self._news.set()
        if self._streams or self.is_complete:
            self._wake_client()

    def _farewell(self) -> Message | None:
        if self.has_left or self.is_complete:
            return {"type": "http.disconnect"}
        return None


class SocketExchange(Exchange):
    """One WebSocket.

    Attributes:
        is_accepted: The app has accepted it.
        subprotocol: What it was accepted with.
        sent: What the app has sent and the client has not received.
        code: Close code, None while it is open.
        reason: Reason of the close.
        status: Status of the reply to a handshake that was refused.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, scope: Scope, name: str
    ) -> None:
        super().__init__(loop, scope, name)
        self.is_accepted = False
        self.subprotocol: str | None = None
        self.sent: collections.deque[str | bytes] = collections.deque()
        self.code: int | None = None
        self.reason = ""
        self.status = _FORBIDDEN
        self._inbox.append({"type": "websocket.connect"})

    def leave(self) -> None:
        """Break the connection off without a close frame."""
        if self.code is None:
            self.code = ABNORMAL_CLOSURE
            super().leave()

    def close(self, code: int, reason: str) -> None:
        """Close the connection, as the client; what it sent before was read first."""
        if self.code is None:
            self.code, self.reason = code, reason
            self.has_left = True
            self._news.set()

    async def send(self, message: Message) -> None:
        """Take a message of the app.

        Raises:
            OSError: The client is gone.
            RuntimeError: It is out of order.
        """
        if self.has_left:
            raise OSError(f"the client of {self.name} is gone")
        match self.is_complete, self.is_accepted, message["type"]:
            case False, False, "websocket.accept":
                self.is_accepted = True
                self.subprotocol = message.get("subprotocol")
            case False, False, "websocket.http.response.start":
                self.status = message["status"]
            case False, False, "websocket.http.response.body":
                if not message.get("more_body", False):
                    self._end(ABNORMAL_CLOSURE, "")
            case False, False, "websocket.close":
                self._end(ABNORMAL_CLOSURE, "")
            case False, True, "websocket.send":
                data = message.get("bytes")
                self.sent.append(message["text"] if data is None else bytes(data))
            case False, True, "websocket.close":
                code = message.get("code", NORMAL_CLOSURE)
                self._end(code, message.get("reason") or "")
            case _, _, kind:
                raise RuntimeError(f"ASGI message {kind!r} is out of order here.")
        self._wake_client()

    def _end(self, code: int, reason: str) -> None:
        self.code, self.reason = code, reason
        self.is_complete = True
        self._news.set()

    def _farewell(self) -> Message | None:
        if self.code is None or (self._inbox and self.code != ABNORMAL_CLOSURE):
            return None
        code = NO_STATUS if self.is_complete else self.code
        return {"type": "websocket.disconnect", "code": code, "reason": self.reason}
