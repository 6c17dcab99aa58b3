"""Text histories of registers: Plume and PolySI lines, and the files of AWDIT's tests.

Plume (OOPSLA 2024) and PolySI (VLDB 2023) write one operation a line,
``r(key,value,session,transaction)`` or ``w(...)``; keys hold 0 before their first write,
and transaction -1 says that a write was aborted. AWDIT (PLDI 2025) writes ``w key value``
lines, parts transactions by ``-----`` and sessions by ``=====``, and knows no initial
value. Both hold no times.
"""

import re
import warnings
from collections.abc import Iterator

import numpy as np

from test_framework.check.transactions import Status, TransactionLog
from test_framework.check.transactions.columns import log_of_columns, never_written
from test_framework.check.transactions.log import Ints
from test_framework.core import UsageError

ABORTED = -1

_LINE = re.compile(rb"\s*([rw])\((-?\d+),(-?\d+),(-?\d+),(-?\d+)\)\s*")
_WORDS = re.compile(rb"([rw])\s+(-?\d+)\s+(-?\d+)")
_PLAIN = bytes.maketrans(b"rw(),", b"01   ")
_GREATEST = 2**63 - 1


def read_plume(data: bytes, *, source: str = "history") -> TransactionLog:
    """Read ``r(key,value,session,transaction)`` lines of Plume or PolySI.

    Transactions of a session stand in the order of their first lines.

    Args:
        data: What the file holds.
        source: How messages call it.

    Raises:
        UsageError: A line is no operation; the message names it. Or there is none.
    """
    table = _read_quickly(data)
    if table is None:
        table = np.array(list(_read_lines(data, source)), dtype=np.int64)
    if not len(table):
        message = (
            f"{source} holds no operation. Pass a file of lines such as "
            "'w(key,value,session,transaction)'."
        )
        raise UsageError(message)
    word, key, value, session, transaction = table.T
    is_write = word == 1
    # Runs of lines of one transaction first, as there are fewer of them. An aborted
    # write is a transaction of its own, as nothing says which went together.
    is_aborted = transaction == ABORTED
    names = np.stack([session, transaction], axis=1)
    begins = (
        np.concatenate(([True], (names[1:] != names[:-1]).any(axis=1))) | is_aborted
    )
    heads = np.flatnonzero(begins)
    lone = np.where(is_aborted[heads], heads, -1)
    _, first, number = np.unique(
        np.column_stack([names[heads], lone]),
        axis=0,
        return_index=True,
        return_inverse=True,
    )
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    number = rank[number.reshape(-1)][np.cumsum(begins) - 1]
    order, first = np.argsort(number, kind="stable"), heads[np.sort(first)]
    is_write, key, value = is_write[order], key[order], value[order]
    return log_of_columns(
        session=session[first],
        sizes=np.bincount(number),
        is_write=is_write,
        key=key,
        value=value,
        is_initial=never_written(is_write, key, value, 0),
        status=np.where(is_aborted[first], int(Status.FAIL), int(Status.OK)),
    )


def _read_quickly(data: bytes) -> Ints | None:
    """Return all lines at once as rows of numbers; None if any looks odd."""
    lines = data.count(b"(")
    shape = (data.count(b"r") + data.count(b"w"), data.count(b")"))
    if shape != (lines, lines) or data.count(b",") != 3 * lines:
        return None
    with warnings.catch_warnings():
        # numpy warns where it stops early, and that is where the line is looked for.
        warnings.simplefilter("error", DeprecationWarning)
        try:
            flat = np.fromstring(data.translate(_PLAIN), dtype=np.int64, sep=" ")
        except (DeprecationWarning, ValueError):
            return None
    if len(flat) != 5 * lines or (lines and flat.max() == _GREATEST):
        return None
    table = flat.reshape(-1, 5)
    return table if np.isin(table[:, 0], (0, 1)).all() else None


def _read_lines(data: bytes, source: str) -> Iterator[tuple[int, ...]]:
    """Yield the operations line by line, and refuse the first that is none."""
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            message = (
                f"{source} line {number} is {_shown(line)}: expected "
                "'r(key,value,session,transaction)' or 'w(...)' with whole numbers. "
                "Pass the file as it was written."
            )
            raise UsageError(message)
        row = (int(found[1] == b"w"), *(int(found[place]) for place in range(2, 6)))
        _require_int64(row, source, number)
        yield row


def read_awdit(data: bytes, *, source: str = "history") -> TransactionLog:
    """Read the text format of AWDIT's own tests.

    Args:
        data: What the file holds.
        source: How messages call it.

    Raises:
        UsageError: A line is no operation; the message names it. Or there is none.
    """
    rows: list[tuple[int, ...]] = []
    sizes: list[int] = []
    sessions: list[int] = []
    session, size = 0, 0
    for number, raw in enumerate([*data.splitlines(), b"="], 1):
        line = raw.strip()
        if line and not line.strip(b"=-"):
            if size:
                sizes.append(size)
                sessions.append(session)
            session, size = session + line.startswith(b"="), 0
        elif line:
            rows.append(_awdit_row(line, source, number))
            size += 1
    if not rows:
        message = (
            f"{source} holds no operation. Pass a file of lines such as 'w key value'."
        )
        raise UsageError(message)
    is_write, key, value = np.array(rows, dtype=np.int64).T
    return log_of_columns(
        session=sessions, sizes=sizes, is_write=is_write, key=key, value=value
    )


def _awdit_row(line: bytes, source: str, number: int) -> tuple[int, ...]:
    found = _WORDS.fullmatch(line)
    if found is None:
        message = (
            f"{source} line {number} is {_shown(line)}: expected 'r key value', "
            "'w key value' with whole numbers, or a line of '-' or '='."
        )
        raise UsageError(message)
    row = (int(found[1] == b"w"), int(found[2]), int(found[3]))
    _require_int64(row, source, number)
    return row


def _require_int64(row: tuple[int, ...], source: str, number: int) -> None:
    if max(row) > _GREATEST or min(row) < -_GREATEST:
        message = (
            f"{source} line {number} holds a number beyond 63 bits. Number keys and "
            "values anew before writing the history."
        )
        raise UsageError(message)


def _shown(line: bytes) -> str:
    """Return a line fit for a message, cut where it is long."""
    text = line.decode("utf-8", "replace").strip()
    return repr(text if len(text) <= 60 else text[:57] + "...")
