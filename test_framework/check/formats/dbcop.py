"""Histories of dbcop (Biswas and Enea, OOPSLA 2019): bincode version 1, and JSON.

PolySI publishes its histories in the first. Both hold sessions of transactions of events
``(write, variable, value, success)``; variables hold 0 before their first write, and
there are no times.
"""

import json
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from test_framework.check.transactions import Status, TransactionLog
from test_framework.check.transactions.columns import log_of_columns, never_written
from test_framework.core import UsageError

_EVENT = np.dtype([("write", "?"), ("key", "<u8"), ("value", "<u8"), ("success", "?")])
_NUMBER = struct.Struct("<Q")
_HEAD = 5
"""Numbers before the texts: id, nodes, variables, transactions, events."""
_TEXTS = 3
"""About the run, when it began, when it ended."""

Events = npt.NDArray[np.void]


def read_dbcop(data: bytes, *, source: str = "history") -> TransactionLog:
    """Read a ``history.bincode``.

    Args:
        data: What the file holds.
        source: How messages call it.

    Raises:
        UsageError: It is cut off, goes on after its end, or is no such file; the
            message names the byte. Or it holds no operation.
    """
    cursor = _Cursor(data, source)
    for _ in range(_HEAD):
        cursor.number()
    for _ in range(_TEXTS):
        cursor.skip(cursor.number())
    sessions: list[int] = []
    statuses: list[Status] = []
    events: list[Events] = []
    for session in range(cursor.number()):
        for _ in range(cursor.number()):
            events.append(cursor.events(cursor.number()))
            sessions.append(session)
            statuses.append(Status.OK if cursor.flag() else Status.FAIL)
    cursor.require_end()
    return _log(sessions, statuses, events, source)


class _Cursor:
    """A place in the bytes that moves on as they are read."""

    def __init__(self, data: bytes, source: str) -> None:
        self._data = data
        self._source = source
        self._place = 0

    def skip(self, size: int) -> int:
        """Pass ``size`` bytes and return where they begin."""
        begin = self._place
        if size > len(self._data) - begin:
            message = (
                f"{self._source} ends at byte {len(self._data)}, in the middle of what "
                f"begins at byte {begin}. Pass a whole history.bincode of dbcop."
            )
            raise UsageError(message)
        self._place += size
        return begin

    def number(self) -> int:
        return int(_NUMBER.unpack_from(self._data, self.skip(_NUMBER.size))[0])

    def flag(self) -> bool:
        return self._data[self.skip(1)] != 0

    def events(self, count: int) -> Events:
        begin = self.skip(count * _EVENT.itemsize)
        return np.frombuffer(self._data, dtype=_EVENT, count=count, offset=begin)

    def require_end(self) -> None:
        if self._place < len(self._data):
            message = (
                f"{self._source} goes on after its last session, at byte {self._place} "
                f"of {len(self._data)}. Pass a whole history.bincode of dbcop."
            )
            raise UsageError(message)


def read_dbcop_json(data: bytes, *, source: str = "history") -> TransactionLog:
    """Read the same history as JSON: an object whose ``data`` holds the sessions.

    Args:
        data: What the file holds.
        source: How messages call it.

    Raises:
        UsageError: It is no JSON, or a transaction or event lacks a field; the message
            names it. Or it holds no operation.
    """
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as exc:
        message = f"{source} is no JSON: {exc}. Pass a history that dbcop wrote."
        raise UsageError(message) from exc
    whole = body["data"] if isinstance(body, dict) and "data" in body else body
    sessions: list[int] = []
    statuses: list[Status] = []
    events: list[Events] = []
    place = "its list of sessions"
    try:
        for session, transactions in enumerate(_listed(whole)):
            for number, transaction in enumerate(_listed(transactions)):
                place = f"transaction {number} of session {session}"
                rows = [_row(event) for event in _listed(transaction["events"])]
                events.append(np.array(rows, dtype=_EVENT))
                sessions.append(session)
                is_ok = transaction.get("success", transaction.get("committed", True))
                statuses.append(Status.OK if is_ok else Status.FAIL)
    except (KeyError, TypeError, AttributeError, OverflowError, ValueError) as exc:
        message = (
            f"{source} is no history of dbcop: {place} does not read as "
            "{'events': [{'write': true, 'variable': 0, 'value': 1, 'success': true}], "
            f"'success': true}} ({type(exc).__name__}: {exc})."
        )
        raise UsageError(message) from exc
    return _log(sessions, statuses, events, source)


def _listed(value: object) -> list[Any]:
    if not isinstance(value, list):
        message = f"{type(value).__name__} in place of a list"
        raise TypeError(message)
    return value


def _row(event: dict[str, Any]) -> tuple[bool, int, int, bool]:
    key, value = event["variable"], event["value"]
    if not (isinstance(key, int) and isinstance(value, int)):
        message = f"variable {key!r} and value {value!r} must be whole numbers"
        raise TypeError(message)
    return bool(event["write"]), key, value, bool(event.get("success", True))


def _log(
    sessions: list[int], statuses: list[Status], events: list[Events], source: str
) -> TransactionLog:
    """Make a log of what was read; an event without success did not happen."""
    whole = np.concatenate([np.zeros(0, dtype=_EVENT), *events])
    if not len(whole):
        message = f"{source} holds no operation, so there is nothing to judge."
        raise UsageError(message)
    sizes = np.array([len(some) for some in events], dtype=np.int64)
    number = np.repeat(np.arange(len(sizes)), sizes)
    happened = whole["success"]
    whole, number = whole[happened], number[happened]
    return log_of_columns(
        session=sessions,
        sizes=np.bincount(number, minlength=len(sizes)),
        is_write=whole["write"],
        key=whole["key"],
        value=whole["value"],
        is_initial=never_written(whole["write"], whole["key"], whole["value"], 0),
        status=statuses,
    )
