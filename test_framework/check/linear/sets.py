"""Sets whose elements are added once each: decided by sorting.

Calls that name an element say nothing of others, so each element is an object of its
own. It is added, found there, removed: the order of these is known, and the lemma of
known order decides (``zones``). A call that found it absent came before all of them or,
if it was removed, after: as soon as one fits, nothing else is asked of it.

A set that is read whole must only grow: then reads are in order of their size, each
holds the one before, and an element is added between the last that lacks it and the
first that has it. Left to the search are sets with an element that is added or removed
twice, and those that are read whole and do more than grow.

Source: Lee and Mathur, "Efficient decrease-and-conquer linearizability monitoring",
2025 (sets of distinct values).
"""

from dataclasses import dataclass

import numpy as np

from test_framework.check.linear.columns import FOREVER, NEVER, CallLog, Ints, Mask
from test_framework.check.linear.models import DistinctSet, elements, unheard_of
from test_framework.check.linear.ruling import (
    MOST_ANOMALIES,
    Found,
    Ruling,
    anomaly,
    before,
    cells_of,
    on,
    settle,
)
from test_framework.check.linear.zones import Axis, out_of_order
from test_framework.check.witness import Link

_ADD, _FOUND, _REMOVE = 0, 1, 2
"""What happens to an element, in order."""


@dataclass(frozen=True, slots=True)
class _Roles:
    """What each call says of its element; shape ``(n,)`` each.

    Attributes:
        adds: It was put there by this call, or may have been.
        removes: It was taken away by this call, or may have been.
        present: It was found there.
        absent: It was not.
        whole: The set was read whole.
    """

    adds: Mask
    removes: Mask
    present: Mask
    absent: Mask
    whole: Mask


def judge_sets(log: CallLog, model: DistinctSet) -> Ruling:
    """Judge sets.

    Raises:
        UsageError: The model does not know an operation.
    """
    roles = _roles(log, model)
    named = ~roles.whole
    cell, count = cells_of(log.key[named], log.argument[named])
    cells = np.full(len(log), -1)
    cells[named] = cell
    twice = np.zeros(len(log), dtype=np.bool_)
    for role in (roles.adds, roles.removes):
        rows = np.flatnonzero(role)
        times = np.bincount(cells[rows], minlength=count)
        twice[rows[times[cells[rows]] > 1]] = True
    is_read = np.isin(log.key, np.unique(log.key[roles.whole]))
    twice |= is_read & (roles.removes | roles.present | roles.absent)
    undecided = np.unique(log.key[twice])
    ours = ~np.isin(log.key, undecided)
    axis = Axis.of(log)
    found = _elements(log, axis, roles, cells, count, ours & ~is_read)
    found += _doubled(log, roles)
    for key in np.unique(log.key[ours & roles.whole]).tolist():
        found += _grown(log, axis, roles, np.flatnonzero(log.key == key))
    return settle(log, found, undecided)


def _roles(log: CallLog, model: DistinctSet) -> _Roles:
    add, remove = log.where("add"), log.where("remove")
    contains, read = log.where("contains"), log.where("read")
    odd = ~(add | remove | contains | read)
    if odd.any():
        raise unheard_of(model, log.read(int(np.argmax(odd))))
    known = log.is_known
    # The last stands for None, whose number is -1.
    is_true = np.array([bool(value) for value in (*log.values, None)])[log.result]
    is_false = np.array([value is False for value in (*log.values, None)])[log.result]
    failed = known & is_false & (add | remove)
    return _Roles(
        adds=add & ~failed,
        removes=remove & ~failed,
        present=known & ((contains & is_true) | (add & failed)),
        absent=known & ((contains & ~is_true) | (remove & failed)),
        whole=read & known,
    )


def _elements(  # what is known of each element
    log: CallLog, axis: Axis, roles: _Roles, cells: Ints, count: int, ours: Mask
) -> Found:
    known = log.is_known
    adds, removes = (
        np.flatnonzero(roles.adds & ours),
        np.flatnonzero(roles.removes & ours),
    )
    present, absent = (
        np.flatnonzero(roles.present & ours),
        np.flatnonzero(roles.absent & ours),
    )
    adder, remover = np.full(count, -1), np.full(count, -1)
    adder[cells[adds]] = adds
    remover[cells[removes]] = removes
    # One of unknown outcome happened if somebody saw that it did.
    proofs = np.concatenate((present, removes[known[removes]]))
    is_there = np.zeros(count, dtype=np.bool_)
    is_there[cells[proofs]] = True
    found: Found = []
    for row in proofs[adder[cells[proofs]] < 0][:MOST_ANOMALIES].tolist():
        element = log.read(row).argument
        claim = f"{element!r} was in {on(log, row)}, though nobody added it."
        found.append((row, anomaly(log, "phantom element", claim, [row])))
    if found:
        return found
    adds = adds[known[adds] | is_there[cells[adds]]]
    is_there[cells[adds]] = True
    removes = removes[is_there[cells[removes]]]
    rows = np.concatenate((adds, present, removes))
    stage = np.repeat([_ADD, _FOUND, _REMOVE], [len(adds), len(present), len(removes)])
    found += _misplaced(log, axis, rows, cells[rows], stage)
    first_end, last_begin = np.full(count, FOREVER), np.full(count, NEVER)
    np.minimum.at(first_end, cells[rows], axis.end[rows])
    np.maximum.at(last_begin, cells[rows], axis.begin[rows])
    at = cells[absent]
    fits = ~is_there[at] | (axis.begin[absent] <= first_end[at])
    fits |= (remover[at] >= 0) & (axis.end[absent] >= last_begin[at])
    for row in absent[~fits][:MOST_ANOMALIES].tolist():
        own = rows[cells[rows] == cells[row]]
        witness = [row, int(own[np.argmin(axis.end[own])])]
        because = "b had returned before a was called"
        if remover[cells[row]] >= 0:
            latest = int(own[np.argmax(axis.begin[own])])
            if latest not in witness:
                witness.append(latest)
        claim = (
            f"{log.read(row).argument!r} was not found in {on(log, row)}, though it had "
            "been added and was not removed by then."
        )
        one = anomaly(
            log, "lost element", claim, witness, Link(1, 0, "realtime", because)
        )
        found.append((row, one))
    return found


def _misplaced(log: CallLog, axis: Axis, rows: Ints, cell: Ints, stage: Ints) -> Found:
    """Return calls on an element that returned before what must come first began."""
    # Each element gets a stretch of time of its own, in which only the order counts.
    times = np.unique(np.concatenate((axis.begin[rows], axis.end[rows])))
    offset = cell * (len(times) + 1)
    pairs = out_of_order(
        cell * 3 + stage,
        np.searchsorted(times, axis.begin[rows]) + offset,
        np.searchsorted(times, axis.end[rows]) + offset,
    )
    found: Found = []
    for first, second in pairs:
        own = [int(rows[second]), int(rows[first])]
        claim = (
            f"{log.read(own[0]).argument!r} is added to {on(log, own[0])} and removed "
            "once, so b had to come before a; but a had returned before b was called."
        )
        link = Link(1, 0, "follows", "an element is added, found and removed, in turn")
        name = "read from the future" if stage[first] == _ADD else "non-linearizable"
        found.append((own[0], anomaly(log, name, claim, own, before(0, 1), link)))
    return found


def _doubled(log: CallLog, roles: _Roles) -> Found:
    """Find reads that have an element twice."""
    found: Found = []
    for row in np.flatnonzero(roles.whole).tolist():
        call = log.read(row)
        size = len(call.result) if isinstance(call.result, tuple) else 0
        if size > len(elements(call)):
            twice = next(one for one in call.result if call.result.count(one) > 1)
            claim = f"{twice!r} was in {on(log, row)} twice, which is a set."
            found.append((row, anomaly(log, "duplicate element", claim, [row])))
    return found


def _grown(log: CallLog, axis: Axis, roles: _Roles, rows: Ints) -> Found:
    """Judge one set that only grows and is read whole."""
    reads = [
        (int(row), elements(log.read(int(row)))) for row in rows[roles.whole[rows]]
    ]
    reads.sort(key=lambda one: len(one[1]))
    adder = {log.read(row).argument: row for row in rows[roles.adds[rows]].tolist()}
    rank: list[tuple[int, int]] = []
    held: frozenset[object] = frozenset()
    previous = -1
    for place, (row, seen) in enumerate(reads):
        if not held <= seen:
            gone = next(iter(held - seen))
            claim = (
                f"{gone!r} was in {on(log, row)} when a read it and not when b did, "
                "which saw other elements that a did not: neither came first."
                if len(seen) > len(held) or seen - held
                else f"{gone!r} was in {on(log, row)} and was gone later."
            )
            link = Link(0, 1, "rw", f"a saw {gone!r} and b did not")
            one = anomaly(log, "long fork", claim, [previous, row], link)
            return [(row, one)]
        for element in seen - held:
            if element not in adder:
                claim = f"{element!r} was in {on(log, row)}, though nobody added it."
                return [(row, anomaly(log, "phantom element", claim, [row]))]
            rank.append((adder.pop(element), 2 * place))
        rank.append((row, 2 * place + 1 if seen != held or not place else rank[-1][1]))
        held, previous = seen, row
    # What no read has came after all of them, if it is known to have come.
    rank += [(row, 2 * len(reads)) for row in adder.values() if log.is_known[row]]
    own = np.array([row for row, _ in rank])
    order = np.array([place for _, place in rank])
    found: Found = []
    for first, second in out_of_order(order, axis.begin[own], axis.end[own]):
        witness = [int(own[second]), int(own[first])]
        later, earlier = (log.read(row) for row in witness)
        if later.kind == "add":
            name, because = "lost element", "b does not have what a added"
        elif earlier.kind == "add":
            name, because = "read from the future", "a has what b added"
        else:
            name, because = "stale read", "b has fewer elements than a"
        claim = (
            f"On {on(log, witness[0])}, b had to come before a, since {because}; but a "
            "had returned before b was called."
        )
        link = Link(1, 0, "follows", because)
        one = anomaly(log, name, claim, witness, before(0, 1), link)
        found.append((witness[0], one))
    return found
