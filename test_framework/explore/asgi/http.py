"""HTTP requests: one exchange with the app, and the reply as its user sees it."""

import json
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from typing import Any

from test_framework.explore.asgi.connection import (
    Connection,
    ProtocolError,
    Server,
    travel,
)
from test_framework.explore.asgi.messages import Headers, Message, RawHeaders, Scope

# No spelling of a canary is longer but compression, for which the whole is looked at
# when the stream ends.
_OVERLAP_BYTES = 512


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply.

    Attributes:
        status: Status code.
        headers: By name in any case.
        body: All bytes; canaries of others were looked for.
    """

    status: int
    headers: Headers
    body: bytes

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode()

    def json(self) -> Any:
        """Return the body, read as JSON.

        Raises:
            ValueError: It is none.
        """
        return json.loads(self.body)


class Exchange(Connection):
    """One request and what the app answers.

    Args:
        service: Who serves.
        user: Number of the user who asks.
        label: Names the task of the app, such as ``GET /notes``.
        scope: What the app is called with.
        is_streamed: Whether the user wants the parts as they come.

    Attributes:
        status: Of the reply; 0 before it began.
        headers: Of the reply.
        parts: Parts of the body that the user has not taken yet.
        is_complete: Whether the app sent the last part.
    """

    def __init__(
        self,
        service: Server,
        user: int,
        label: str,
        scope: Scope,
        *,
        is_streamed: bool = False,
    ) -> None:
        super().__init__(service, user, label, scope)
        self.status = 0
        self.headers: RawHeaders = []
        self.parts: deque[bytes] = deque()
        self.is_complete = False
        self._is_streamed = is_streamed
        self._announced: int | None = None
        self._sent = 0

    async def receive(self) -> Message:
        """Give the app the next part of the request, or the disconnection."""
        if self.is_over:
            # Also before a part that nobody read, as uvicorn does.
            return self.farewell()
        return await super().receive()

    def farewell(self) -> Message:
        """Return that the client is gone; so it is also after the reply."""
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take the start or a part of the reply.

        Raises:
            ProtocolError: It is not the turn of this message.
        """
        kind = message["type"]
        if self.has_left:
            # As in uvicorn: what is sent to nobody is dropped.
            return
        if self.is_complete:
            raise ProtocolError(f"The app sent {kind!r} after its reply was complete.")
        if not self.status:
            if kind != "http.response.start":
                raise ProtocolError(
                    f"The app sent {kind!r} first; expected 'http.response.start'."
                )
            self.status = message["status"]
            self.headers = [
                (bytes(name), bytes(value))
                for name, value in message.get("headers", ())
            ]
            for name, value in self.headers:
                if name.lower() == b"content-length":
                    self._announced = int(value)
            if self._is_streamed:
                self.notify()
            return
        if kind != "http.response.body":
            raise ProtocolError(
                f"The app sent {kind!r} within a reply; expected 'http.response.body'."
            )
        part = message.get("body", b"")
        is_last = not message.get("more_body", False)
        if part and self.scope["method"] != "HEAD":
            self.parts.append(bytes(part))
            self._sent += len(part)
        self._require_length(is_last=is_last)
        if is_last:
            self.is_complete = True
            self.end()
        if is_last or self._is_streamed:
            self.notify()

    def _require_length(self, *, is_last: bool) -> None:
        """Refuse a body that is not as long as its header says, as uvicorn does.

        So two replies are told that were mixed into one.
        """
        if self._announced is None or self.scope["method"] == "HEAD":
            return
        if self._sent > self._announced or (is_last and self._sent < self._announced):
            raise ProtocolError(
                f"The app sent {self._sent} bytes in answer to {self.label}; expected "
                f"{self._announced}, which its Content-Length says."
            )

    def answer_failure(self) -> bool:
        """Answer 500 unless the reply has begun."""
        if self.status:
            return False
        self.status = 500
        self.headers = [(b"content-type", b"text/plain; charset=utf-8")]
        self.parts.append(b"Internal Server Error")
        self.is_complete = True
        return True

    async def upload(self, content: bytes | AsyncIterable[bytes]) -> None:
        """Send the content of the request; each part of a stream takes its time."""
        if isinstance(content, bytes):
            self.push({"type": "http.request", "body": content, "more_body": False})
            return
        async for part in content:
            if self.is_over:
                return
            self.push({"type": "http.request", "body": part, "more_body": True})
            await travel(f"more of {self.label}")
        self.push({"type": "http.request", "body": b"", "more_body": False})

    async def reply(self) -> Reply:
        """Wait for the whole reply."""
        while not self.is_complete:
            self.raise_error()
            await self.wait()
        # Starlette answers 500 and then raises.
        self.raise_error()
        body = b"".join(self.parts)
        self.require_own_headers(self.headers)
        self.require_own(body, "body")
        return Reply(self.status, Headers(self.headers), body)


class Stream:
    """A reply that is read while it comes; iterate over its parts.

    Args:
        exchange: Where it comes from; the reply has begun.

    Attributes:
        status: Status code.
        headers: By name in any case.
    """

    def __init__(self, exchange: Exchange) -> None:
        exchange.require_own_headers(exchange.headers)
        self._exchange = exchange
        self._body = bytearray()
        self.status = exchange.status
        self.headers = Headers(exchange.headers)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        exchange = self._exchange
        while True:
            while exchange.parts:
                part = exchange.parts.popleft()
                seen = max(0, len(self._body) - _OVERLAP_BYTES)
                self._body += part
                self._require_own(seen)
                yield part
            exchange.raise_error()
            if exchange.is_complete:
                return
            await exchange.wait()

    async def read(self) -> bytes:
        """Return the rest of the body when all of it has come."""
        return b"".join([part async for part in self])

    def close(self) -> None:
        """Look once more at all that came: it may be compressed as a whole."""
        self._body += b"".join(self._exchange.parts)
        self._require_own(0)

    def _require_own(self, start: int) -> None:
        part = f"stream from byte {start}" if start else "stream"
        self._exchange.require_own(bytes(self._body[start:]), part)
