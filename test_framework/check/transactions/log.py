"""A history of transactions in columns, so that numpy can judge half a million.

Keys, values, sessions and users may be anything hashable; inside they are numbers, and
the tables ``keys``, ``values`` and ``sessions`` turn those back.
"""

import enum
from array import array
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
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
    ABSENT = 4
    """A scan did not find this list: it was not begun yet."""


LISTS = (Kind.APPEND, Kind.READ_LIST, Kind.ABSENT)
"""Kinds of operations on lists."""

MOST_ABSENT = 20_000_000
"""Lists that scans did not find, at most (count): 1 GB."""


_KINDS = {
    "append": Kind.APPEND,
    "w": Kind.WRITE,
    "write": Kind.WRITE,
}
_READS = {"r", "read"}
_SCANS = {"scan", "rp"}

Micro = tuple[str, Any, Any]
"""``("append", key, value)``, ``("w", key, value)`` or ``("r", key, what was read)``.

A read of a list is answered with a sequence, one of a register with a value or None.
``("scan", scope, lists by key)`` reads all lists of a scope that are begun: a
collection of keys, ``{"starts": text}`` for keys that begin with a text, or None for
all. ``("absent", key, None)`` is what is kept of a list that a scan did not find.
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
        omitted: Lists that scans did not find and that were too many to keep (count).
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
    omitted: int = 0

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
        if kind is Kind.ABSENT:
            return "absent", key, None
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
        self._scans: list[_Scan] = []

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
                ``append``, ``w``, ``r``, ``scan`` and ``absent``, or a scan has no
                known scope or is not answered with lists by key.
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
        if word in _SCANS:
            if is_known:
                self._add_scan(number, key, value, place)
            return
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
        elif word == "absent":
            kind = Kind.ABSENT
        else:
            message = (
                f"Transaction {place} has the operation {word!r}: only 'append', 'w', "
                "'r', 'scan' and 'absent' are known."
            )
            raise UsageError(message)
        columns["transaction"].append(number)
        columns["kind"].append(kind)
        columns["key"].append(_number(self._keys, key))
        columns["value"].append(named)
        columns["start"].append(start)
        columns["count"].append(count)

    def _add_scan(self, number: int, scope: Any, answer: Any, place: int) -> None:  # noqa: ANN401  # as it was recorded
        covers = _covering(scope, place)
        found = list(answer.items()) if isinstance(answer, Mapping) else answer
        try:
            lists = [(key, tuple(elements)) for key, elements in found]
        except (TypeError, ValueError):
            message = (
                f"Transaction {place} scans and is answered with {answer!r:.60}, which "
                "is not lists by key, such as [[key, [1, 2]]]."
            )
            raise UsageError(message) from None
        for key, elements in lists:
            self._add_operation(number, ("r", key, elements), place, is_known=True)
        keys = frozenset(self._keys[key] for key, _ in lists)
        self._scans.append(_Scan(len(self._columns["kind"]), number, covers, keys))

    def build(self) -> TransactionLog:
        """Return what was added so far."""
        first = array("q", self._columns["first"])
        first.append(len(self._columns["kind"]))
        columns = {
            name: np.array(column, dtype=np.int64)
            for name, column in {**self._columns, "first": first}.items()
        }
        omitted = self._insert_absent(columns) if self._scans else 0
        return TransactionLog(
            **columns,
            sessions=tuple(self._sessions),
            keys=tuple(self._keys),
            values=tuple(self._values),
            omitted=omitted,
        )

    def _insert_absent(self, columns: dict[str, Ints]) -> int:
        """Put in what scans did not find, and return how many that are if too many.

        Only now, since which lists there are is known when all have been met.
        """
        names = list(self._keys)
        covered: dict[_Scope, Ints] = {}
        for scan in self._scans:
            if scan.covers not in covered:
                covered[scan.covers] = np.array(
                    [n for n, name in enumerate(names) if scan.covers.has(name)],
                    dtype=np.int64,
                )
        total = sum(len(covered[one.covers]) - len(one.found) for one in self._scans)
        if total > MOST_ABSENT:
            return total
        missing = [
            np.setdiff1d(covered[one.covers], list(one.found), assume_unique=True)
            for one in self._scans
        ]
        counts = [len(one) for one in missing]
        at = np.repeat([one.place for one in self._scans], counts)
        owner = np.repeat([one.transaction for one in self._scans], counts)
        key = np.concatenate(missing)
        nothing = np.full(len(at), NOTHING)
        empty = np.zeros(len(at), dtype=np.int64)
        for name, column in (
            ("transaction", owner),
            ("kind", np.full(len(at), int(Kind.ABSENT))),
            ("key", key),
            ("value", nothing),
            ("start", empty),
            ("count", empty),
        ):
            columns[name] = np.insert(columns[name], at, column)
        earlier = np.searchsorted(owner, np.arange(len(columns["first"])))
        columns["first"] = columns["first"] + earlier
        return 0


@dataclass(frozen=True, slots=True)
class _Scope:
    """Which keys a scan covers: those among some, or that begin so; else all."""

    among: frozenset[Hashable] | None = None
    starts: str | None = None

    def has(self, key: Hashable) -> bool:
        """Tell whether the scan would have found a list of this key."""
        if self.among is not None:
            return key in self.among
        if self.starts is not None:
            return isinstance(key, str) and key.startswith(self.starts)
        return True


@dataclass(frozen=True, slots=True)
class _Scan:
    """A scan that was answered.

    Attributes:
        place: Operations before what it did not find (count).
        transaction: Its number.
        covers: Its scope.
        found: Numbers of the keys it found.
    """

    place: int
    transaction: int
    covers: _Scope
    found: frozenset[int]


def _covering(scope: Any, place: int) -> _Scope:  # noqa: ANN401  # as it was recorded
    if scope in (None, True, "true"):
        return _Scope()
    if isinstance(scope, frozenset) and len(scope) == 1:
        # A mapping, as a reader of histories has frozen it.
        pair = next(iter(scope))
        if isinstance(pair, tuple) and pair[:1] == ("starts",):
            scope = dict([pair])
    if isinstance(scope, Mapping):
        if set(scope) == {"starts"} and isinstance(scope["starts"], str):
            return _Scope(starts=scope["starts"])
    elif isinstance(scope, Collection) and not isinstance(scope, str):
        return _Scope(among=frozenset(scope))
    message = (
        f"Transaction {place} scans {scope!r:.60}: a scope is a list of keys, "
        '{"starts": text}, or null for all keys.'
    )
    raise UsageError(message)


def _number(table: dict[Hashable, int], name: Hashable) -> int:
    """Return the number of a name; a new one gets the next."""
    return table.setdefault(name, len(table))
