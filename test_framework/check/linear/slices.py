"""The fewest calls that still have no order: what a reader has to look at.

Not any call may be left out, for without a write a read of its value is wrong by
itself and proves nothing of the whole. Only what leaves every order of the rest an
order is: what began after the contradiction was complete; reads; and together the calls
on a value that no other call depends on (a value of a register, an element of a queue
or set, a stretch of holding a lock).
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import replace

from test_framework.check.linear.calls import Call
from test_framework.check.linear.models import (
    CasRegister,
    DistinctSet,
    Model,
    Mutex,
    Queue,
    Register,
    pair,
)
from test_framework.check.linear.search import TURN, Outcome, search

BUDGET_STEPS = 300_000
"""Of all searches for one witness; about 0.3 s. What is left then is shown."""

ORDER_STEPS = 10_000
"""Of the search for the longest order that a witness shows."""


def minimal_slice(
    model: Model, calls: Sequence[Call], found: Outcome
) -> tuple[list[Call], Outcome]:
    """Return fewer calls that have no order either, and how their search ended.

    Args:
        model: What the object does.
        calls: All calls on it, by invocation; they have no order.
        found: How their search ended.
    """
    left = BUDGET_STEPS

    def attempt(fewer: list[Call], *, foresees: bool = True) -> Outcome | None:
        """Return the outcome if these have no order and that was soon seen."""
        nonlocal left
        turns = search(model, fewer, foresees=foresees)
        for _ in range(max(left // TURN, 0) + 1):
            try:
                next(turns)
            except StopIteration as end:
                outcome: Outcome = end.value
                left -= outcome.steps
                return None if outcome.is_linearizable else outcome
        left = 0
        return None

    kept, outcome = list(calls), found
    shorter = _first(model, kept, outcome.end)
    again = attempt(shorter)
    if again is not None:
        kept, outcome = shorter, again
    size = len(kept)
    while size and left > 0:
        at, has_shrunk = 0, False
        parts = _removable(model, kept, outcome, size)
        while at < len(parts) and left > 0:
            gone = {place for part in parts[at : at + size] for place in part}
            fewer = [call for place, call in enumerate(kept) if place not in gone]
            again = attempt(fewer) if fewer else None
            if again is None:
                at += size
                continue
            kept, outcome, has_shrunk = fewer, again, True
            parts = _removable(model, kept, outcome, size)
        if not has_shrunk or size > 1:
            size //= 2
    # The longest order says most when nothing was given up early; that may take long.
    left = min(left, ORDER_STEPS)
    return kept, attempt(kept, foresees=False) or outcome


def _first(model: Model, calls: Sequence[Call], end: int | None) -> list[Call]:
    """Return what had begun by an instant; what was not over then is of no outcome."""
    if end is None:
        return list(calls)
    begun = [call for call in calls if call.invoked <= end]
    cut = [
        call
        if call.completed is not None and call.completed <= end
        else replace(call, completed=None, result=None)
        for call in begun
    ]
    return [call for call in cut if call.is_known or not model.is_read(call)]


def _removable(
    model: Model, kept: list[Call], outcome: Outcome, size: int
) -> list[list[int]]:
    """Return what to try to leave out, so many parts at a time."""
    parts = _parts(model, kept)
    if size == 1 or outcome.stuck not in kept:
        return parts
    # What could not be is nearly always part of it; at last it is tried too.
    stuck = kept.index(outcome.stuck)
    return [part for part in parts if stuck not in part]


def _parts(model: Model, calls: Sequence[Call]) -> list[list[int]]:
    """Return the places of calls that may be left out together."""
    reads = [[place] for place, call in enumerate(calls) if model.is_read(call)]
    groups = [group for group in _groups(model, calls) if len(group) < len(calls)]
    return [*groups, *reads]


def _groups(model: Model, calls: Sequence[Call]) -> list[list[int]]:
    kind = type(model)
    if kind in {Register, CasRegister}:
        has_failed = any(call.kind == "cas" and call.result is False for call in calls)
        return [] if has_failed else _by_values(calls)
    if kind is Queue:
        return _by(calls, [_element(call) for call in calls])
    if kind is DistinctSet:
        has_snapshot = any(call.kind == "read" for call in calls)
        return [] if has_snapshot else _by(calls, [call.argument for call in calls])
    if kind is Mutex:
        return _holdings(calls)
    return []


def _element(call: Call) -> Hashable:
    element: Hashable = call.argument if call.kind == "enqueue" else call.result
    return element


def _by(calls: Sequence[Call], names: Sequence[Hashable]) -> list[list[int]]:
    """Group calls by a name; what has none stays."""
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for place, name in enumerate(names[: len(calls)]):
        if name is not None:
            groups[name].append(place)
    return list(groups.values())


def _by_values(calls: Sequence[Call]) -> list[list[int]]:
    """Group calls on a register by value; a ``cas`` joins its two."""
    leader: dict[Hashable, Hashable] = {}

    def find(value: Hashable) -> Hashable:
        while leader.setdefault(value, value) != value:
            value = leader[value]
        return value

    for call in calls:
        if call.kind == "cas":
            old, new = pair(call)
            leader[find(old)] = find(new)
    names = [
        ("value", find(pair(call)[1] if call.kind == "cas" else _value(call)))
        for call in calls
    ]
    return _by(calls, names)


def _value(call: Call) -> Hashable:
    value: Hashable = call.argument if call.kind == "write" else call.result
    return value


def _holdings(calls: Sequence[Call]) -> list[list[int]]:
    """Pair each taking of a lock with the release of it by the same process.

    Only where each process is known to take and release in turn; else a release may
    be that of a lock which another process took.
    """
    groups: list[list[int]] = []
    latest: dict[Hashable, tuple[Call, list[int]]] = {}
    for place, call in enumerate(calls):
        before, group = latest.get(call.process, (None, []))
        is_next = before is None or (
            before.completed is not None and before.completed < call.invoked
        )
        was_taken = before is not None and before.kind == "acquire"
        if not is_next or was_taken is (call.kind == "acquire"):
            return []
        if call.kind == "acquire":
            group = []
            groups.append(group)
        group.append(place)
        latest[call.process] = call, group
    return groups
