"""The latencies of a run, kept to hold later runs against.

A baseline has, for each endpoint and traffic shape, up to 25 latencies that stand for
all of them (evenly spaced by rank), the conditions they were measured under, and how
long the machine took for a fixed piece of work. ``regression`` compares.

What cannot be compared is refused, and not compared blindly: other conditions are the
caller's mistake; a machine more than half as slow again, or as fast, is told as a
warning.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from test_framework.check.ranks import thin
from test_framework.check.regression import Cell, Drift, Regression, compare_runs
from test_framework.check.timing import is_measured, percentile
from test_framework.core import (
    NS_PER_MS,
    AlarmRecord,
    History,
    Level,
    Operation,
    UsageError,
    WatchRecord,
)

SLOWER = "slower-than-baseline"
ALL_SLOWER = "slower-throughout"
OTHER_MACHINE = "baseline-of-another-machine"

Conditions = Mapping[str, str | int]

_SAMPLE = 25
_FEWEST = 10
_SAME_MACHINE = 1.5
_ALL_SLOWER = 2.0
"""Two audits of one service on a busy machine differ by up to 1.6."""


@dataclass(frozen=True, slots=True)
class Timings:
    """The latencies of one endpoint, in milliseconds.

    Attributes:
        count: Answers measured.
        p50_ms: Median.
        p95_ms: 95th percentile.
        p99_ms: 99th percentile.
        samples_ms: At most 25 latencies per traffic shape, ascending.
    """

    count: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    samples_ms: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Baseline:
    """The latencies of one run.

    Attributes:
        conditions: What a run must share to be compared: target, users, shapes, ...
        calibration_ms: Time that the machine took, see ``core.calibration``.
        endpoints: Latencies by method and path template.
    """

    conditions: Conditions
    calibration_ms: float
    endpoints: Mapping[str, Timings]

    @property
    def cells(self) -> dict[Cell, tuple[float, ...]]:
        """Samples by endpoint and shape."""
        return {
            (endpoint, shape): sample
            for endpoint, timings in self.endpoints.items()
            for shape, sample in timings.samples_ms.items()
        }

    def require(self, conditions: Conditions) -> None:
        """Do nothing when a run under these conditions can be compared.

        Raises:
            UsageError: It cannot; the message names what differs.
        """
        names = [*self.conditions, *(conditions.keys() - self.conditions.keys())]
        differing = [
            f"{name} was {self.conditions.get(name)!r} and is {conditions.get(name)!r}"
            for name in names
            if self.conditions.get(name) != conditions.get(name)
        ]
        if differing:
            message = (
                f"The baseline is of another kind of run: {'; '.join(differing)}. Run "
                "it alike, name another file, or pass --update-baseline to replace it."
            )
            raise UsageError(message)


def take_baseline(
    history: History, conditions: Conditions, *, calibration_ms: float
) -> Baseline:
    """Return the baseline of a finished run."""
    latencies: dict[str, dict[str, list[float]]] = defaultdict(dict)
    for operation in history.of(Operation):
        # Latencies are compared by their logarithm.
        if is_measured(operation) and operation.latency_ns > 0:
            by_shape = latencies[operation.endpoint]
            by_shape.setdefault(operation.shape, []).append(
                operation.latency_ns / NS_PER_MS
            )
    return Baseline(
        conditions=dict(conditions),
        calibration_ms=_rounded(calibration_ms),
        endpoints={name: _timings(latencies[name]) for name in sorted(latencies)},
    )


def _timings(by_shape: Mapping[str, list[float]]) -> Timings:
    ordered = sorted(value for values in by_shape.values() for value in values)
    return Timings(
        count=len(ordered),
        p50_ms=_rounded(percentile(ordered, 0.50)),
        p95_ms=_rounded(percentile(ordered, 0.95)),
        p99_ms=_rounded(percentile(ordered, 0.99)),
        samples_ms={
            shape: tuple(_rounded(value) for value in thin(sorted(values), _SAMPLE))
            for shape, values in by_shape.items()
            if len(values) >= _FEWEST
        },
    )


def _rounded(value_ms: float) -> float:
    # Four digits are more than a latency means, and never zero.
    return float(f"{value_ms:.4g}")


def compare_baselines(
    before: Baseline, after: Baseline, *, level: Level = "warning"
) -> Iterator[AlarmRecord | WatchRecord]:
    """Yield what became slower, and at last what was compared.

    Args:
        before: The earlier run.
        after: The later run, under the same conditions.
        level: How much an endpoint that became slower matters: ``error`` voids the
            run.
    """
    machine = after.calibration_ms / before.calibration_ms
    if not 1 / _SAME_MACHINE <= machine <= _SAME_MACHINE:
        yield _other_machine(before, after)
        yield WatchRecord("baseline", unwatched=("the machine is another one",))
        return
    drift = compare_runs(before.cells, after.cells, machine=machine)
    for regression in drift.regressions:
        yield _slower(regression, drift, before, after, level)
    if drift.common > _ALL_SLOWER * max(1, machine):
        yield _all_slower(drift, machine)
    yield WatchRecord(
        "baseline",
        watched=tuple(sorted({name for name, _ in before.cells.keys() & after.cells})),
        unwatched=tuple(_not_compared(before, after)),
        facts={
            "endpoints": drift.endpoints,
            "noise_percent": round(100 * (drift.noise - 1)),
        },
    )


def _not_compared(before: Baseline, after: Baseline) -> Iterator[str]:
    compared = {endpoint for endpoint, _ in before.cells.keys() & after.cells}
    for endpoint in sorted(before.endpoints.keys() | after.endpoints.keys()):
        if endpoint in compared:
            continue
        if endpoint not in before.endpoints:
            yield f"{endpoint} is new"
        elif endpoint not in after.endpoints:
            yield f"{endpoint} was not used this time"
        else:
            yield f"{endpoint} has too few answers in any one traffic shape"


def _slower(
    regression: Regression,
    drift: Drift,
    before: Baseline,
    after: Baseline,
    level: Level,
) -> AlarmRecord:
    endpoint = regression.endpoint
    was, now = before.endpoints[endpoint], after.endpoints[endpoint]
    return AlarmRecord(
        rule=SLOWER,
        level=level,
        claim=f"{endpoint} takes {regression.ratio:.2f} times as long as in the "
        "baseline",
        site=endpoint,
        evidence=(
            _percentiles("Let   ", was),
            _percentiles("And   ", now),
            (
                f"Then   {regression.superiority:.0%} of pairs are slower now, in "
                f"{regression.shapes} traffic shapes; other endpoints changed by a factor "
                f"of {drift.common:.2f}, give or take {drift.noise - 1:.0%}."
            ),
            (
                f"Odds   of this by chance: {regression.odds:.1g}, among "
                f"{drift.endpoints} endpoints."
            ),
        ),
    )


def _percentiles(word: str, timings: Timings) -> str:
    return (
        f"{word} P50 {timings.p50_ms:.1f} ms, P95 {timings.p95_ms:.1f} ms, "
        f"P99 {timings.p99_ms:.1f} ms of {timings.count} answers "
        f"{'before' if word.startswith('Let') else 'now'}."
    )


def _all_slower(drift: Drift, machine: float) -> AlarmRecord:
    return AlarmRecord(
        rule=ALL_SLOWER,
        level="warning",
        claim=f"all endpoints together take {drift.common:.2f} times as long as in the "
        "baseline",
        site="*",
        evidence=(
            (
                f"Let    {drift.common:.2f} = the typical ratio over {drift.endpoints} "
                "endpoints."
            ),
            (
                f"Then   the machine's own work took {machine:.2f} times as long: that is "
                "not why."
            ),
        ),
    )


def _other_machine(before: Baseline, after: Baseline) -> AlarmRecord:
    return AlarmRecord(
        rule=OTHER_MACHINE,
        level="warning",
        claim="latencies were not compared: this machine is not as fast as the one of "
        "the baseline",
        site="*",
        evidence=(
            (
                f"Let    {before.calibration_ms:.1f} ms = a fixed piece of work on the "
                "machine of the baseline."
            ),
            (
                f"Then   it took {after.calibration_ms:.1f} ms here; up to "
                f"{_SAME_MACHINE} times either way can be compared."
            ),
        ),
    )
