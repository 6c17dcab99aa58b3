"""How long did answers take, which are too slow, and did innocents wait?

Latency runs from the last byte sent to the end of the answer, so a burst's own
holding back does not count. Anomalies are told by two measures: farther than two
standard deviations from the mean (the older custom, which one outlier can hide
from), and a modified z-score over 3.5 by median and MAD, which it cannot.
Anomalies are figures for the reader, never findings; gates are findings.

Source: Iglewicz & Hoaglin, "How to Detect and Handle Outliers", 1993 (MAD, 3.5).
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from test_framework.check.faults.windows import is_under_fault
from test_framework.check.sighting import Sighting
from test_framework.core import (
    NS_PER_MS,
    NS_PER_S,
    VISITOR,
    History,
    Operation,
)

MAD_LIMIT = 3.5
MAD_TO_SIGMA = 0.6745
_SIGMA_LIMIT = 2.0
_SLOWED_FACTOR = 10
_SLOWED_FLOOR_NS = 2 * NS_PER_S
ENOUGH = 20


@dataclass(frozen=True, slots=True)
class Latency:
    """Latencies of one endpoint, in milliseconds.

    Attributes:
        endpoint: Method and path template.
        count: Answers measured.
        p50_ms: Median.
        p95_ms: 95th percentile.
        p99_ms: 99th percentile.
        max_ms: Largest.
        anomalies_sigma: Answers beyond two standard deviations above the mean.
        anomalies_mad: Answers with a modified z-score over 3.5.
    """

    endpoint: str
    count: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    anomalies_sigma: int
    anomalies_mad: int

    def percentile_ms(self, rank: int) -> float:
        """Return the 50th, 95th or 99th percentile."""
        return {50: self.p50_ms, 95: self.p95_ms, 99: self.p99_ms}[rank]


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """Return the nearest-rank percentile of ascending values (count >= 1)."""
    return ordered[max(0, math.ceil(len(ordered) * fraction) - 1)]


def count_anomalies(values: Sequence[float]) -> tuple[int, int]:
    """Return how many values lie too high by sigma and by MAD."""
    if len(values) < ENOUGH:
        return 0, 0
    mean, deviation = statistics.fmean(values), statistics.pstdev(values)
    median = statistics.median(values)
    mad = statistics.median(abs(value - median) for value in values)
    by_sigma = sum(value > mean + _SIGMA_LIMIT * deviation for value in values)
    by_mad = sum(
        mad > 0 and MAD_TO_SIGMA * (value - median) / mad > MAD_LIMIT
        for value in values
    )
    return by_sigma, by_mad


def measure_latencies(history: History) -> list[Latency]:
    """Return the latencies of every endpoint, slowest P95 first."""
    return sorted(
        (_latency(endpoint, values) for endpoint, values in _grouped(history).items()),
        key=lambda latency: (-latency.p95_ms, latency.endpoint),
    )


def _latency(endpoint: str, values: list[float]) -> Latency:
    values.sort()
    by_sigma, by_mad = count_anomalies(values)
    return Latency(
        endpoint=endpoint,
        count=len(values),
        p50_ms=percentile(values, 0.50),
        p95_ms=percentile(values, 0.95),
        p99_ms=percentile(values, 0.99),
        max_ms=values[-1],
        anomalies_sigma=by_sigma,
        anomalies_mad=by_mad,
    )


def is_measured(operation: Operation) -> bool:
    """Whether an operation's latency is the service's own doing."""
    return (
        operation.channel == "http"
        and operation.user != VISITOR
        and not operation.disturbed
        and not operation.cached
        and operation.outcome != "info"
        # A slow reader's answer lasts as long as the reader likes.
        and operation.shape != "streaming"
        and not is_under_fault(operation.shape)
    )


def _grouped(history: History) -> dict[str, list[float]]:
    groups: dict[str, list[float]] = defaultdict(list)
    for operation in history.of(Operation):
        if is_measured(operation):
            groups[operation.endpoint].append(operation.latency_ns / NS_PER_MS)
    return groups


def check_gates(
    latencies: Sequence[Latency], gates_s: Mapping[int, Mapping[str, float]]
) -> Iterator[Sighting]:
    """Yield each endpoint with a percentile over its gate.

    Args:
        latencies: What was measured.
        gates_s: Largest seconds per endpoint (``"*"`` is for all others), by
            percentile: 50, 95 or 99. Percentiles are nearest ranks, so a P99 of fewer
            than a hundred answers is the slowest one.
    """
    for latency in latencies:
        for rank, limits_s in sorted(gates_s.items()):
            gate_s = limits_s.get(latency.endpoint, limits_s.get("*"))
            took_ms = latency.percentile_ms(rank)
            if gate_s is None or took_ms <= gate_s * 1000:
                continue
            yield Sighting(
                rule=f"p{rank}-gate",
                claim=f"{latency.endpoint} has a P{rank} of {took_ms / 1000:.2f} s",
                victim=None,
                observer=None,
                channel="http",
                surface=latency.endpoint,
                at_ns=2**62,
                evidence=(
                    f"Let    P{rank} of {latency.count} answers = {took_ms:.0f} ms.",
                    f"Then   it is over the gate of {gate_s * 1000:.0f} ms.",
                ),
            )


def check_slowed(history: History) -> Iterator[Sighting]:
    """Yield endpoints that slowed down for bystanders while others walked away.

    Slow means a P95 over two seconds and ten times the one of the other shapes: a
    busy machine slows both, so only a gross change counts.
    """
    calm: dict[str, list[int]] = defaultdict(list)
    disturbed: dict[str, list[int]] = defaultdict(list)
    for operation in history.of(Operation):
        if is_measured(operation):
            groups = disturbed if operation.shape == "disconnects" else calm
            groups[operation.endpoint].append(operation.latency_ns)
    for endpoint, values in disturbed.items():
        if len(values) < ENOUGH or len(calm[endpoint]) < ENOUGH:
            continue
        now = percentile(sorted(values), 0.95)
        before = percentile(sorted(calm[endpoint]), 0.95)
        if now > _SLOWED_FLOOR_NS and now > _SLOWED_FACTOR * before:
            yield Sighting(
                rule="bystander-slowed",
                claim=f"{endpoint} became {now / before:.0f} times slower for "
                "bystanders while others walked away",
                victim=None,
                observer=None,
                channel="http",
                surface=endpoint,
                at_ns=2**62,
                evidence=(
                    (
                        f"Let    P95 of {endpoint} = {before / NS_PER_MS:.0f} ms while "
                        "nobody walked away."
                    ),
                    (
                        f"Then   it was {now / NS_PER_MS:.0f} ms for undisturbed users "
                        "while others did."
                    ),
                ),
            )
