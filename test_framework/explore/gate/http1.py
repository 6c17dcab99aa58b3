"""Answers of HTTP/1.1 and of WebSocket, which begins as HTTP.

A response ends where its length, its chunks or its connection ends. A WebSocket has no
requests: a message counts as answered by the next one that comes, and silence ends the
wait where none does.

Sources: RFC 9112 (HTTP/1.1), RFC 6455 (WebSocket).
"""

import re
from collections import deque

_REQUEST = re.compile(rb"([A-Z]+) \S+ HTTP/1\.[01]\r\n")
_TARGET = re.compile(rb"[A-Z]+ [!-~]+?(?=[?# ])")
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
_NO_BODY = {204, 304}
_SWITCHING, _OK = 101, 200


def speaks_http(data: bytes) -> bool:
    """Tell whether the first bytes sent are a request of HTTP/1.1."""
    return _REQUEST.match(data) is not None


class HttpAnswers:
    """Reads lengths of requests and responses, then frames when they switch."""

    kind = "http"
    session: int | None = None
    unfinished = ""

    def __init__(self) -> None:
        self.has_end = True
        self._streams = False
        self._requests: deque[str] = deque()
        self._out = _Messages()
        self._in = _Messages()
        self._until_eof = False
        self._frames: _Frames | None = None

    @property
    def is_due(self) -> bool:
        """Whether a response, a message or the end of the connection is to come."""
        if self._frames is not None:
            return self._frames.is_due
        has_asked = bool(self._requests) and not self._out.is_in_body
        return has_asked or self._until_eof

    @property
    def may_push(self) -> bool:
        """Whether something may come unasked: a message, an event, ``100 Continue``."""
        return self._streams or self._frames is not None or self._out.is_in_body

    def label(self, data: bytes) -> str:
        """Return the method; of a WebSocket, what kind of frame."""
        if self._frames is not None:
            return f"websocket {self._frames.name(data)}"
        match = _REQUEST.match(data)
        return f"http {match[1].decode() if match else 'body'}"

    def describe(self, data: bytes) -> str:
        """Return method and path, without the query; of a frame, its kind."""
        if self._frames is not None:
            return self.label(data)
        match = _TARGET.match(data)
        return match[0].decode() if match else "body"

    def sent(self, data: bytes) -> None:
        """Expect a response to each complete request."""
        if self._frames is not None:
            self._frames.sent(data)
            return
        self._out.feed(data)
        while (head := self._out.next_head()) is not None:
            method = head.split(b" ", 1)[0].decode()
            self._out.expect_body(head, has_none_by_default=True)
            self._requests.append(method)
        if self._out.is_in_body:
            self._out.skip_body()

    def received(self, data: bytes) -> None:
        """Strike off complete responses."""
        if self._frames is not None:
            self._frames.received(data)
            return
        self._in.feed(data)
        while True:
            if self._in.is_in_body:
                if not self._in.skip_body():
                    return
                self._finish()
            head = self._in.next_head()
            if head is None:
                return
            frames = self._read_head(head)
            if frames is not None:
                self._frames = frames
                frames.received(self._in.take_rest())
                return

    def _read_head(self, head: bytes) -> "_Frames | None":
        """Note what a head promises; return what follows it if that is a WebSocket."""
        match = _STATUS.match(head)
        status = int(match[1]) if match else _OK
        if status == _SWITCHING:
            self._requests.clear()
            return _Frames()
        if status < _OK:
            return None
        method = self._requests[0] if self._requests else "GET"
        self._until_eof |= b"\r\nconnection: close" in head.lower()
        if b"text/event-stream" in head.lower():
            self.has_end, self._streams = False, True
        if method == "HEAD" or status in _NO_BODY:
            self._finish()
        else:
            self._in.expect_body(head, has_none_by_default=False)
        return None

    def _finish(self) -> None:
        if self._requests:
            self._requests.popleft()

    def give_up(self) -> None:
        """Expect nothing more."""
        self._requests.clear()
        self._until_eof = False
        if self._frames is not None:
            self._frames.give_up()


class _Messages:
    """Cuts one direction of a connection into heads and bodies."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._length: int | None = 0
        self._is_chunked = False
        self.is_in_body = False

    def feed(self, data: bytes) -> None:
        self._data += data

    def take_rest(self) -> bytes:
        rest = bytes(self._data)
        self._data.clear()
        return rest

    def next_head(self) -> bytes | None:
        """Return the next head; None while it, or the body before it, is incomplete."""
        if self.is_in_body and not self.skip_body():
            return None
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = bytes(self._data[: end + 2])
        del self._data[: end + 4]
        return head

    def expect_body(self, head: bytes, *, has_none_by_default: bool) -> None:
        """Note how long the body of ``head`` is."""
        headers = head.lower()
        self.is_in_body = True
        self._is_chunked = b"\r\ntransfer-encoding: chunked" in headers
        match = re.search(rb"\r\ncontent-length:\s*(\d+)", headers)
        if match:
            self._length = int(match[1])
        else:
            # A response without a length ends with its connection.
            self._length = 0 if has_none_by_default else None

    def skip_body(self) -> bool:
        """Skip what has come of the body; tell whether that was all."""
        if self._is_chunked:
            return self._skip_chunks()
        if self._length is None:
            self._data.clear()
            return False
        taken = min(self._length, len(self._data))
        del self._data[:taken]
        self._length -= taken
        self.is_in_body = self._length > 0
        return not self.is_in_body

    def _skip_chunks(self) -> bool:
        while (line_end := self._data.find(b"\r\n")) >= 0:
            size = int(self._data[:line_end].partition(b";")[0], 16)
            end = line_end + 2 + size + 2
            if len(self._data) < end:
                return False
            del self._data[:end]
            if size == 0:
                self.is_in_body = False
                return True
        return False


_TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x1, 0x2, 0x8, 0x9, 0xA
_NAMES = {0: "more", _TEXT: "text", _BINARY: "binary", _CLOSE: "close", _PING: "ping"}


class _Frames:
    """Counts messages, pings and the closing handshake."""

    def __init__(self) -> None:
        self._due = {_TEXT: 0, _PING: 0}
        self._is_closing = False
        self._out = bytearray()
        self._in = bytearray()

    @property
    def is_due(self) -> bool:
        return self._is_closing or any(self._due.values())

    def name(self, data: bytes) -> str:
        return _NAMES.get(data[0] & 0x0F, "pong")

    def sent(self, data: bytes) -> None:
        for opcode, is_last in _cut(self._out, data):
            if opcode == _CLOSE:
                self._is_closing = True
            elif opcode == _PING:
                self._due[_PING] += 1
            elif opcode != _PONG and is_last:
                self._due[_TEXT] += 1

    def received(self, data: bytes) -> None:
        for opcode, is_last in _cut(self._in, data):
            if opcode == _PONG:
                self._due[_PING] = max(0, self._due[_PING] - 1)
            elif opcode not in {_CLOSE, _PING} and is_last:
                self._due[_TEXT] = max(0, self._due[_TEXT] - 1)

    def give_up(self) -> None:
        self._due = {_TEXT: 0, _PING: 0}
        self._is_closing = False


def _cut(buffer: bytearray, data: bytes) -> list[tuple[int, bool]]:
    """Return opcode and FIN of each complete frame, and take them from the buffer."""
    buffer += data
    frames = []
    while len(buffer) >= 2:
        length, header = buffer[1] & 0x7F, 2
        if length == 126:
            length, header = int.from_bytes(buffer[2:4]), 4
        elif length == 127:
            length, header = int.from_bytes(buffer[2:10]), 10
        header += 4 * (buffer[1] >> 7)
        if len(buffer) < header + length:
            break
        frames.append((buffer[0] & 0x0F, bool(buffer[0] & 0x80)))
        del buffer[: header + length]
    return frames
