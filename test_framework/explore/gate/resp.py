"""Answers of Redis and its kin: one reply for each command, counted.

Source: https://redis.io/docs/latest/develop/reference/protocol-spec/ (RESP2 and RESP3).
"""

import re
import textwrap

_COMMAND = re.compile(rb"\*\d+\r\n\$\d+\r\n([^\r]+)\r\n")
_WITH_ARGUMENT = re.compile(_COMMAND.pattern + rb"(?:\$\d+\r\n([^\r]*)\r\n)?")
_FIRST_WORD = re.compile(rb"[*>]\d+\r\n\$\d+\r\n([^\r]+)\r\n")
_SUBSCRIBES = {"SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"}
_CONFIRMATIONS = {
    b"subscribe",
    b"psubscribe",
    b"ssubscribe",
    b"unsubscribe",
    b"punsubscribe",
    b"sunsubscribe",
}
_MESSAGES = {b"message", b"pmessage", b"smessage"}
_BEGINS = {"MULTI", "WATCH"}
_ENDS = {"EXEC", "DISCARD", "RESET"}
_SECRET = {"AUTH", "HELLO"}
_WIDTH = 60
"""Characters of what one request asks for, in a story."""


def speaks_resp(data: bytes) -> bool:
    """Tell whether the first bytes sent are a command of Redis."""
    return _COMMAND.match(data) is not None


class RespAnswers:
    """Counts commands and replies."""

    kind = "redis"
    has_end = True
    session: int | None = None

    def __init__(self) -> None:
        self.may_push = False
        self.unfinished = ""
        self._due = 0
        self._out = bytearray()
        self._in = bytearray()

    @property
    def is_due(self) -> bool:
        """Whether a command has no reply yet."""
        return self._due > 0

    def label(self, data: bytes) -> str:
        """Return the name of the command, or of the first of several."""
        match = _COMMAND.match(data)
        word = match[1].decode("ascii", "replace").upper() if match else "command"
        return f"redis {word}"

    def describe(self, data: bytes) -> str:
        """Return the commands, each with its key: ``GET visits``."""
        words, start, out = [], 0, bytearray(data)
        while (end := _end_of(out, start)) > 0:
            match = _WITH_ARGUMENT.match(out, start)
            if match is not None:
                name = match[1].decode("ascii", "replace").upper()
                argument = (
                    ""
                    if name in _SECRET
                    else (match[2] or b"").decode("utf-8", "replace")
                )
                words.append(f"{name} {argument}".strip())
            start = end
        return textwrap.shorten(
            ", ".join(words) or "command", _WIDTH, placeholder=" ..."
        )

    def sent(self, data: bytes) -> None:
        """Expect one reply for each command, one for each channel subscribed to."""
        self._out += data
        start = 0
        while (end := _end_of(self._out, start)) > 0:
            self._due += self._replies_to(bytes(self._out[start:end]))
            start = end
        del self._out[:start]

    def _replies_to(self, command: bytes) -> int:
        match = _COMMAND.match(command)
        word = match[1].decode("ascii", "replace").upper() if match else ""
        if word in _BEGINS:
            self.unfinished = word
        elif word in _ENDS or (word, self.unfinished) == ("UNWATCH", "WATCH"):
            self.unfinished = ""
        if word == "MONITOR":
            self.may_push = True
        if word in _SUBSCRIBES:
            self.may_push = True
            return int(command[1 : command.index(b"\r")]) - 1
        return 1

    def received(self, data: bytes) -> None:
        """Count replies; a message of a channel is none."""
        self._in += data
        start = 0
        while (end := _end_of(self._in, start)) > 0:
            self._due -= not self._is_push(start)
            start = end
        del self._in[:start]
        self._due = max(self._due, 0)

    def _is_push(self, start: int) -> bool:
        kind = self._in[start : start + 1]
        match = _FIRST_WORD.match(self._in, start)
        word = bytes(match[1]) if match else b""
        if kind == b">":
            return word not in _CONFIRMATIONS
        return self.may_push and kind == b"*" and word in _MESSAGES

    def give_up(self) -> None:
        """Expect nothing more."""
        self._due = 0


def _end_of(data: bytearray, start: int) -> int:
    """Return where the value that begins at ``start`` ends; 0 when it is incomplete."""
    pending, at = 1, start
    while pending:
        line_end = data.find(b"\r\n", at)
        if line_end < 0:
            return 0
        kind, word = bytes(data[at : at + 1]), data[at + 1 : line_end]
        at = line_end + 2
        pending -= 1
        if kind in {b"$", b"=", b"!"}:
            length = int(word)
            at += length + 2 if length >= 0 else 0
        elif kind in {b"*", b"~", b">"}:
            pending += max(int(word), 0)
        elif kind == b"%":
            pending += 2 * int(word)
        elif kind == b"|":
            # Attributes come before the value that they describe.
            pending += 2 * int(word) + 1
        if at > len(data):
            return 0
    return at
