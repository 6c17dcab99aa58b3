"""Calls in columns, so that numpy can judge a million of them.

Processes, keys, kinds and values may be anything hashable; inside they are numbers, and
tables turn those back.
"""

import contextlib
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from test_framework.check.linear.calls import Call
from test_framework.core import UsageError

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

FOREVER = int(np.iinfo(np.int64).max)
"""Completion of a call of unknown outcome."""

NEVER = int(np.iinfo(np.int64).min)
"""Before all instants."""

MOST_COUNTED = 1 << 60
"""Sums of two numbers below this fit in 64 bits."""

NOTHING = -1
"""Number of the value None."""


@dataclass(frozen=True, slots=True)
class CallLog:
    """Calls in columns; row ``i`` of each is call ``i``.

    Attributes:
        process: Number of who called; shape ``(n,)``, as all columns.
        kind: Number of what was called.
        key: Number of the object.
        argument: Number of the value given, or ``NOTHING``.
        result: Number of the value returned, or ``NOTHING``.
        invoked: On any clock that all processes share.
        completed: The same; ``FOREVER`` for an unknown outcome.
        index: Where it stands in the history it came from.
        processes: Names by number.
        kinds: Names by number.
        keys: Names by number.
        values: Values by number.
    """

    process: Ints
    kind: Ints
    key: Ints
    argument: Ints
    result: Ints
    invoked: Ints
    completed: Ints
    index: Ints
    processes: Sequence[Any] = field(repr=False)
    kinds: Sequence[str] = field(repr=False)
    keys: Sequence[Any] = field(repr=False)
    values: Sequence[Any] = field(repr=False)

    def __len__(self) -> int:
        """Return the number of calls."""
        return len(self.invoked)

    def read(self, row: int) -> Call:
        """Return one call with names and values as they came."""
        completed = int(self.completed[row])
        return Call(
            process=self.processes[int(self.process[row])],
            kind=self.kinds[int(self.kind[row])],
            argument=self._value(int(self.argument[row])),
            result=self._value(int(self.result[row])),
            invoked=int(self.invoked[row]),
            completed=None if completed == FOREVER else completed,
            key=self.keys[int(self.key[row])],
            index=int(self.index[row]),
        )

    def _value(self, number: int) -> object:
        return None if number == NOTHING else self.values[number]

    def where(self, kind: str) -> Mask:
        """Return which calls are of a kind; of one that there is none of, none."""
        if kind not in self.kinds:
            return np.zeros(len(self), dtype=np.bool_)
        is_it: Mask = self.kind == self.kinds.index(kind)
        return is_it

    @property
    def is_known(self) -> Mask:
        """Which calls are of known outcome."""
        known: Mask = self.completed != FOREVER
        return known

    @classmethod
    def of(cls, calls: Iterable[Call]) -> "CallLog":
        """Return calls in columns, in the order they come.

        Raises:
            UsageError: A call ends before it begins, or a value of it cannot be hashed.
        """
        processes: dict[Hashable, int] = {}
        kinds: dict[str, int] = {}
        keys: dict[Hashable, int] = {}
        values: dict[Hashable, int] = {}
        rows: list[tuple[int, ...]] = []
        for call in calls:
            require_sound(call)
            rows.append(
                (
                    processes.setdefault(call.process, len(processes)),
                    kinds.setdefault(call.kind, len(kinds)),
                    keys.setdefault(call.key, len(keys)),
                    _number(values, call.argument),
                    _number(values, call.result if call.is_known else None),
                    call.invoked,
                    FOREVER if call.completed is None else call.completed,
                    call.index if call.index >= 0 else len(rows),
                )
            )
        table = np.array(rows, dtype=np.int64).reshape(len(rows), 8).T
        process, kind, key, argument, result, invoked, completed, index = (
            np.ascontiguousarray(column) for column in table
        )
        return cls(
            process=process,
            kind=kind,
            key=key,
            argument=argument,
            result=result,
            invoked=invoked,
            completed=completed,
            index=index,
            processes=tuple(processes),
            kinds=tuple(kinds),
            keys=tuple(keys),
            values=tuple(
                value.value if isinstance(value, _Bool) else value for value in values
            ),
        )


@dataclass(frozen=True, slots=True)
class _Bool:
    """True and False among values, where they would be taken for 1 and 0."""

    value: bool

    def __repr__(self) -> str:
        return repr(self.value)


_ANSWERING_VALUES: Final = {"read", "get", "dequeue"}


def apart(call: Call) -> Call:
    """Return a call whose booleans, where they are values, are not taken for 1 and 0.

    What a ``cas`` or ``add`` returned says whether it did, and stays as it is.
    """
    argument, result = named(call.argument), call.result
    if call.kind == "cas" and isinstance(argument, tuple):
        argument = tuple(named(one) for one in argument)
    if call.kind in _ANSWERING_VALUES:
        result = named(result)
    if argument == call.argument and result == call.result:
        return call
    return replace(call, argument=argument, result=result)


def _number(values: dict[Hashable, int], value: Hashable) -> int:
    if value is None:
        return NOTHING
    return values.setdefault(named(value), len(values))


def named(value: Hashable) -> Hashable:
    """Return a value as it stands in tables of numbers."""
    return _Bool(value) if isinstance(value, bool) else value


def numbered(log: CallLog) -> dict[Hashable, int]:
    """Return the number of each value; None is ``NOTHING``."""
    return {None: NOTHING} | {
        named(value): number for number, value in enumerate(log.values)
    }


def number_of(log: CallLog, value: Hashable) -> int:
    """Return the number of one value; of one that no call has, that of none: -2."""
    if value is None:
        return NOTHING
    for number, other in enumerate(log.values):
        if other == value and isinstance(other, bool) is isinstance(value, bool):
            return number
    return NOTHING - 1


def require_sound(call: Call) -> None:
    """Refuse a call that cannot be.

    Raises:
        UsageError: It ends before it begins, no clock tells such a time, or a value of
            it cannot be hashed.
    """
    invoked, completed = call.invoked, call.completed
    if completed is not None and completed < invoked:
        message = (
            f"Call {call.index} ({call}) ends at {completed}, before it begins at "
            f"{invoked}. Record both on one monotonic clock."
        )
        raise UsageError(message)
    last = invoked if completed is None else completed
    if not (invoked > NEVER and last < FOREVER):
        message = (
            f"Call {call.index} ({call}) is at {invoked}, which no clock tells. Record "
            "nanoseconds in 64 bits."
        )
        raise UsageError(message)
    try:
        hash((call.process, call.key, call.argument, call.result))
    except TypeError as exc:
        message = (
            f"Call {call.index} ({call}) holds a value that cannot be hashed. Record "
            "tuples and frozensets in place of lists, dicts and sets."
        )
        raise UsageError(message) from exc


def integers(log: CallLog) -> tuple[Ints, Mask, Mask]:
    """Return the values of a log as integers, which of them are, and which fit.

    Returns:
        By number, 0 for what is no integer or has more than 60 bits; the last one
        stands for None, whose number is -1.
    """
    numbers = np.zeros(len(log.values) + 1, dtype=np.int64)
    are = np.zeros(len(log.values) + 1, dtype=np.bool_)
    fit = np.ones(len(log.values) + 1, dtype=np.bool_)
    if set(map(type, log.values)) == {int}:
        with contextlib.suppress(OverflowError):  # then one by one
            numbers[:-1], are[:-1] = np.array(log.values, dtype=np.int64), True
            fit = np.abs(numbers) < MOST_COUNTED
            return np.where(fit, numbers, 0), are, fit
    for place, value in enumerate(log.values):
        if type(value) is int:
            are[place], fit[place] = True, abs(value) < MOST_COUNTED
            numbers[place] = value if fit[place] else 0
    return numbers, are, fit
