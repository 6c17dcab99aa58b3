"""Answers of Postgres: what each message of the client must be answered with.

A query ends with ReadyForQuery. Messages of the extended protocol are answered one by
one, as soon as a Flush or Sync asks for it; after an error the server skips everything
up to the next Sync.

Source: https://www.postgresql.org/docs/current/protocol-flow.html
"""

import re
from collections import deque
from collections.abc import Iterator

_CANCEL, _SSL, _GSS = 80877102, 80877103, 80877104
_VERSION_3 = 3
_AUTHENTICATED = {0, 12}  # AuthenticationOk, AuthenticationSASLFinal
_READY = b"Z"
# Messages of the client, and the types of which one must answer each.
_ANSWERED_BY = {b"P": b"1", b"B": b"2", b"C": b"3", b"E": b"CsI"}
# By what ReadyForQuery says; idle is nothing.
_TRANSACTIONS = {b"T": "transaction", b"E": "failed transaction"}
_WORD = re.compile(rb"\s*(\w+)")
_TABLE = re.compile(
    rb"\b(?:from|into|update|table)\s+(?:if\s+(?:not\s+)?exists\s+)?\"?([\w.]+)",
    re.IGNORECASE,
)
_LISTEN = re.compile(rb"\s*listen\b", re.IGNORECASE)


def speaks_postgres(data: bytes) -> bool:
    """Tell whether the first bytes sent open a session of Postgres."""
    if len(data) < 8 or int.from_bytes(data[:4]) > 10_000:
        return False
    code = int.from_bytes(data[4:8])
    return code in {_CANCEL, _SSL, _GSS} or code >> 16 == _VERSION_3


class PostgresAnswers:
    """Counts what the server owes."""

    kind = "postgres"

    def __init__(self) -> None:
        self.has_end = True
        self.may_push = False
        self.session: int | None = None
        self.unfinished = ""
        self._is_starting = True
        self._awaits_choice = False
        self._until_eof = False
        # It is the client's turn: a password, the rows of a COPY.
        self._awaits_client = False
        self._is_skipping = False
        self._queued: list[bytes] = []
        self._due: deque[bytes] = deque()
        self._statements: dict[bytes, str] = {}
        self._described: dict[bytes, str] = {}
        self._out = bytearray()
        self._in = bytearray()

    @property
    def is_due(self) -> bool:
        """Whether the server owes a message, or the end of the connection."""
        return (
            self._until_eof
            or self._awaits_choice
            or (bool(self._due) and not self._awaits_client)
        )

    def label(self, data: bytes) -> str:
        """Return the first word of the statement."""
        if self._is_starting:
            word = "cancel" if _code(data) == _CANCEL else "connect"
            return f"postgres {word}"
        kind, body = data[:1], data[5:]
        if kind == b"Q":
            return f"postgres {_first_word(body)}"
        if kind == b"P":
            _, _, statement = body.partition(b"\0")
            return f"postgres {_first_word(statement)}"
        if kind == b"B":
            statement = body.split(b"\0", 2)[1]
            return f"postgres {self._statements.get(statement, 'execute')}"
        words = {b"p": "password", b"X": "close", b"S": "sync", b"d": "copy"}
        return f"postgres {words.get(kind, 'execute')}"

    def describe(self, data: bytes) -> str:
        """Return the statement by its first word and its table: ``SELECT seats``."""
        plain = self.label(data).removeprefix(f"{self.kind} ")
        if self._is_starting:
            return plain
        prepared = ""
        for kind, body in _messages(data):
            if kind == b"Q":
                return _shortened(body)
            if kind == b"P":
                name, _, statement = body.partition(b"\0")
                prepared = self._described[name] = _shortened(statement)
            if kind == b"B":
                _, _, name = body.partition(b"\0")
                return self._described.get(name.partition(b"\0")[0], plain)
        return f"prepare {prepared}" if prepared else plain

    def sent(self, data: bytes) -> None:
        """Expect what answers each message."""
        self._out += data
        self._awaits_client = False
        while True:
            header = 0 if self._is_starting else 1
            if len(self._out) < header + 4:
                return
            length = header + int.from_bytes(self._out[header : header + 4])
            if len(self._out) < length:
                return
            message = bytes(self._out[:length])
            del self._out[:length]
            if self._is_starting:
                self._sent_start(message)
            else:
                self._sent(message[:1], message[5:])

    def _sent_start(self, message: bytes) -> None:
        match _code(message):
            case code if code in {_SSL, _GSS}:
                self._awaits_choice = True
            case code if code == _CANCEL:
                self._until_eof = True
            case _:
                self._is_starting = False
                self._due.append(_READY)

    def _sent(self, kind: bytes, body: bytes) -> None:
        if kind == b"X":
            self._until_eof = True
        elif kind in {b"Q", b"F"}:
            self._watch_listen(body)
            self._due.append(_READY)
        elif kind == b"S":
            self._flush()
            self._is_skipping = False
            self._due.append(_READY)
        elif kind == b"H":
            self._flush()
        elif kind == b"D":
            self._queued += [b"t", b"Tn"] if body[:1] == b"S" else [b"Tn"]
        elif kind in _ANSWERED_BY:
            self._queued.append(_ANSWERED_BY[kind])
            if kind == b"P":
                name, _, statement = body.partition(b"\0")
                self._statements[name] = _first_word(statement)
                self._watch_listen(statement)

    def _flush(self) -> None:
        if not self._is_skipping:
            self._due += self._queued
        self._queued.clear()

    def _watch_listen(self, statement: bytes) -> None:
        self.may_push |= _LISTEN.match(statement) is not None

    def received(self, data: bytes) -> None:
        """Strike off what has come."""
        if self._awaits_choice:
            self._awaits_choice = False
            # What follows is encrypted, if the server agrees.
            self.has_end = data[:1] == b"N"
            data = data[1:]
        if not self.has_end:
            return
        self._in += data
        while len(self._in) >= 5:
            length = 1 + int.from_bytes(self._in[1:5])
            if len(self._in) < length:
                return
            self._received(bytes(self._in[:1]), bytes(self._in[5:length]))
            del self._in[:length]

    def _received(self, kind: bytes, body: bytes) -> None:
        due = self._due
        if kind == _READY:
            self.unfinished = _TRANSACTIONS.get(body[:1], "")
            while due and due.popleft() != _READY:
                pass
        elif kind == b"R":
            self._awaits_client = int.from_bytes(body[:4]) not in _AUTHENTICATED
        elif kind == b"K":
            self.session = int.from_bytes(body[:4])
        elif kind == b"G":
            self._awaits_client = True
        elif kind == b"W":
            self.has_end = False
        elif kind == b"E":
            if b"VFATAL\0" in body:
                self._until_eof = True
            while due and due[0] != _READY:
                due.popleft()
            if not due:
                self._is_skipping = True
            self._queued.clear()
        elif due and kind in due[0]:
            due.popleft()

    def give_up(self) -> None:
        """Expect nothing more."""
        self._due.clear()
        self._until_eof = self._awaits_choice = False


def _code(message: bytes) -> int:
    return int.from_bytes(message[4:8])


def _first_word(statement: bytes) -> str:
    match = _WORD.match(statement)
    return match[1].decode("ascii", "replace").upper() if match else "query"


def _messages(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind and the body of each message."""
    start = 0
    while start + 5 <= len(data):
        length = max(4, int.from_bytes(data[start + 1 : start + 5]))
        yield data[start : start + 1], data[start + 5 : start + 1 + length]
        start += 1 + length


def _shortened(statement: bytes) -> str:
    """Return the first word and the first table; literals may be secrets."""
    table = _TABLE.search(statement.partition(b"\0")[0])
    name = table[1].decode("utf-8", "replace") if table is not None else ""
    return f"{_first_word(statement)} {name}".strip()
