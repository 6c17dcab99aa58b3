"""Overlap is measured: as comparing each operation with each other one says."""

import itertools
import random

import pytest

from test_framework.battery import Journal, measure_overlap

Span = tuple[int, int]


def journal(worker: int, spans: list[Span]) -> Journal:
    """Return operations of a worker, each begun and ended at two instants."""
    made = Journal(worker)
    for invoked, ended in spans:
        made.kinds.append("read")
        made.arguments.append(None)
        made.results.append(None)
        made.keys.append(None)
        made.invoked.append(invoked)
        made.ended.append(ended)
        made.known.append(1)
    return made


def do_meet(one: Span, other: Span) -> bool:
    """Whether two operations were underway at one instant, and not only touched."""
    return one[0] < other[1] and other[0] < one[1]


@pytest.mark.parametrize(
    ("spans", "peak", "share", "pairs"),
    [
        ([[], []], 0, 0.0, 0.0),
        ([[(0, 9)]], 1, 0.0, 0.0),
        ([[(0, 9)], [(9, 12)]], 1, 0.0, 0.0),
        ([[(0, 9)], [(8, 12)]], 2, 1.0, 1.0),
        ([[(0, 9), (10, 12)], [(2, 3), (4, 5)]], 2, 0.75, 1.0),
        ([[(0, 9)], [(1, 3)], [(4, 6)]], 2, 1.0, 2 / 3),
        ([[(0, 9)], [(1, 8)], [(2, 7)]], 3, 1.0, 1.0),
    ],
)
def test_overlap_is_measured(
    spans: list[list[Span]], peak: int, share: float, pairs: float
) -> None:
    """Peak, share of operations and share of pairs are those that one counts by hand."""
    overlap = measure_overlap([journal(at, own) for at, own in enumerate(spans)])

    assert (overlap.peak, overlap.share) == (peak, share)
    assert overlap.pairs == pytest.approx(pairs)


def test_overlap_is_what_comparing_all_says() -> None:
    """On 300 random runs the measure agrees with the comparison of each with each."""
    rng = random.Random(11)
    for _ in range(300):
        spans: list[list[Span]] = []
        for _ in range(rng.randint(2, 4)):
            instants = list(
                itertools.accumulate(
                    rng.randint(1, 9) for _ in range(rng.randint(2, 12))
                )
            )
            spans.append(list(zip(instants[::2], instants[1::2], strict=False)))
        overlap = measure_overlap([journal(at, own) for at, own in enumerate(spans)])

        everything = [(at, span) for at, own in enumerate(spans) for span in own]
        beside = sum(
            any(other != at and do_meet(span, one) for other, one in everything)
            for at, span in everything
        )
        met = sum(
            any(do_meet(one, other) for one in left for other in right)
            for left, right in itertools.combinations(spans, 2)
        )
        total = len(spans) * (len(spans) - 1) / 2
        assert overlap.share == pytest.approx(beside / len(everything))
        assert overlap.pairs == pytest.approx(met / total)
