"""Does a series grow? A robust slope, and a test that flat noise seldom passes.

The slope is the median of the slopes of all pairs (Theil-Sen): a third of the values
may be outliers. The test counts pairs in rising order (Mann-Kendall), so it does not
care how noise is distributed; ties are allowed for. Rounds that follow one another are
alike, which makes chance look like a trend, so the variance is widened by the
correlation of neighbours. It is one-sided: what shrinks alarms nobody.

A tested window slides over the series round by round, so its tests are not
independent and the level is no rate per year; benchmarks and tests measure that rate.

Source: Mann 1945; Kendall 1975; Sen, JASA 1968; Yue & Wang, Water Resources
Management 2004 (variance under first-order correlation).
"""

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

LEVEL = 0.001
"""Odds that one test of flat noise passes."""
FEWEST = 30
"""Rounds without which nothing is tested (count)."""
WINDOW = 60
"""Latest rounds that are tested (count)."""
_GRAIN = 1e-9
"""What differs by less, as a share of the largest value, is equal."""


@dataclass(frozen=True, slots=True)
class Trend:
    """How a series moves.

    Attributes:
        slope: Units per step.
        start: Where the fitted line begins, in units.
        growth: Units over the whole series, by the fitted line.
        p_value: Odds of rising pairs as many as these in flat noise, in [0, 1].
    """

    slope: float
    start: float
    growth: float
    p_value: float

    @property
    def relative_growth(self) -> float:
        """Growth as a share of the start; infinite from zero or below."""
        return self.growth / self.start if self.start > 0 else math.inf


def measure_trend(values: Sequence[float]) -> Trend:
    """Return the trend of equally spaced values (count >= 3).

    Cost is quadratic in the count.
    """
    pairs = list(itertools.combinations(range(len(values)), 2))
    slope = statistics.median((values[j] - values[i]) / (j - i) for i, j in pairs)
    rest = [value - slope * i for i, value in enumerate(values)]
    rising = sum((values[j] > values[i]) - (values[j] < values[i]) for i, j in pairs)
    grain = _GRAIN * max(map(abs, values)) or 1.0
    variance = _variance(values) * _widening(rest, grain)
    if rising <= 0 or variance <= 0:
        p_value = 1.0
    else:
        # Less one: the count moves in steps of two.
        p_value = math.erfc((rising - 1) / math.sqrt(2 * variance)) / 2
    return Trend(
        slope=slope,
        start=statistics.median(rest),
        growth=slope * (len(values) - 1),
        p_value=p_value,
    )


def _variance(values: Sequence[float]) -> float:
    """Return the variance of the count of rising pairs in noise, ties allowed for."""

    def spread(count: int) -> int:
        return count * (count - 1) * (2 * count + 5)

    ties = sum(spread(count) for count in Counter(values).values())
    return (spread(len(values)) - ties) / 18


def _widening(rest: Sequence[float], grain: float) -> float:
    """Return how much more the count varies because neighbours are alike."""
    count = len(rest)
    # By rank: one outlier would hide the correlation of all the others.
    ranks = _ranks(rest, grain)
    power = sum(rank * rank for rank in ranks)
    if power == 0:
        return 1.0
    r = sum(a * b for a, b in itertools.pairwise(ranks)) / power
    if r <= 0:  # neighbours that differ more than chance would only narrow it
        return 1.0
    r = min(r, 0.95)
    return 1 + 2 * sum((1 - lag / count) * r**lag for lag in range(1, count))


def _ranks(values: Sequence[float], grain: float) -> list[float]:
    """Return the rank of each value about the middle; equal ones share theirs.

    What differs by rounding is equal: ranked in order it would look like a trend.
    """
    steps = [round(value / grain) for value in values]
    places: dict[int, list[int]] = {}
    for place, step in enumerate(sorted(steps)):
        places.setdefault(step, []).append(place)
    middle = (len(values) - 1) / 2
    return [(places[step][0] + places[step][-1]) / 2 - middle for step in steps]
