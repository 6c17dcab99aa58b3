"""A history of transactions in columns, so that numpy can judge half a million.

Keys, values, sessions and users may be anything hashable; inside they are numbers, and
the tables ``keys``, ``values`` and ``sessions`` turn those back.
"""

import enum
from array import array
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from test_framework.core import UsageError

Ints = npt.NDArray[np.int64]

NOTHING = -1
"""Number of the value that is none: what a register holds first; an empty column."""

UNKNOWN = -2
"""In place of a value or a count that nobody was told."""


class Status(enum.IntEnum):
    """What the client knows of a transaction."""

    OK = 0
    FAIL = 1
    """It was refused and took no effect."""
    INFO = 2
    """A timeout, a cancellation: it may have taken effect, or may yet."""


class Kind(enum.IntEnum):
    """What one operation of a transaction does."""

    APPEND = 0
    READ_LIST = 1
    WRITE = 2
    READ = 3


_KINDS = {
    "append": Kind.APPEND,
    "w": Kind.WRITE,
    "write": Kind.WRITE,
}
_READS = {"r", "read"}

Micro = tuple[str, Hashable, Any]
"""``("append", key, value)``, ``("w", key, value)`` or ``("r", key, what was read)``.

A read of a list is answered with a sequence, one of a register with a value or None.
"""


@dataclass(frozen=True, slots=True)
class Transaction:
    """One transaction as its client saw it, for witnesses and small histories."""

    number: int
    session: Hashable
    user: int | None
    status: Status
    invoked: int
    completed: int | None
    index: int
    operations: tuple[Micro, ...]


@dataclass(frozen=True, slots=True)
class TransactionLog:
    """Transactions in columns; row ``i`` of the first group is transaction ``i``.

    Attributes:
        session: Whose program order it stands in; shape ``(n,)``.
        user: Number of its user, or ``NOTHING``; ``(n,)``.
        status: A ``Status``; ``(n,)``.
        invoked: Nanoseconds of one monotonic clock, or event numbers; ``(n,)``.
        completed: The same; the greatest integer for an unknown outcome; ``(n,)``.
        index: Where its completion stands in the source, from 0; ``(n,)``.
        first: Its first operation; ``(n + 1,)``, the last is the number of operations.
        transaction: Transaction of each operation; ``(m,)``.
        kind: A ``Kind``; ``(m,)``.
        key: Number of the key; ``(m,)``.
        value: Number of the value written or read from a register; ``NOTHING`` for the
            initial value and for lists, ``UNKNOWN`` for a read without answer; ``(m,)``.
        start: First element of a list that was read, in ``elements``; ``(m,)``.
        count: Length of that list; ``UNKNOWN`` without answer, 0 for others; ``(m,)``.
        elements: Values of all lists that were read, one after the other.
        sessions: Names by number.
        keys: Names by number.
        values: Values by number.
    """

    session: Ints
    user: Ints
    status: Ints
    invoked: Ints
    completed: Ints
    index: Ints
    first: Ints
    transaction: Ints
    kind: Ints
    key: Ints
    value: Ints
    start: Ints
    count: Ints
    elements: Ints
    sessions: Sequence[Hashable] = field(repr=False)
    keys: Sequence[Hashable] = field(repr=False)
    values: Sequence[Hashable] = field(repr=False)

    def __len__(self) -> int:
        """Return the number of transactions."""
        return len(self.status)

    def read(self, number: int) -> Transaction:
        """Return one transaction with names and values as they came."""
        begin, end = int(self.first[number]), int(self.first[number + 1])
        completed, user = int(self.completed[number]), int(self.user[number])
        return Transaction(
            number=number,
            session=self.sessions[int(self.session[number])],
            user=None if user == NOTHING else user,
            status=Status(int(self.status[number])),
            invoked=int(self.invoked[number]),
            completed=None if completed == FOREVER else completed,
            index=int(self.index[number]),
            operations=tuple(self._operation(place) for place in range(begin, end)),
        )

    def _operation(self, place: int) -> Micro:
        kind, key = Kind(int(self.kind[place])), self.keys[int(self.key[place])]
        value = int(self.value[place])
        if kind is Kind.READ_LIST:
            start, count = int(self.start[place]), int(self.count[place])
            found = self.elements[start : start + max(count, 0)]
            return "r", key, tuple(self.values[int(number)] for number in found)
        named = None if value < 0 else self.values[value]
        word = {Kind.APPEND: "append", Kind.WRITE: "w", Kind.READ: "r"}[kind]
        return word, key, named


FOREVER = int(np.iinfo(np.int64).max)
"""Completion of a transaction whose outcome is unknown."""


class LogBuilder:
    """Makes a ``TransactionLog`` of transactions that come one by one."""

    def __init__(self) -> None:
        names = ("session", "user", "status", "invoked", "completed", "index", "first")
        places = ("transaction", "kind", "key", "value", "start", "count", "elements")
        self._columns = {name: array("q") for name in (*names, *places)}
        self._sessions: dict[Hashable, int] = {}
        self._keys: dict[Hashable, int] = {}
        self._values: dict[Hashable, int] = {}

    def __len__(self) -> int:
        """Return the number of transactions so far."""
        return len(self._columns["status"])

    def add(  # one argument per fact of a transaction
        self,
        session: Hashable,
        operations: Iterable[Micro],
        *,
        status: Status = Status.OK,
        invoked: int = 0,
        completed: int | None = None,
        user: int | None = None,
        index: int | None = None,
    ) -> None:
        """Append one transaction.

        Without times, transactions count as concurrent with all others.

        Raises:
            UsageError: It completes before it is invoked, or an operation is none of
                ``append``, ``w`` and ``r``.
        """
        number, columns = len(self), self._columns
        place = number if index is None else index
        if completed is not None and completed < invoked:
            message = (
                f"Transaction {place} completes at {completed}, before it is invoked "
                f"at {invoked}. Record both on one monotonic clock."
            )
            raise UsageError(message)
        is_over = completed is not None and status is not Status.INFO
        columns["session"].append(_number(self._sessions, session))
        columns["user"].append(NOTHING if user is None else user)
        columns["status"].append(status)
        columns["invoked"].append(invoked)
        columns["completed"].append(
            completed if is_over and completed is not None else FOREVER
        )
        columns["index"].append(place)
        columns["first"].append(len(columns["kind"]))
        for operation in operations:
            self._add_operation(number, operation, place, is_known=status is Status.OK)

    def _add_operation(
        self, number: int, operation: Micro, place: int, *, is_known: bool
    ) -> None:
        word, key, value = operation
        columns = self._columns
        elements, start, count, named = columns["elements"], 0, 0, NOTHING
        if word in _READS:
            is_list = isinstance(value, list | tuple)
            kind = Kind.READ_LIST if is_list else Kind.READ
            if is_list:
                start, count = len(elements), len(value)
                elements.extend(_number(self._values, one) for one in value)
            elif value is not None:
                named = _number(self._values, value)
            elif not is_known:
                named = UNKNOWN
        elif word in _KINDS:
            kind, named = _KINDS[word], _number(self._values, value)
        else:
            message = (
                f"Transaction {place} has the operation {word!r}: only 'append', 'w' "
                "and 'r' are known."
            )
            raise UsageError(message)
        columns["transaction"].append(number)
        columns["kind"].append(kind)
        columns["key"].append(_number(self._keys, key))
        columns["value"].append(named)
        columns["start"].append(start)
        columns["count"].append(count)

    def build(self) -> TransactionLog:
        """Return what was added so far."""
        first = array("q", self._columns["first"])
        first.append(len(self._columns["kind"]))
        columns = {
            name: np.array(column, dtype=np.int64)
            for name, column in {**self._columns, "first": first}.items()
        }
        return TransactionLog(
            **columns,
            sessions=tuple(self._sessions),
            keys=tuple(self._keys),
            values=tuple(self._values),
        )


def _number(table: dict[Hashable, int], name: Hashable) -> int:
    """Return the number of a name; a new one gets the next."""
    return table.setdefault(name, len(table))
