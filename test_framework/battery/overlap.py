"""How concurrent a run really was: a test whose operations never met proves nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from test_framework.battery.journal import Journal

_CHUNK = 4096
"""Operations of a pair of workers that are compared at once: most pairs meet early."""

Instants = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Overlap:
    """Which operations were underway at the same time.

    Attributes:
        operations: How many there were.
        peak: How many were underway at once, at most.
        share: Share of the operations during which one of another worker was underway.
        pairs: Share of the pairs of workers that were inside at once at least once.
    """

    operations: int
    peak: int
    share: float
    pairs: float

    def __str__(self) -> str:
        return (
            f"{self.operations:,} operations, up to {self.peak} at once; "
            f"{self.share:.0%} of them beside another worker's; "
            f"{self.pairs:.0%} of the pairs of workers met"
        )


def measure_overlap(journals: Sequence[Journal]) -> Overlap:
    """Measure how the operations of several workers overlapped.

    Two operations overlap if each was begun before the other one ended; those that
    touch at one instant do not.

    Args:
        journals: One for each worker, whose own operations never overlap.

    Returns:
        The measure; O(n log n) in the operations.
    """
    spans = [_span(journal) for journal in journals]
    starts = np.sort(np.concatenate([begin for begin, _ in spans] or [_instants([])]))
    ends = np.sort(np.concatenate([end for _, end in spans] or [_instants([])]))
    count = len(starts)
    if not count:
        return Overlap(0, 0, 0.0, 0.0)
    # Before each start: how many had started, less how many had ended by then.
    inside = np.arange(1, count + 1) - np.searchsorted(ends, starts, side="right")
    beside = sum(_count_beside(begin, end, starts, ends) for begin, end in spans)
    return Overlap(
        operations=count,
        peak=int(inside.max()),
        share=beside / count,
        pairs=_share_of_pairs(spans),
    )


def _span(journal: Journal) -> tuple[Instants, Instants]:
    # Ends are in order as they are written; a worker does one thing at a time.
    return _instants(journal.invoked), _instants(journal.ended)


def _instants(values: Any) -> Instants:  # noqa: ANN401  # any buffer or sequence
    return np.array(values, dtype=np.int64)


def _count_beside(
    begin: Instants, end: Instants, starts: Instants, ends: Instants
) -> int:
    """Count the operations that ran beside another one."""
    # Those that started before this one ends and did not end before it starts: all
    # that overlap, and this one itself.
    started = np.searchsorted(starts, end, side="left")
    over = np.searchsorted(ends, begin, side="right")
    return int(np.count_nonzero(started - over > 1))


def _share_of_pairs(spans: Sequence[tuple[Instants, Instants]]) -> float:
    pairs = [(one, other) for place, one in enumerate(spans) for other in spans[:place]]
    if not pairs:
        return 0.0
    return sum(_do_meet(one, other) for one, other in pairs) / len(pairs)


def _do_meet(one: tuple[Instants, Instants], other: tuple[Instants, Instants]) -> bool:
    """Whether any operation of one worker overlaps any of another."""
    starts, ends = other
    for place in range(0, len(one[0]), _CHUNK):
        begin, end = (column[place : place + _CHUNK] for column in one)
        # The first of the other worker that ends after this one begins.
        nearest = np.searchsorted(ends, begin, side="right")
        exists = nearest < len(ends)
        if bool(np.any(starts[nearest[exists]] < end[exists])):
            return True
    return False
