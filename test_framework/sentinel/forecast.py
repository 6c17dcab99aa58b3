"""At how many users does a service reach its limit? From what rounds have seen.

By the Universal Scalability Law throughput is ``l N / (1 + s (N - 1) + k N (N - 1))``
for contention ``s`` and coherency ``k``; by Little's law the time of an answer is ``N``
over that, so it is ``a + b (N - 1) + c N (N - 1)`` with nothing below zero. That is
fitted to the median of each level of load, by least squares; the use of a pool grows
in a straight line, so it has no ``c``. The interval is that of refits to rounds drawn
again with replacement.

An extrapolation is worth what its data are: too few levels or rounds, loads too alike
or no growth at all are refused with a sentence. Users here are concurrent synthetic
users beside the people that are there anyway, unless the service's own gauge of
requests in flight is read.

Source: Gunther, "Guerrilla Capacity Planning", 2007; Efron, Annals of Statistics 1979.
"""

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

Point = tuple[float, float]
"""A load and what was measured under it."""

FEWEST_LEVELS = 3
FEWEST_AT_A_LEVEL = 3
LEAST_SPREAD = 2.0
FARTHEST = 20.0
"""What lies beyond so many times the largest load seen is not told as a number."""
_MOST_LEVELS = 8
_MOST_AT_A_LEVEL = 50
"""The latest rounds; older ones may be of another release."""
_REFITS = 200
_EDGES = (0.05, 0.95)


@dataclass(frozen=True, slots=True)
class Forecast:
    """Where a curve crosses its limit.

    Attributes:
        estimate: Load at the crossing.
        low: 5th percentile of the refits.
        high: 95th percentile; infinite when some refits never cross.
    """

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no forecast, as a sentence."""

    reason: str


def foretell(
    points: Sequence[Point],
    *,
    limit: float,
    rng: random.Random,
    is_linear: bool = False,
) -> Forecast | Refusal:
    """Return the load at which measurements reach ``limit``.

    Args:
        points: What rounds measured, oldest first.
        limit: In the unit of the measurements.
        rng: Source of the refits.
        is_linear: Whether the measurement grows in a straight line.
    """
    levels = _levels(points)
    if len(levels) < FEWEST_LEVELS:
        return Refusal(
            f"{len(levels)} levels of load have {FEWEST_AT_A_LEVEL} rounds or more; a "
            f"curve needs {FEWEST_LEVELS}. Pass --ramp 5,10,20 and wait."
        )
    loads = sorted(levels)
    if loads[-1] < LEAST_SPREAD * loads[0]:
        return Refusal(
            f"The loads lie between {loads[0]:g} and {loads[-1]:g}; a curve needs one "
            f"at least {LEAST_SPREAD:g} times another."
        )
    estimate = _crossing(levels, limit, is_linear=is_linear)
    if estimate > FARTHEST * loads[-1]:
        return Refusal(
            f"Nothing that was measured up to {loads[-1]:g} users points at the limit "
            f"before {FARTHEST * loads[-1]:g}."
        )
    refits = sorted(
        _crossing(
            {
                load: rng.choices(values, k=len(values))
                for load, values in levels.items()
            },
            limit,
            is_linear=is_linear,
        )
        for _ in range(_REFITS)
    )
    low, high = (refits[int(edge * (_REFITS - 1))] for edge in _EDGES)
    return Forecast(estimate, min(low, estimate), max(high, estimate))


def _levels(points: Sequence[Point]) -> dict[float, list[float]]:
    """Group the points by load; loads that hardly repeat are put together by rank."""
    levels: dict[float, list[float]] = {}
    if len({load for load, _ in points}) <= _MOST_LEVELS:
        for load, value in points:
            levels.setdefault(load, []).append(value)
    else:
        ordered = sorted(points[-_MOST_LEVELS * _MOST_AT_A_LEVEL :])
        size = math.ceil(len(ordered) / _MOST_LEVELS)
        for start in range(0, len(ordered), size):
            group = ordered[start : start + size]
            load = statistics.median(load for load, _ in group)
            levels.setdefault(load, []).extend(value for _, value in group)
    return {
        load: values[-_MOST_AT_A_LEVEL:]
        for load, values in levels.items()
        if len(values) >= FEWEST_AT_A_LEVEL
    }


def _crossing(
    levels: dict[float, list[float]], limit: float, *, is_linear: bool
) -> float:
    """Return where the fitted curve reaches the limit; infinite when it does not."""
    points = [(load, statistics.median(values)) for load, values in levels.items()]
    a, b, c = _fit(points, is_linear=is_linear)
    # a + b (N - 1) + c N (N - 1) = limit
    square, line, rest = c, b - c, a - b - limit
    if square > 0:
        root = line * line - 4 * square * rest
        return (-line + math.sqrt(root)) / (2 * square) if root >= 0 else 0.0
    if b > 0:
        return max(0.0, -rest / b)
    return math.inf if a < limit else 0.0


def _fit(points: Sequence[Point], *, is_linear: bool) -> tuple[float, float, float]:
    """Return a, b and c of the least squares in which none is below zero.

    With three columns the best of all choices of columns is found by trying them.
    """
    columns = [
        [1.0 for _ in points],
        [load - 1 for load, _ in points],
        [load * (load - 1) for load, _ in points],
    ]
    values = [value for _, value in points]
    best, best_error = (statistics.median(values), 0.0, 0.0), math.inf
    choices = [(0,), (0, 1), (1,)] if is_linear else _CHOICES
    for chosen in choices:
        solved = _least_squares([columns[i] for i in chosen], values)
        if solved is None or min(solved) < 0:
            continue
        weights = dict(zip(chosen, solved, strict=True))
        full = tuple(weights.get(i, 0.0) for i in range(3))
        error = sum(
            (sum(w * column[n] for w, column in zip(full, columns, strict=True)) - v)
            ** 2
            for n, v in enumerate(values)
        )
        if error < best_error:
            best, best_error = (full[0], full[1], full[2]), error
    return best


_CHOICES = [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]


def _least_squares(
    columns: Sequence[Sequence[float]], values: Sequence[float]
) -> list[float] | None:
    """Solve the normal equations; None when the columns are not independent."""
    rows = [
        [
            *(sum(x * y for x, y in zip(one, other, strict=True)) for other in columns),
            sum(x * v for x, v in zip(one, values, strict=True)),
        ]
        for one in columns
    ]
    size = len(rows)
    for at in range(size):
        pivot = max(range(at, size), key=lambda row: abs(rows[row][at]))
        rows[at], rows[pivot] = rows[pivot], rows[at]
        if abs(rows[at][at]) < _TINY:
            return None
        for row in range(size):
            if row != at:
                factor = rows[row][at] / rows[at][at]
                rows[row] = [
                    x - factor * y for x, y in zip(rows[row], rows[at], strict=True)
                ]
    return [rows[at][-1] / rows[at][at] for at in range(size)]


_TINY = 1e-12
