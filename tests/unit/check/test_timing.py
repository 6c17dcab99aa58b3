"""Timing: percentiles, anomalies and gates."""

import pytest

from test_framework.check import check_gates, check_slowed, judge, measure_latencies
from test_framework.check.timing import count_anomalies, percentile
from test_framework.core import PolicyRecord
from tests.unit.check.builder import Builder, whole_run


@pytest.mark.parametrize(
    ("fraction", "expected"), [(0.5, 50.0), (0.95, 95.0), (0.99, 99.0)]
)
def test_percentile_is_the_nearest_rank(fraction: float, expected: float) -> None:
    """Of 1 to 100, the 95th percentile is 95."""
    assert percentile([float(n) for n in range(1, 101)], fraction) == expected


def test_percentile_of_one_value_is_that_value() -> None:
    """One answer is its own percentile."""
    assert percentile([3.0], 0.95) == 3.0


@pytest.mark.power
def test_outlier_hidden_from_sigma_is_seen_by_mad() -> None:
    """Five huge values widen sigma so far that it misses a large one; MAD does not."""
    values = [10.0 + n % 3 for n in range(100)] + [100.0] + [5000.0] * 5

    by_sigma, by_mad = count_anomalies(values)

    assert by_sigma == 5
    assert by_mad == 6


def test_even_values_have_no_anomaly() -> None:
    """Ordinary spread is no anomaly by MAD."""
    assert count_anomalies([10.0 + n % 5 for n in range(50)])[1] == 0


@pytest.mark.power
def test_endpoint_over_its_gate_is_invalid() -> None:
    """A P95 over the declared gate is a finding."""
    builder = whole_run()
    builder.history.add(PolicyRecord(p95_gates_s={"GET /slow": 1.0, "*": 5.0}))
    builder.op(0, "GET /slow", start_ms=100, end_ms=1200)

    (finding,) = judge(builder.end()).findings

    assert (finding.rule, finding.endpoint) == ("p95-gate", "GET /slow")


def test_endpoint_under_its_gate_is_silent() -> None:
    """An endpoint's own gate wins over the general one."""
    builder = Builder()
    builder.op(0, "GET /slow", start_ms=100, end_ms=1200)

    latencies = measure_latencies(builder.history)

    assert list(check_gates(latencies, {95: {"GET /slow": 2.0, "*": 0.1}})) == []
    assert [s.rule for s in check_gates(latencies, {95: {"*": 0.1}})] == ["p95-gate"]


@pytest.mark.power
@pytest.mark.parametrize(("rank", "slow"), [(50, 60), (95, 10), (99, 2)])
def test_each_percentile_has_its_own_gate(rank: int, slow: int) -> None:
    """A share of slow answers breaks the gate of the percentile that it reaches."""
    builder = Builder()
    for n in range(100):
        took_ms = 900 if n < slow else 20
        builder.op(0, "GET /slow", start_ms=n * 1000, end_ms=n * 1000 + took_ms)
    gates_s = {gate: {"*": 0.5} for gate in (50, 95, 99)}

    broken = [s.rule for s in check_gates(measure_latencies(builder.history), gates_s)]

    assert broken == [f"p{gate}-gate" for gate in (50, 95, 99) if gate >= rank]


def test_gates_of_a_run_join_its_verdict() -> None:
    """Gates of every percentile are read from the history."""
    builder = whole_run()
    builder.history.add(
        PolicyRecord(
            p50_gates_s={"GET /slow": 1.0},
            p95_gates_s={"*": 9.0},
            p99_gates_s={"GET /slow": 1.0},
        )
    )
    builder.op(0, "GET /slow", start_ms=100, end_ms=1200)

    found = {finding.rule for finding in judge(builder.end()).findings}

    assert found == {"p50-gate", "p99-gate"}


def _calm_and_disturbed(disturbed_ms: int) -> Builder:
    builder = Builder()
    for n in range(30):
        start = n * 10
        builder.op(0, start_ms=start, end_ms=start + 20)
        builder.op(1, start_ms=start, end_ms=start + disturbed_ms, shape="disconnects")
    return builder


@pytest.mark.power
def test_bystanders_slowed_by_disconnects_are_caught() -> None:
    """Ten times slower and over two seconds while others walk away is a finding."""
    builder = _calm_and_disturbed(3000)

    assert [s.rule for s in check_slowed(builder.history)] == ["bystander-slowed"]


def test_bystanders_a_little_slower_are_silent() -> None:
    """A busy machine is no finding."""
    assert list(check_slowed(_calm_and_disturbed(150).history)) == []
