"""WebSockets: one connection with the app, and the socket as its user sees it."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import Any

from test_framework.explore.asgi.connection import (
    Connection,
    ProtocolError,
    Server,
    travel,
)
from test_framework.explore.asgi.messages import Headers, Message, RawHeaders, Scope

NORMAL = 1000
NO_CODE = 1005
ABNORMAL = 1006
INTERNAL = 1011


class WebSocketRejectedError(Exception):
    """Raised when the app does not accept a connection.

    Attributes:
        status: Status code of the refused handshake.
        body: What came with it.
    """

    def __init__(self, status: int, body: bytes = b"") -> None:
        super().__init__(f"The app rejected the WebSocket with status {status}.")
        self.status = status
        self.body = body


class WebSocketClosedError(Exception):
    """Raised when a user reads from or writes to a connection that was closed.

    Attributes:
        code: Close code of the app.
        reason: Its words.
    """

    def __init__(self, code: int, reason: str) -> None:
        words = f" ({reason})" if reason else ""
        super().__init__(f"The WebSocket is closed with code {code}{words}.")
        self.code = code
        self.reason = reason


class Session(Connection):
    """One WebSocket between a user and the app.

    Args:
        service: Who serves.
        user: Number of the user.
        label: Names the task of the app, such as ``WS /chat``.
        scope: What the app is called with.

    Attributes:
        is_accepted: Whether the app accepted it.
        subprotocol: Which one the app chose; None for none.
        headers: Of the handshake.
        outbox: Messages to the user that it has not taken yet.
        close_code: Of who closed it; None while it is open.
        close_reason: The words with it.
        rejection: Status and body of a refused handshake; None when it was not.
    """

    def __init__(self, service: Server, user: int, label: str, scope: Scope) -> None:
        super().__init__(service, user, label, scope)
        self.is_accepted = False
        self.subprotocol: str | None = None
        self.headers: RawHeaders = []
        self.outbox: deque[str | bytes] = deque()
        self.close_code: int | None = None
        self.close_reason = ""
        self.rejection: tuple[int, bytes] | None = None
        self._was_ended = False
        self._denial: tuple[int, bytes] | None = None
        self.push({"type": "websocket.connect"})

    @property
    def is_abandoned(self) -> bool:
        """Whether the client closed it or went away."""
        return self.has_left or (self.close_code is not None and not self._was_ended)

    def farewell(self) -> Message:
        """Return that the connection is gone, and with which code."""
        code = ABNORMAL if self.close_code is None else self.close_code
        return {
            "type": "websocket.disconnect",
            "code": code,
            "reason": self.close_reason,
        }

    def answer_failure(self) -> bool:
        """Reject with 500, or close with 1011."""
        self._was_ended = True
        if self.is_accepted:
            self.close_code = INTERNAL
        else:
            self.rejection = (500, b"Internal Server Error")
        return True

    def ends_by_return(self) -> bool:
        """Close with 1000, as uvicorn does, if the app had accepted."""
        if self.is_accepted:
            self._was_ended = True
            self._close(NORMAL, "")
            self.notify()
        return self.is_accepted

    async def send(self, message: Message) -> None:
        """Take a message of the app.

        Raises:
            ProtocolError: It is not the turn of this message.
            OSError: The client has gone; so the specification asks since 2.4, and
                uvicorn does it for WebSockets.
        """
        kind = message["type"]
        if self._was_ended:
            raise ProtocolError(
                f"The app sent {kind!r} after it had ended {self.label}."
            )
        if self.is_over:
            raise OSError(f"{self.label} of user[{self.user}] is closed")
        if self.is_accepted:
            self._take(kind, message)
        else:
            self._take_answer(kind, message)
        self.notify()

    def _take(self, kind: str, message: Message) -> None:
        match kind:
            case "websocket.send":
                text = message.get("text")
                self.outbox.append(bytes(message["bytes"]) if text is None else text)
            case "websocket.close":
                self._was_ended = True
                self._close(message.get("code", NORMAL), message.get("reason") or "")
            case _:
                raise ProtocolError(
                    f"The app sent {kind!r} on an open WebSocket; expected "
                    "'websocket.send' or 'websocket.close'."
                )

    def _take_answer(self, kind: str, message: Message) -> None:
        match kind:
            case "websocket.accept":
                self.is_accepted = True
                self.subprotocol = message.get("subprotocol")
                self.headers = list(message.get("headers", ()))
            case "websocket.close":
                # uvicorn: a handshake that is not accepted is forbidden.
                self._reject(403, b"")
            case "websocket.http.response.start":
                self._denial = (message["status"], b"")
            case "websocket.http.response.body" if self._denial is not None:
                status, body = self._denial
                self._denial = (status, body + message.get("body", b""))
                if not message.get("more_body", False):
                    self._reject(*self._denial)
            case _:
                raise ProtocolError(
                    f"The app sent {kind!r} to a WebSocket that waits for an answer; "
                    "expected 'websocket.accept' or 'websocket.close'."
                )

    def _reject(self, status: int, body: bytes) -> None:
        self._was_ended = True
        self.rejection = (status, body)
        self.close_code = ABNORMAL
        self.end()

    def _close(self, code: int, reason: str) -> None:
        self.close_code, self.close_reason = code, reason
        self.end()

    # -- the side of the client -------------------------------------------------------

    def close(self, code: int, reason: str) -> None:
        """Close it as the client does."""
        if not self.is_over:
            self._close(code, reason)


class WebSocket:
    """An open WebSocket of a user.

    Args:
        session: What it stands on; accepted.

    Attributes:
        subprotocol: Which one the app chose; None for none.
        headers: Of the handshake.
    """

    def __init__(self, session: Session) -> None:
        session.require_own_headers(session.headers)
        self._session = session
        self.subprotocol = session.subprotocol
        self.headers = Headers(session.headers)

    async def send(self, message: str | bytes) -> None:
        """Send text or bytes; when it arrives, the scheduler says.

        Raises:
            WebSocketClosedError: The connection was closed.
        """
        session = self._session
        await travel(f"message on {session.label}")
        if session.has_left:
            raise asyncio.CancelledError
        if session.is_over:
            session.raise_error()
            raise self._closed()
        key = "text" if isinstance(message, str) else "bytes"
        session.push({"type": "websocket.receive", key: message})

    async def send_json(self, value: object) -> None:
        """Send a value as JSON text; see :meth:`send`."""
        await self.send(json.dumps(value, separators=(",", ":")))

    async def receive(self) -> str | bytes:
        """Return the next message; canaries of others were looked for.

        Raises:
            WebSocketClosedError: The connection was closed and nothing is left to read.
            ForeignCanaryError: The message belongs to another.
        """
        session = self._session
        while not session.outbox:
            session.raise_error()
            if session.is_over and not session.has_left:
                raise self._closed()
            await session.wait()
        message = session.outbox.popleft()
        self._require_own((message,))
        return message

    async def receive_json(self) -> Any:
        """Return the next message, read as JSON; see :meth:`receive`."""
        return json.loads(await self.receive())

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        """Yield messages until the connection is closed."""
        while True:
            try:
                message = await self.receive()
            except WebSocketClosedError:
                return
            yield message

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Close the connection; the app learns of it."""
        self._session.close(code, reason)

    def look_at_rest(self) -> None:
        """Look for canaries of others in what was never read: it was given all the same."""
        self._require_own(self._session.outbox)
        self._session.require_own(self._session.close_reason.encode(), "close reason")

    def _require_own(self, messages: Iterable[str | bytes]) -> None:
        for message in messages:
            data = message.encode() if isinstance(message, str) else message
            self._session.require_own(data, "message")

    def _closed(self) -> WebSocketClosedError:
        session = self._session
        code = NO_CODE if session.close_code is None else session.close_code
        return WebSocketClosedError(code, session.close_reason)
