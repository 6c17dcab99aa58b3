"""Binary logs of Cobra (Tan et al., OSDI 2020), a folder with one per session.

Records are big-endian: ``S`` and ``C`` with a transaction, ``W`` with write, key and
value, ``R`` with the transaction and the write it saw, key and value. Writes carry unique
numbers, which stand for their values here. Two numbers mark what nobody wrote: a row
from before the run, and none at all.
"""

import struct
from collections.abc import Iterator, Mapping

from test_framework.check.transactions import TransactionLog
from test_framework.check.transactions.columns import log_of_columns
from test_framework.core import UsageError

_INITIAL = {0xBEBEEBEE, 0xDEADBEEF}

_NAMES = {b"S": "start", b"C": "commit", b"W": "write", b"R": "read"}
_BODIES = {
    b"S": struct.Struct(">q"),
    b"C": struct.Struct(">q"),
    b"W": struct.Struct(">qqq"),
    b"R": struct.Struct(">qqqq"),
}

Record = tuple[int, bytes, tuple[int, ...]]


def read_cobra(logs: Mapping[str, bytes]) -> TransactionLog:
    """Read the logs of all sessions of one run.

    Args:
        logs: What each log holds, by its name; each is one session.

    Raises:
        UsageError: A log is cut off or holds something else; the message names it and
            the byte. Or there is no log, or none holds an operation.
    """
    sessions: list[int] = []
    sizes: list[int] = []
    rows: list[tuple[bool, int, int, bool]] = []
    for session, (name, data) in enumerate(logs.items()):
        current, size = None, 0
        for place, word, body in _records(data, name):
            if (word == b"S") is not (current is None) or (
                word == b"C" and body[0] != current
            ):
                raise _misplaced(name, place, word, current)
            if word == b"S":
                current, size = body[0], 0
            elif word == b"C":
                sessions.append(session)
                sizes.append(size)
                current = None
            else:
                size += 1
                write, key = body[-3], body[-2]
                is_write = word == b"W"
                rows.append((is_write, key, write, not is_write and write in _INITIAL))
        if current is not None:
            # The log of a client that was killed; what it did may have taken effect,
            # and what others read of it would look written by nobody.
            raise _misplaced(name, len(data), b"", current)
    if not rows:
        message = "No operation in the logs. Pass a folder of Cobra's T*.log files."
        raise UsageError(message)
    return log_of_columns(
        session=sessions,
        sizes=sizes,
        is_write=[row[0] for row in rows],
        key=[row[1] for row in rows],
        value=[row[2] for row in rows],
        is_initial=[row[3] for row in rows],
    )


def _records(data: bytes, name: str) -> Iterator[Record]:
    place = 0
    while place < len(data):
        word = data[place : place + 1]
        body = _BODIES.get(word)
        if body is None:
            message = (
                f"{name} byte {place} is {word!r}: expected a record S, R, W or C. "
                "Pass logs that Cobra's client wrote."
            )
            raise UsageError(message)
        if place + 1 + body.size > len(data):
            message = (
                f"{name} ends at byte {len(data)}, in the middle of the {_NAMES[word]} "
                f"that begins at byte {place}. Pass whole logs."
            )
            raise UsageError(message)
        yield place, word, body.unpack_from(data, place + 1)
        place += 1 + body.size


def _misplaced(name: str, place: int, word: bytes, current: int | None) -> UsageError:
    what = f"holds a {_NAMES[word]}" if word else "ends"
    where = "outside of any transaction" if current is None else f"within {current}"
    return UsageError(
        f"{name} byte {place} {what} {where}: each transaction must start, act and "
        "commit before the next one. Pass whole logs of committed transactions."
    )
