"""Whether a tiny history has an explanation, by trying them all.

It knows nothing of dependencies: transactions are executed, in every order, on a store
of lists or registers. Snapshot isolation has each read the store as it was when it
began, and refuses to commit over a write that it did not see (first committer wins).
"""

from collections.abc import Hashable, Iterable, Iterator
from typing import Any

from test_framework.check.transactions import Micro, Status, Transaction, TransactionLog

State = dict[Hashable, Any]


MODELS = {
    "serializable": (0, False),
    "strong-session-serializable": (1, False),
    "strict-serializable": (2, False),
    "snapshot-isolation": (0, True),
    "strong-session-snapshot-isolation": (1, True),
    "strong-snapshot-isolation": (2, True),
}
"""Models that can be tried: the order to respect, and whether snapshots suffice."""


def order_of(log: TransactionLog, strength: int) -> set[tuple[int, int]]:
    """Return which transaction must come before which: no, session or real order."""
    all_of_it = [log.read(number) for number in range(len(log))]
    return {
        (one.number, two.number)
        for one in all_of_it
        for two in all_of_it
        if one.number != two.number
        and one.status is Status.OK
        and (
            (strength > 0 and one.session == two.session and one.index < two.index)
            or (
                strength > 1
                and one.completed is not None
                and one.completed < two.invoked
            )
        )
    }


def can_explain(
    log: TransactionLog, *, strength: int = 0, is_snapshot: bool = False
) -> bool:
    """Tell whether any execution gives what the transactions read.

    Args:
        log: At most 5 transactions or so.
        strength: Order to respect: 0 none, 1 of sessions, 2 of real time.
        is_snapshot: Snapshot isolation instead of serial executions.
    """
    possible = [
        one
        for one in (log.read(number) for number in range(len(log)))
        if one.status is not Status.FAIL
    ]
    order = order_of(log, strength)
    unknown = [one for one in possible if one.status is Status.INFO]
    certain = [one for one in possible if one.status is Status.OK]
    return any(
        _execute(certain + happened, order, {}, (), frozenset(), is_snapshot)
        for happened in _subsets(unknown)
    )


def _subsets(some: list[Transaction]) -> Iterator[list[Transaction]]:
    for choice in range(1 << len(some)):
        yield [one for at, one in enumerate(some) if choice >> at & 1]


def _execute(
    waiting: list[Transaction],
    order: set[tuple[int, int]],
    store: State,
    active: tuple[tuple[Transaction, State], ...],
    done: frozenset[int],
    is_snapshot: bool,  # noqa: FBT001  # passed on by a recursion
) -> bool:
    if not waiting and not active:
        return True
    for at, (one, snapshot) in enumerate(active):
        written = _written(one.operations)
        if any(store.get(key) != snapshot.get(key) for key in written):
            continue
        after = {**store, **_run(one, snapshot, written)}
        others = active[:at] + active[at + 1 :]
        if _execute(waiting, order, after, others, done | {one.number}, is_snapshot):
            return True
    for at, one in enumerate(waiting):
        rest = waiting[:at] + waiting[at + 1 :]
        late = {other.number for other in rest} | {other.number for other, _ in active}
        if any((number, one.number) in order for number in late):
            continue
        if not _agrees(one, store):
            continue
        if is_snapshot:
            begun = (*active, (one, store))
            if _execute(rest, order, store, begun, done, is_snapshot):
                return True
        else:
            after = {**store, **_run(one, store, _written(one.operations))}
            if _execute(rest, order, after, active, done, is_snapshot):
                return True
    return False


def _written(operations: Iterable[Micro]) -> set[Hashable]:
    return {key for word, key, _ in operations if word in {"append", "w"}}


def _run(one: Transaction, snapshot: State, written: set[Hashable]) -> State:
    own = {key: snapshot.get(key) for key in written}
    for word, key, value in one.operations:
        if word == "append":
            own[key] = (*(own[key] or ()), value)
        elif word == "w":
            own[key] = value
    return own


def _agrees(one: Transaction, snapshot: State) -> bool:
    """Tell whether a transaction reads what it did from a snapshot."""
    if one.status is not Status.OK:
        return True
    own = dict(snapshot)
    for word, key, value in one.operations:
        if word == "append":
            own[key] = (*(own.get(key) or ()), value)
        elif word == "w":
            own[key] = value
        elif (own.get(key) or None) != (value or None):
            return False
    return True
