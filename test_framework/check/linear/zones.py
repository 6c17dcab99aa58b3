"""Two lemmas that decide most kinds of objects without a search.

Time is one axis: objects are laid end to end on it, so a check of one object is a check
of all. Touching is overlapping: a call precedes another if it returned strictly before
the other was called.

**Blocks.** Calls fall into blocks, each of which must take effect as a whole (a value
and its reads; a lock, from taking to releasing it). With ``first_end`` of a block the
earliest return in it and ``last_begin`` its latest invocation, block A must come before
B if ``first_end(A) < last_begin(B)``. There is an order if and only if no two blocks
must each come before the other: in a longer circle, take the block of the least
``first_end``; it must come before the one that must come before it.

**Known order.** The calls have a known partial order. There is one that time allows as
well if and only if no call returned before one that must precede it was called: place
each call at the latest invocation among those up to it.

Sources: Gibbons and Korach, "Testing shared memories", 1997 (zones of registers).
"""

from dataclasses import dataclass

import numpy as np

from test_framework.check.linear.columns import NEVER, CallLog, Ints, Mask

_ROOM = 1 << 62


@dataclass(frozen=True, slots=True)
class Axis:
    """Begin and end of each call with the objects laid end to end.

    Attributes:
        begin: Shape ``(n,)``.
        end: The same; after all calls on the object for one of unknown outcome.
        span: Length of the stretch of one object; stretch ``k`` begins at ``k * span``
            with an instant before all of its calls.
    """

    begin: Ints
    end: Ints
    span: int

    @classmethod
    def of(cls, log: CallLog) -> "Axis":
        """Lay out a history."""
        begin, end, known = log.invoked, log.completed, log.is_known
        if not len(log):
            return cls(begin, end, 1)
        first = int(begin.min())
        last = max(int(begin.max()), int(np.max(end, where=known, initial=NEVER)))
        if (last - first + 3) * max(len(log.keys), 1) >= _ROOM:
            # Only the order counts; ranks are small.
            times = np.unique(np.concatenate((begin, end[known])))
            begin, end = np.searchsorted(times, begin), np.searchsorted(times, end)
            first, last = 0, len(times)
        span = last - first + 3
        # In place: of a million calls, each column takes 8 MB.
        shift = log.key * span
        shift -= first - 1
        begin = begin + shift
        end = np.where(known, end, last + 1)
        end += shift
        return cls(begin, end, span)


def conflicts(first_end: Ints, last_begin: Ints) -> list[tuple[int, int]]:
    """Return pairs of blocks that must each come before the other; none if there are.

    Args:
        first_end: Of each block; shape ``(n,)``.
        last_begin: Of each block; ``(n,)``.

    Returns:
        One pair for each block that first gets in the way; empty if there is an order.
        Costs a sort.
    """
    forward = np.flatnonzero(first_end < last_begin)
    forward = forward[np.argsort(first_end[forward], kind="stable")]
    begins, ends = first_end[forward], last_begin[forward]
    pairs = []
    if len(forward) > 1:
        # The farthest end so far, and whose it is.
        reach = np.maximum.accumulate(ends)
        for place in np.flatnonzero(reach[:-1] > begins[1:])[:_MOST]:
            other = int(np.argmax(ends[: place + 1] == reach[place]))
            pairs.append((int(forward[other]), int(forward[place + 1])))
    if pairs:
        return pairs
    backward = np.flatnonzero(first_end >= last_begin)
    # Forward zones are apart here, so the last one that begins before is the only one.
    around = np.searchsorted(begins, last_begin[backward], side="left") - 1
    inside = (
        (around >= 0) & (first_end[backward] < ends[np.maximum(around, 0)])
        if len(forward)
        else np.zeros(len(backward), dtype=np.bool_)
    )
    return [
        (int(forward[around[place]]), int(backward[place]))
        for place in np.flatnonzero(inside)[:_MOST]
    ]


_MOST = 20


def out_of_order(rank: Ints, begin: Ints, end: Ints) -> list[tuple[int, int]]:
    """Return calls that returned before one that must precede them was called.

    Args:
        rank: A call must precede all of a higher rank; shape ``(n,)``.
        begin: On an axis; ``(n,)``.
        end: ``(n,)``.

    Returns:
        Pairs of the call that must come first and the one that returned before it.
    """
    order = np.argsort(rank, kind="stable")
    ranks, begins = rank[order], begin[order]
    earliest = latest_before(ranks, begins)
    broken = order[end[order] < earliest]
    pairs = []
    for call in broken[:_MOST]:
        lower = np.flatnonzero(rank < rank[call])
        pairs.append((int(lower[np.argmax(begin[lower])]), int(call)))
    return pairs


def latest_before(ranks: Ints, begins: Ints) -> Ints:
    """Return the latest begin among all of lower rank, for calls sorted by rank."""
    if not len(ranks):
        return begins
    latest = np.concatenate(([NEVER], np.maximum.accumulate(begins)[:-1]))
    # Of calls of one rank, each has what was before the first of them.
    is_first: Mask = np.concatenate(([True], ranks[1:] != ranks[:-1]))
    heads = np.maximum.accumulate(np.where(is_first, np.arange(len(ranks)), 0))
    before: Ints = latest[heads]
    return before
