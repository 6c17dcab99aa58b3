"""First-in-first-out queues of distinct values: decided by sorting.

With distinct values there is an order unless one of five things happened: a value came
out that nobody put in, or twice, or before it was put in; a value that was put in
before another was is still inside, or was taken out only after, when that other one is
out; or a queue was found empty that cannot have been. The last is so when the stretches
in which some value was surely inside, from when it had been put in to when it was asked
for, leave no instant of that call free.

A ``dequeue`` of unknown outcome may have taken any value that nobody got. What is wrong
without it and right without those values is left to the search.

Sources: Henzinger, Sezgin and Vafeiadis, "Aspect-oriented linearizability proofs", 2013
(the five); Lee and Mathur, "Efficient decrease-and-conquer linearizability monitoring",
2025 (in the time of a sort).
"""

from dataclasses import dataclass

import numpy as np

from test_framework.check.linear.columns import CallLog, Ints, Mask
from test_framework.check.linear.models import Queue, unheard_of
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
from test_framework.check.linear.zones import Axis
from test_framework.check.witness import Link
from test_framework.core import InternalError


@dataclass(frozen=True, slots=True)
class _Stays:
    """Values in queues, by when they had been put in.

    Attributes:
        put: Row of the call that put it in; shape ``(m,)``.
        got: Row of the call that got it, -1 if none; ``(m,)``.
        put_end: On the axis; ``(m,)``.
        got_begin: The same; after all calls on the queue if nobody got it; ``(m,)``.
        got_end: The same; ``(m,)``.
    """

    put: Ints
    got: Ints
    put_end: Ints
    got_begin: Ints
    got_end: Ints


def judge_queues(log: CallLog, model: Queue) -> Ruling:
    """Judge queues.

    Raises:
        UsageError: The model does not know an operation.
    """
    enqueue, dequeue = log.where("enqueue"), log.where("dequeue")
    odd = ~(enqueue | dequeue)
    if odd.any():
        raise unheard_of(model, log.read(int(np.argmax(odd))))
    known = log.is_known
    got = np.flatnonzero(dequeue & known & (log.result >= 0))
    put = np.flatnonzero(enqueue)
    cell, count = cells_of(
        np.concatenate((log.key[put], log.key[got])),
        np.concatenate((log.argument[put], log.result[got])),
    )
    put_cell, got_cell = cell[: len(put)], cell[len(put) :]
    # A value that was put in twice, or one that reads as "empty".
    twice = np.bincount(put_cell, minlength=count)[put_cell] > 1
    undecided = np.unique(log.key[put[twice | (log.argument[put] < 0)]])
    is_ours = ~np.isin(log.key, undecided)
    put, put_cell = put[is_ours[put]], put_cell[is_ours[put]]
    got, got_cell = got[is_ours[got]], got_cell[is_ours[got]]
    empty = np.flatnonzero(dequeue & known & (log.result < 0) & is_ours)
    axis = Axis.of(log)
    putter, getter = np.full(count, -1), np.full(count, -1)
    putter[put_cell] = put
    getter[got_cell] = got
    found = _misgot(log, axis, putter, getter, got, got_cell)
    cells = np.flatnonzero((putter >= 0) & (known[putter] | (getter >= 0)))
    vague = np.unique(log.key[dequeue & ~known])
    everything = _stays(log, axis, putter[cells], getter[cells])
    found += _overtaken(log, axis, everything) + _not_empty(
        log, axis, everything, empty
    )
    if not len(vague):
        return settle(log, found, undecided)
    gone = cells[(getter[cells] >= 0) | ~np.isin(log.key[putter[cells]], vague)]
    surely = _stays(log, axis, putter[gone], getter[gone])
    sure = _misgot(log, axis, putter, getter, got, got_cell)
    sure += _overtaken(log, axis, surely) + _not_empty(log, axis, surely, empty)
    wrong = {int(log.key[row]) for row, _ in sure}
    open_ones = {int(log.key[row]) for row, _ in found} - wrong
    return settle(log, sure, np.array([*undecided, *open_ones], dtype=np.int64))


def _stays(log: CallLog, axis: Axis, put: Ints, got: Ints) -> _Stays:
    order = np.argsort(axis.end[put], kind="stable")
    put, got = put[order], got[order]
    never = (log.key[put] + 1) * axis.span - 1
    return _Stays(
        put=put,
        got=got,
        put_end=axis.end[put],
        got_begin=np.where(got >= 0, axis.begin[got], never),
        got_end=np.where(got >= 0, axis.end[got], never),
    )


def _misgot(  # the calls on each side, and where their values are
    log: CallLog, axis: Axis, putter: Ints, getter: Ints, got: Ints, cell: Ints
) -> Found:
    """Return values that came out of nowhere, twice, or too early."""
    found: Found = []
    for row in got[putter[cell] < 0][:MOST_ANOMALIES].tolist():
        value = log.read(row).result
        claim = f"{value!r} came out of {on(log, row)}, where nobody put it in."
        found.append((row, anomaly(log, "phantom value", claim, [row])))
    for row, other in _pairs(getter[cell] != got, got, getter[cell]):
        value = log.read(row).result
        claim = f"{value!r} came out of {on(log, row)} twice, but was put in once."
        link = Link(0, 1, "duplicate", f"a and b both got {value!r}")
        rows = [row, other]
        found.append((row, anomaly(log, "duplicate delivery", claim, rows, link)))
    source = putter[cell]
    early = (source >= 0) & (axis.end[got] < axis.begin[source])
    for row, other in _pairs(early, got, source):
        claim = (
            f"{log.read(row).result!r} came out of {on(log, row)} before it was put in."
        )
        link = Link(1, 0, "wr", "a got what b put in")
        rows = [row, other]
        one = anomaly(log, "read from the future", claim, rows, before(0, 1), link)
        found.append((row, one))
    return found


def _pairs(where: Mask, one: Ints, two: Ints) -> list[tuple[int, int]]:
    places = np.flatnonzero(where)[:MOST_ANOMALIES]
    return list(zip(one[places].tolist(), two[places].tolist(), strict=True))


def _overtaken(log: CallLog, axis: Axis, stays: _Stays) -> Found:
    """Return values that were taken out before ones that had been put in before."""
    if not len(stays.put):
        return []
    # Of all that had been put in by then, the one that was asked for last.
    latest = np.maximum.accumulate(stays.got_begin)
    by_then = np.searchsorted(stays.put_end, axis.begin[stays.put]) - 1
    is_late = (by_then >= 0) & (latest[np.maximum(by_then, 0)] > stays.got_end)
    found: Found = []
    for place in np.flatnonzero(is_late)[:MOST_ANOMALIES].tolist():
        first = int(np.argmax(stays.got_begin[: by_then[place] + 1]))
        rows = [int(stays.put[first]), int(stays.put[place]), int(stays.got[place])]
        values = [log.read(row).argument for row in rows[:2]]
        links = [
            before(0, 1),
            Link(1, 2, "wr", f"c got {values[1]!r}, which b put in"),
        ]
        claim = (
            f"{values[0]!r} had been put into {on(log, rows[0])} before {values[1]!r} "
            f"was, but {values[1]!r} came out"
        )
        if stays.got[first] >= 0:
            rows.append(int(stays.got[first]))
            links += [
                before(2, 3),
                Link(3, 0, "rw", f"d got {values[0]!r}, which a put in"),
            ]
            claim += " first."
        else:
            claim += f" and {values[0]!r} never did."
        name = "out of order" if stays.got[first] >= 0 else "lost value"
        found.append((rows[0], anomaly(log, name, claim, rows, *links)))
    return found


def _not_empty(log: CallLog, axis: Axis, stays: _Stays, empty: Ints) -> Found:
    """Return calls that found a queue empty in which always something was."""
    sure = np.flatnonzero(stays.put_end < stays.got_begin)
    if not len(sure) or not len(empty):
        return []
    begin, end = stays.put_end[sure], stays.got_begin[sure]
    reach = np.maximum.accumulate(end)
    # Stretches that only touch leave an instant free.
    heads = np.flatnonzero(np.concatenate(([True], begin[1:] >= reach[:-1])))
    tails = np.concatenate((heads[1:], [len(sure)])) - 1
    around = np.searchsorted(begin[heads], axis.begin[empty]) - 1
    is_covered = (around >= 0) & (reach[tails][np.maximum(around, 0)] > axis.end[empty])
    found: Found = []
    for place in np.flatnonzero(is_covered)[:MOST_ANOMALIES].tolist():
        row, stretch = int(empty[place]), int(around[place])
        own = slice(heads[stretch], tails[stretch] + 1)
        # Of the values that covered the call, as few as cover it.
        covering = []
        until, last = int(axis.begin[row]), int(axis.end[row])
        while until <= last:
            reaching = np.where(begin[own] < until, end[own], -1)
            best = int(np.argmax(reaching))
            if reaching[best] <= until:
                raise InternalError("A queue was held without a break, but by nobody.")
            covering.append(int(stays.put[sure[own]][best]))
            until = int(reaching[best])
        claim = (
            f"a found {on(log, row)} empty, but one of {len(covering)} values was in it "
            "at every instant of that call."
        )
        rows = [row, *covering]
        found.append((row, anomaly(log, "lost value", claim, rows)))
    return found
