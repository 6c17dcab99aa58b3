"""Counters that return what they count: decided by sorting.

An increment by one that returned n is the n-th, so the order of all increments and
reads is known, and the lemma of known order decides (``zones``). What an increment
found, its result less what it added, must be what the one before it left: if it is
less, an update was lost. If it is more, increments of unknown outcome must have come
between, as many as are missing. The one that was called first is as good as any for
the lowest of them; if there are not enough, the counter counted what nobody asked for.

Left to the search are objects with an increment that told nothing, that took away, or
that is of unknown outcome where not all add one.
"""

from dataclasses import dataclass

import numpy as np

from test_framework.check.linear.columns import CallLog, Ints, Mask, integers
from test_framework.check.linear.models import Counter, number, unheard_of
from test_framework.check.linear.ruling import (
    MOST_ANOMALIES,
    Ruling,
    anomaly,
    before,
    on,
)
from test_framework.check.linear.zones import Axis, out_of_order
from test_framework.check.witness import Anomaly, Link


@dataclass(frozen=True, slots=True)
class _Counts:
    """Calls that told a count, by object, by count, and increments before reads.

    Attributes:
        rows: Their rows; shape ``(m,)``.
        after: What they told; ``(m,)``.
        found: What each increment must have found; for a read, what it told; ``(m,)``.
        left: What the call before it left, or the initial count; ``(m,)``.
        rank: Higher than that of what must come before; ``(m,)``.
    """

    rows: Ints
    after: Ints
    found: Ints
    left: Ints
    rank: Ints


def judge_counters(log: CallLog, model: Counter) -> Ruling:
    """Judge counters.

    Raises:
        UsageError: The model does not know an operation, or a count is no integer.
    """
    silent, read = log.where("add"), log.where("read")
    increment = log.where("increment") | silent
    odd = ~(increment | read)
    if odd.any():
        raise unheard_of(model, log.read(int(np.argmax(odd))))
    known = log.is_known
    is_told = known & ~silent & ((log.result >= 0) | read)
    told, told_fits = _integers(log, model, log.result, is_told)
    given, given_fits = _integers(
        log, model, log.argument, increment & (log.argument >= 0)
    )
    added = np.where(increment, np.where(log.argument >= 0, given, 1), 0)
    uneven = np.isin(log.key, np.unique(log.key[increment & (added != 1)]))
    vague = (increment & known & ~is_told) | (added < 0) | (increment & ~known & uneven)
    undecided = np.unique(log.key[vague | ~told_fits | ~given_fits])
    decided = ~np.isin(log.key, undecided)
    counts = _sorted(log, model, np.flatnonzero(is_told & decided), told, added)
    axis = Axis.of(log)
    anomalies = (
        _lost_updates(log, counts)
        or _misplaced(log, axis, counts)
        or _overcounts(log, axis, counts, np.flatnonzero(increment & ~known & decided))
    )
    return Ruling(anomalies, frozenset(undecided.tolist()))


def _integers(
    log: CallLog, model: Counter, column: Ints, must: Mask
) -> tuple[Ints, Mask]:
    """Return the integers that a column holds, and which fit in 64 bits."""
    numbers, are, fit = integers(log)
    wrong = must & ~are[column]
    if wrong.any():
        call = log.read(int(np.argmax(wrong)))
        number(model, call, call.result if column is log.result else call.argument)
    return numbers[column], ~must | fit[column]


def _sorted(
    log: CallLog, model: Counter, rows: Ints, told: Ints, added: Ints
) -> _Counts:
    is_read = added == 0
    rows = rows[np.lexsort((is_read[rows], told[rows], log.key[rows]))]
    key, after, reads = log.key[rows], told[rows], is_read[rows]
    is_new = np.ones(len(rows), dtype=np.bool_)
    is_new[1:] = key[1:] != key[:-1]
    left = np.full(len(rows), model.initial)
    left[1:] = np.where(is_new[1:], model.initial, after[:-1])
    steps = is_new.copy()
    steps[1:] |= (after[1:] != after[:-1]) | (reads[1:] != reads[:-1])
    return _Counts(rows, after, after - added[rows], left, np.cumsum(steps))


def _lost_updates(log: CallLog, counts: _Counts) -> tuple[Anomaly, ...]:
    """Return calls that found less than what was there."""
    anomalies = []
    for place in np.flatnonzero(counts.found < counts.left)[:MOST_ANOMALIES].tolist():
        row, found, left = (
            int(column[place]) for column in (counts.rows, counts.found, counts.left)
        )
        earlier = int(counts.rows[place - 1]) if place else -1
        if earlier < 0 or log.key[earlier] != log.key[row]:
            claim = f"{on(log, row)} was {left} at first, but a found only {found}."
            anomalies.append(anomaly(log, "phantom read", claim, [row]))
            continue
        claim = (
            f"An increment of {on(log, row)} found {found} and made it "
            f"{int(counts.after[place])}, another one made it {left}: one update is lost."
        )
        link = Link(0, 1, "ww", "neither counted the other")
        anomalies.append(anomaly(log, "lost update", claim, [earlier, row], link))
    return tuple(anomalies)


def _misplaced(log: CallLog, axis: Axis, counts: _Counts) -> tuple[Anomaly, ...]:
    """Return calls that returned too early for what they told."""
    told = counts.rows
    anomalies = []
    for first, second in out_of_order(counts.rank, axis.begin[told], axis.end[told]):
        rows = [int(told[second]), int(told[first])]
        values = [int(counts.after[second]), int(counts.after[first])]
        claim = (
            f"On {on(log, rows[0])} a told {values[0]}, so it came after b, which told "
            f"{values[1]}; but a had returned before b was called."
        )
        is_stale = log.read(rows[1]).kind == "read"
        name = "stale read" if is_stale else "non-linearizable"
        link = Link(1, 0, "follows", "a counted what b told")
        anomalies.append(anomaly(log, name, claim, rows, before(0, 1), link))
    return tuple(anomalies)


def _overcounts(
    log: CallLog, axis: Axis, counts: _Counts, lost: Ints
) -> tuple[Anomaly, ...]:
    """Return calls that found more than anyone can have counted."""
    missing = counts.found - counts.left
    if not missing.any():
        return ()
    key = log.key[counts.rows]
    total = np.zeros(len(log.keys), dtype=np.int64)
    np.add.at(total, key, missing)
    spare = np.bincount(log.key[lost], minlength=len(log.keys))
    over = np.flatnonzero((missing > 0) & (total > spare)[key])
    if not len(over):
        over = _too_late(log, axis, counts, lost, missing, spare)
    anomalies = []
    for place in over[:MOST_ANOMALIES].tolist():
        row = int(counts.rows[place])
        claim = (
            f"a found {int(counts.found[place])} on {on(log, row)}, more than all calls "
            "that can have come before it counted."
        )
        anomalies.append(anomaly(log, "over-count", claim, [row]))
    return tuple(anomalies)


def _too_late(  # the columns of both sides of a matching
    log: CallLog, axis: Axis, counts: _Counts, lost: Ints, missing: Ints, spare: Ints
) -> Ints:
    """Return where the increments that must have come between were called too late."""
    # What came between came before all that follow; later objects are later in time.
    due = np.minimum.accumulate(axis.end[counts.rows][::-1])[::-1]
    slots = np.repeat(np.arange(len(missing)), missing)
    key = log.key[counts.rows][slots]
    lost = lost[np.lexsort((log.invoked[lost], log.key[lost]))]
    start = np.concatenate(([0], np.cumsum(spare)))
    first = np.searchsorted(key, key, side="left")
    chosen = lost[start[key] + np.arange(len(slots)) - first]
    late: Ints = np.unique(slots[axis.begin[chosen] > due[slots]])
    return late
