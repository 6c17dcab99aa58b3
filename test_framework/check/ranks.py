"""Two samples compared by rank: is one larger, by how much, and is that chance?

Latencies have long tails and many ties, so nothing here assumes a shape. Pure
arithmetic of the standard library: the samples are small.

Source: Mann & Whitney 1947 (the test); van Elteren 1960 (strata); Vargha & Delaney
2000 (the A measure and its sizes); Hodges & Lehmann 1963 (the shift).
"""

import itertools
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

NORMAL = statistics.NormalDist()
Stratum = tuple[Sequence[float], Sequence[float]]
"""Earlier and later values that were taken under the same load."""


@dataclass(frozen=True, slots=True)
class RankTest:
    """Whether later values are larger than earlier ones.

    Attributes:
        p_value: Odds in [0, 1] that chance alone puts the later values as high, by
            the one-sided test.
        superiority: Vargha and Delaney's A in [0, 1]: the odds that a later value
            is larger than an earlier one, ties by half. 0.5 is no difference, 0.56
            a small one, 0.64 a medium and 0.71 a large one.
    """

    p_value: float
    superiority: float


def compare_ranks(strata: Iterable[Stratum]) -> RankTest:
    """Compare earlier with later values, each stratum by itself.

    A difference between strata then neither hides a shift nor is taken for one.

    Args:
        strata: Pairs of samples; those with an empty side tell nothing.

    Returns:
        The test over all strata; without values, one that sees no difference.
    """
    excess = variance = superiority = weights = 0.0
    for before, after in strata:
        if not before or not after:
            continue
        pairs, total = len(before) * len(after), len(before) + len(after)
        wins = _count_wins(before, after)
        # van Elteren's weights: best for a shift that is equal in all strata.
        weight = 1 / (total + 1)
        excess += weight * (wins - pairs / 2)
        variance += weight**2 * _variance(before, after)
        superiority += weight * wins
        weights += weight * pairs
    if not variance:
        return RankTest(p_value=1.0, superiority=0.5)
    p_value = NORMAL.cdf(-excess / math.sqrt(variance))
    return RankTest(p_value, superiority / weights)


def _count_wins(before: Sequence[float], after: Sequence[float]) -> float:
    """Return how many pairs have the larger value later, ties by half (U)."""
    marked = sorted([(value, 0) for value in before] + [(value, 1) for value in after])
    wins, earlier = 0.0, 0
    for _, group in itertools.groupby(marked, key=lambda pair: pair[0]):
        sides = [side for _, side in group]
        later = sum(sides)
        tied = len(sides) - later
        wins += later * (earlier + tied / 2)
        earlier += tied
    return wins


def _variance(before: Sequence[float], after: Sequence[float]) -> float:
    """Return the variance of U by chance, less for ties."""
    pairs, total = len(before) * len(after), len(before) + len(after)
    sizes = (
        len(list(group)) for _, group in itertools.groupby(sorted([*before, *after]))
    )
    ties = sum(size**3 - size for size in sizes)
    return pairs / 12 * (total + 1 - ties / (total * (total - 1)))


def shift(before: Sequence[float], after: Sequence[float]) -> float:
    """Return by how much the logarithms of later values lie above the earlier ones.

    The median over all pairs (Hodges and Lehmann); ``exp`` of it is a ratio. Values
    must be above zero, and neither sample empty. Cost is the product of the sizes.
    """
    earlier = [math.log(value) for value in before]
    return statistics.median(math.log(b) - a for b in after for a in earlier)


def thin(ordered: Sequence[float], size: int) -> list[float]:
    """Return at most ``size`` of ascending values, evenly spaced by rank.

    It keeps every quantile. A test on such values raises fewer false alarms than on
    as many drawn ones, since they scatter less.
    """
    if len(ordered) <= size:
        return list(ordered)
    return [ordered[int((rank + 0.5) * len(ordered) / size)] for rank in range(size)]
