"""Which endpoints became slower than in an earlier run, beyond what runs differ by?

Answers of one run are no independent draws: a crowd that waits in one queue is slow
together, and a busy machine slows whole phases. Two runs of one service on one machine
therefore differ "significantly" in half of their endpoints, by any test that takes
each answer for an observation (measured: 36 of 66 pairs of runs raise an alarm by
Mann-Whitney with Bonferroni's correction). So the run tells its own noise:

1. A *cell* is one endpoint in one traffic shape. Its shift is the typical ratio of
   later to earlier latencies, as a logarithm.
2. What all endpoints of a shape have in common is the machine and the load: the
   median shift of a shape is taken away from its cells. A shape of fewer than four
   endpoints has no such witness, and its cells count for as little as that is worth.
3. What is left would be zero. How far it scatters, over all cells, is the noise.
4. An endpoint is slower when the (weighted) mean of its cells stands out of that noise with odds
   under 1 in 1,000 for all endpoints together, and when the rank test on its answers
   agrees: a few that scatter widely may shift far. Samples are small, so no effect that
   Vargha and Delaney call negligible passes it.

Nothing is to be tuned: on a quiet machine the noise is small and a third more time is
seen, on a busy one it is large and nobody is woken (of those 66 pairs, compared both
ways, none raises an alarm). What slows *all* endpoints alike
cannot be told from a busy machine by this; it is told as such, with the machine's own
calibration beside it.

Source: Tukey 1977 (median polish: step 2); Rousseeuw & Croux 1993 (Qn: step 3);
``ranks`` for the tests.
"""

import itertools
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from test_framework.check.ranks import (
    NORMAL,
    compare_ranks,
    shift,
)

Cell = tuple[str, str]
"""Endpoint and traffic shape."""

_ODDS = 0.001
_RANK_ODDS = 0.01
_FEWEST_PEERS = 4
"""A median of fewer cells is the regression itself."""
_FEWEST_CELLS = 12
_NOISE_UNKNOWN = 0.4
"""What whole phases of the reference service differ by on a busy machine."""
_LEAST_NOISE = 0.05
_QN_TO_SIGMA = 2.2219


@dataclass(frozen=True, slots=True)
class Regression:
    """An endpoint that became slower.

    Attributes:
        endpoint: Method and path template.
        ratio: Typical later latency divided by the earlier one, less what all
            endpoints have in common.
        superiority: Odds that a later answer was slower than an earlier one.
        odds: Odds of this by chance, before the correction for many endpoints.
        shapes: In how many traffic shapes it was compared.
    """

    endpoint: str
    ratio: float
    superiority: float
    odds: float
    shapes: int


@dataclass(frozen=True, slots=True)
class Drift:
    """How two runs differ.

    Attributes:
        regressions: Endpoints that became slower, worst first.
        common: Typical ratio over all cells: the machine, the load, or a change that
            slows everything.
        noise: By which factor cells scatter beyond that (one standard deviation).
        endpoints: How many endpoints were compared.
    """

    regressions: tuple[Regression, ...]
    common: float
    noise: float
    endpoints: int


def compare_runs(
    before: Mapping[Cell, Sequence[float]],
    after: Mapping[Cell, Sequence[float]],
    *,
    machine: float = 1.0,
) -> Drift:
    """Compare the latencies of two runs, cell by cell.

    Args:
        before: Latencies of the earlier run, above zero, in any unit.
        after: Those of the later run; cells that only one run has are left alone.
        machine: By which factor the later machine is slower; stands for what the
            endpoints of a shape have in common where they are too few to tell.

    Returns:
        The difference. Cost is the sum over cells of the product of their sizes.
    """
    shifts = {
        cell: shift(before[cell], after[cell]) for cell in before if cell in after
    }
    if not shifts:
        return Drift((), 1.0, 1.0, 0)
    common = _common_shifts(shifts)
    rest = {
        cell: value - common.get(cell[1], math.log(machine))
        for cell, value in shifts.items()
    }
    noise = _noise([value for (_, shape), value in rest.items() if shape in common])
    by_endpoint: dict[str, list[Cell]] = defaultdict(list)
    for cell in rest:
        by_endpoint[cell[0]].append(cell)
    found = []
    for endpoint, cells in by_endpoint.items():
        # Precision: a shape with few endpoints is as noisy as whole phases are.
        weights = {
            cell: (noise if cell[1] in common else max(noise, _NOISE_UNKNOWN)) ** -2
            for cell in cells
        }
        total = sum(weights.values())
        mean = sum(rest[cell] * weights[cell] for cell in cells) / total
        odds = NORMAL.cdf(-mean * math.sqrt(total))
        if odds > _ODDS / len(by_endpoint):
            continue
        ranks = compare_ranks(
            (before[cell], _without(after[cell], shifts[cell] - rest[cell]))
            for cell in cells
        )
        if ranks.p_value <= _RANK_ODDS:
            found.append(
                Regression(
                    endpoint, math.exp(mean), ranks.superiority, odds, len(cells)
                )
            )
    return Drift(
        regressions=tuple(sorted(found, key=lambda one: -one.ratio)),
        common=math.exp(statistics.median(shifts.values())),
        noise=math.exp(noise),
        endpoints=len(by_endpoint),
    )


def _common_shifts(shifts: Mapping[Cell, float]) -> dict[str, float]:
    """Return what the cells of each traffic shape have in common, where it shows."""
    by_shape: dict[str, list[float]] = defaultdict(list)
    for (_, shape), value in shifts.items():
        by_shape[shape].append(value)
    return {
        shape: statistics.median(values)
        for shape, values in by_shape.items()
        if len(values) >= _FEWEST_PEERS
    }


def _noise(rest: Sequence[float]) -> float:
    """Return the standard deviation of cells, from what is left of them.

    Qn: half of the cells may be slower by any factor, and it needs half as many cells
    as the median deviation for the same certainty. Cost is their number squared.
    """
    if len(rest) < _FEWEST_CELLS:
        return _NOISE_UNKNOWN
    distances = sorted(abs(a - b) for a, b in itertools.combinations(rest, 2))
    size = len(rest)
    nth = math.comb(size // 2 + 1, 2)
    small_sample = size / (size + (1.4 if size % 2 else 3.8))
    return max(small_sample * _QN_TO_SIGMA * distances[nth - 1], _LEAST_NOISE)


def _without(values: Sequence[float], common: float) -> list[float]:
    factor = math.exp(common)
    return [value / factor for value in values]
