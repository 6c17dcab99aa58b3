"""Whether memory grows with every round of the same work, and which lines grow.

The same work is done again and again; the first rounds fill caches and are not counted.
What is measured is what Python allocated and still holds after a collection, so the
numbers hardly vary between runs. The trend is the median of the slopes between all pairs
of rounds, which one odd round (a table that doubled) cannot bend, with the interval that
its ranks give.

Source: Sen, "Estimates of the regression coefficient based on Kendall's tau", Journal of
the American Statistical Association 63 (1968).
"""

import gc
import math
import statistics
import tracemalloc
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from test_framework.core import AlarmRecord, UsageError
from test_framework.detect.leaks.modules import relative_site

ROUNDS = 12
WARM_UP = 4
LEAST_BYTES = 256
"""Bytes per round that are worth telling: one short text with its place in a dict."""

_SIGMAS = 2.576
"""Of a two-sided interval of 99 %."""
_LINES = 3
_OURS = ("*/test_framework/detect/*", "*/tracemalloc.py", "<frozen *>")


@dataclass(frozen=True, slots=True)
class Trend:
    """How a quantity goes from round to round.

    Attributes:
        slope: Median of the slopes between all pairs of rounds.
        low: Lower end of its interval of 99 %.
        high: Upper end.
    """

    slope: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Growth:
    """How memory went over the rounds.

    Attributes:
        trend: Bytes per round.
        samples: Bytes held after each round that counted.
        lines: Where most of what was added was allocated: ``path:line`` and bytes per
            round, largest first.
        least_bytes: What was asked for.
    """

    trend: Trend
    samples: tuple[int, ...]
    lines: tuple[tuple[str, float], ...]
    least_bytes: int

    @property
    def is_growing(self) -> bool:
        """Whether it surely grows by as much as is worth telling."""
        return self.trend.low >= self.least_bytes

    def alarms(self) -> list[AlarmRecord]:
        """Return one alarm when it grows, else none."""
        if not self.is_growing:
            return []
        site = self.lines[0][0] if self.lines else "unknown"
        return [
            AlarmRecord(
                rule="memory-growth",
                level="error",
                claim=(
                    f"each round of the same work keeps {self.trend.slope:.0f} bytes "
                    f"(99 %: {self.trend.low:.0f} to {self.trend.high:.0f})"
                ),
                site=site,
                evidence=tuple(
                    f"{line} allocated {size:.0f} bytes per round that are still held"
                    for line, size in self.lines
                ),
                count=len(self.samples),
            )
        ]


async def measure_growth(
    work: Callable[[], Awaitable[object]],
    *,
    rounds: int = ROUNDS,
    warm_up: int = WARM_UP,
    least_bytes: int = LEAST_BYTES,
) -> Growth:
    """Do the same work again and again and return how memory went.

    Tracing makes allocation some three times slower and is off again afterwards.

    Args:
        work: One round: users who come, work and leave.
        rounds: Rounds that count (count, >= 6).
        warm_up: Rounds before them (count, >= 1).
        least_bytes: Growth per round that is worth telling (bytes, >= 1).

    Raises:
        UsageError: A number is too small, or somebody traces already.
    """
    for name, value, least in (
        ("rounds", rounds, 6),
        ("warm_up", warm_up, 1),
        ("least_bytes", least_bytes, 1),
    ):
        if value < least:
            message = f"{name}={value}: at least {least} is needed to see a trend."
            raise UsageError(message)
    if tracemalloc.is_tracing():
        message = (
            "tracemalloc is tracing already, and would count what was there before. "
            "Stop it, or unset PYTHONTRACEMALLOC."
        )
        raise UsageError(message)
    tracemalloc.start()
    try:
        for _ in range(warm_up):
            await work()
        gc.collect()
        before = tracemalloc.take_snapshot()
        samples = []
        for _ in range(rounds):
            await work()
            gc.collect()
            samples.append(tracemalloc.get_traced_memory()[0])
        after = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    return Growth(
        fit_trend(samples), tuple(samples), _lines(before, after, rounds), least_bytes
    )


def fit_trend(samples: Sequence[float]) -> Trend:
    """Return the slope per step of samples in order, with an interval of 99 %.

    Quadratic in the number of samples, of which there are few.

    Raises:
        UsageError: There are fewer than two.
    """
    count = len(samples)
    if count < 2:
        message = f"{count} sample(s) have no trend. Pass at least two."
        raise UsageError(message)
    slopes = sorted(
        (samples[later] - samples[first]) / (later - first)
        for first in range(count)
        for later in range(first + 1, count)
    )
    deviation = math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    outside = max(int((len(slopes) - _SIGMAS * deviation) / 2), 0)
    return Trend(statistics.median(slopes), slopes[outside], slopes[-1 - outside])


def _lines(
    before: tracemalloc.Snapshot, after: tracemalloc.Snapshot, rounds: int
) -> tuple[tuple[str, float], ...]:
    unwanted = [tracemalloc.Filter(inclusive=False, filename_pattern=p) for p in _OURS]
    differences = after.filter_traces(unwanted).compare_to(
        before.filter_traces(unwanted), "lineno"
    )
    grown = sorted(differences, key=lambda one: one.size_diff, reverse=True)
    return tuple(
        (
            relative_site(one.traceback[0].filename, one.traceback[0].lineno),
            one.size_diff / rounds,
        )
        for one in grown[:_LINES]
        if one.size_diff > 0
    )
