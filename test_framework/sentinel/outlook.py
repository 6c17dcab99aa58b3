"""What the rounds so far say of the time to come: slopes, and where limits lie."""

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from test_framework.sentinel.forecast import Forecast, Refusal, foretell
from test_framework.sentinel.rounds import Round
from test_framework.sentinel.symptoms import Symptom, Tier
from test_framework.sentinel.trend import FEWEST, LEVEL, WINDOW, Trend, measure_trend

P95_TREND = "p95-trend"
MEMORY_TREND = "memory-trend"
LEFT_BEHIND_TREND = "left-behind-trend"

_MB = 2**20


@dataclass(frozen=True, slots=True)
class Gate:
    """How much growth over the window matters; a slope may be certain and tiny.

    Attributes:
        share: Least growth as a share of the start.
        units: Least growth in the unit of the series.
    """

    share: float
    units: float

    def is_passed_by(self, trend: Trend, level: float) -> bool:
        """Tell whether a trend is both certain and large."""
        return (
            trend.p_value < level
            and trend.growth >= self.units
            and trend.relative_growth >= self.share
        )


_P95_GATE = Gate(share=0.5, units=50.0)  # ms
_MEMORY_GATE = Gate(share=0.1, units=16.0 * _MB)
_LEFT_BEHIND_GATE = Gate(share=0.0, units=3.0)


def find_trends(rounds: Sequence[Round], *, users: int) -> list[Symptom]:
    """Return what grows over the latest ordinary rounds that count.

    Args:
        rounds: In order.
        users: Users of an ordinary round; with more, everything is slower.
    """
    window = [one for one in rounds if one.is_conclusive and one.users == users]
    window = window[-WINDOW:]
    if len(window) < FEWEST:
        return []
    return [*_slower(window), *_growing(window)]


def _slower(window: Sequence[Round]) -> Iterator[Symptom]:
    series: dict[str, list[float]] = defaultdict(list)
    for one in window:
        for endpoint, p95_ms in one.p95_ms.items():
            series[endpoint].append(p95_ms)
    tested = {name: values for name, values in series.items() if len(values) >= FEWEST}
    passed = []
    for endpoint, values in tested.items():
        trend = measure_trend(values)
        # So many tests at once are so many chances to be wrong.
        if _P95_GATE.is_passed_by(trend, LEVEL / len(tested)):
            passed.append((trend.relative_growth, endpoint, trend, len(values)))
    if not passed:
        return
    passed.sort(reverse=True)
    lines = tuple(
        f"{endpoint}: from {trend.start:.0f} to {trend.start + trend.growth:.0f} ms "
        f"in {count} rounds (p = {trend.p_value:.1g})"
        for _, endpoint, trend, count in passed
    )
    yield Symptom(
        key=P95_TREND,
        tier=Tier.TREND,
        title="answers become slower",
        claim=f"P95 of {lines[0]}",
        evidence=lines,
        fix="Look for tables, caches or queues that grow, and for what was released "
        "when it began.",
    )


def _growing(window: Sequence[Round]) -> Iterator[Symptom]:
    memory = [one.memory_bytes for one in window if one.memory_bytes is not None]
    if len(memory) >= FEWEST:
        trend = measure_trend(memory)
        if _MEMORY_GATE.is_passed_by(trend, LEVEL):
            yield Symptom(
                key=MEMORY_TREND,
                tier=Tier.TREND,
                title="the service's memory grows",
                claim=f"From {trend.start / _MB:.0f} to "
                f"{(trend.start + trend.growth) / _MB:.0f} MB in {len(memory)} rounds "
                f"(p = {trend.p_value:.1g})",
                fix="Look for registries, caches and tasks that outlive a request.",
            )
    left = [float(one.left_behind) for one in window]
    trend = measure_trend(left)
    if _LEFT_BEHIND_GATE.is_passed_by(trend, LEVEL):
        yield Symptom(
            key=LEFT_BEHIND_TREND,
            tier=Tier.TREND,
            title="more and more is left behind by users that have gone",
            claim=f"From {trend.start:.0f} to {trend.start + trend.growth:.0f} things "
            f"in {len(left)} rounds (p = {trend.p_value:.1g})",
            fix="See 'isolation-audit explain left-behind'.",
        )


def forecast_capacity(
    rounds: Sequence[Round],
    *,
    gates_s: Mapping[str, float],
    pool_size: float | None,
    seed: int,
) -> dict[str, Forecast | Refusal]:
    """Return at which load P95 and the pool reach their limits.

    Args:
        rounds: In order.
        gates_s: Largest P95 per endpoint, ``"*"`` for all others, in seconds.
        pool_size: Connections that the pool has; None when it is not known.
        seed: Of the refits.

    Returns:
        ``p95``, of the endpoint that gets there first, and ``pool`` if it is known.
    """
    rng = random.Random(seed)
    counted = [one for one in rounds if one.is_conclusive]
    points: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for one in counted:
        for endpoint, p95_ms in one.p95_ms.items():
            if gates_s.get(endpoint, gates_s.get("*")) is not None:
                points[endpoint].append((_load(one), p95_ms))
    found: list[Forecast | Refusal] = [
        foretell(
            values, limit=1000 * gates_s.get(endpoint, gates_s.get("*", 0.0)), rng=rng
        )
        for endpoint, values in sorted(points.items())
    ]
    told = {"p95": _first(found)}
    if pool_size is not None:
        uses = [
            (_load(one), one.pool_use) for one in counted if one.pool_use is not None
        ]
        told["pool"] = foretell(uses, limit=pool_size, rng=rng, is_linear=True)
    return told


def _load(one: Round) -> float:
    return float(one.users) if one.load is None else one.load


def _first(found: Sequence[Forecast | Refusal]) -> Forecast | Refusal:
    forecasts = [one for one in found if isinstance(one, Forecast)]
    if forecasts:
        return min(forecasts, key=lambda one: one.estimate)
    return found[0] if found else Refusal("No endpoint with a gate was measured.")
