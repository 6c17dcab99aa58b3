"""Scrapers see what the sentinel knows, after a restart too, and no endpoint flood."""

import math

from prometheus_client import generate_latest

from test_framework.sentinel import Alert, Memory, Symptom, Tier
from test_framework.sentinel.forecast import Forecast, Refusal
from test_framework.sentinel.gauges import sums_of
from test_framework.sentinel.metrics import MOST_ENDPOINTS, Metrics
from tests.unit.sentinel.virtual import EPOCH_S, a_round, down


def page(metrics: Metrics) -> list[str]:
    """Return the lines of values that a scraper gets."""
    lines = generate_latest(metrics.registry).decode().splitlines()
    return [line for line in lines if not line.startswith("#")]


def a_memory() -> Memory:
    """Return what an earlier process has left."""
    memory = Memory("http://notes", last_valid_at=EPOCH_S)
    memory.count("rounds valid", 40)
    memory.count("rounds down", 2)
    memory.count("symptoms service-down warning", 2)
    memory.count("symptoms p95-gate warning", 1)
    symptom = Symptom("p95-gate", Tier.WARNING, "slow", "GET /notes is slow")
    memory.alerts["p95-gate"] = Alert(symptom, since=EPOCH_S, told_at=EPOCH_S)
    return memory


def test_counters_go_on_after_a_restart() -> None:
    """Totals of the state are the totals of the metrics."""
    metrics = Metrics()

    metrics.publish(a_memory(), {})

    lines = page(metrics)
    assert 'isolation_sentinel_rounds_total{result="valid"} 40.0' in lines
    assert 'isolation_sentinel_rounds_total{result="invalid"} 0.0' in lines
    assert (
        'isolation_sentinel_symptoms_total{alert="service-down",tier="warning"} 2.0'
        in lines
    )


def test_alert_that_is_over_shows_zero() -> None:
    """A lasting alert shows one, and one that was resolved shows zero."""
    metrics = Metrics()

    metrics.publish(a_memory(), {})

    lines = page(metrics)
    name = "isolation_sentinel_alert_firing"
    assert f'{name}{{alert="p95-gate",tier="warning"}} 1.0' in lines
    assert f'{name}{{alert="service-down",tier="warning"}} 0.0' in lines


def test_last_round_is_shown() -> None:
    """Up, users and overlap are those of the last round."""
    metrics, memory = Metrics(), a_memory()
    shown = []
    for one in (a_round(1, pairs_met=9, pairs=10), down(2)):
        memory.remember(one)
        metrics.publish(memory, {})
        shown.append(sums_of("\n".join(page(metrics))))

    assert [values["isolation_sentinel_up"] for values in shown] == [1, 0]
    assert shown[0]["isolation_sentinel_user_pairs_overlapped"] == 9
    assert shown[0]["isolation_sentinel_last_valid_timestamp_seconds"] == EPOCH_S
    assert shown[0]["isolation_sentinel_last_round_timestamp_seconds"] == EPOCH_S + 5


def test_latencies_fill_a_histogram() -> None:
    """Every latency of a round is counted under its endpoint."""
    metrics = Metrics()

    metrics.observe(a_round(1, latencies_s={"GET /notes": (0.004, 0.2, 20.0)}))

    lines = page(metrics)
    name = "isolation_sentinel_request_duration_seconds"
    assert f'{name}_bucket{{endpoint="GET /notes",le="0.25"}} 2.0' in lines
    assert f'{name}_count{{endpoint="GET /notes"}} 3.0' in lines


def test_ids_in_paths_do_not_flood_the_scraper() -> None:
    """However many endpoints there seem to be, few are told apart."""
    metrics = Metrics()

    for number in range(MOST_ENDPOINTS + 50):
        metrics.observe(a_round(1, latencies_s={f"GET /notes/x{number}": (0.1,)}))

    counts = [line for line in page(metrics) if "_duration_seconds_count" in line]
    assert len(counts) == MOST_ENDPOINTS + 1
    assert any('endpoint="other"} 50.0' in line for line in counts)


def test_capacity_is_shown_where_it_is_known() -> None:
    """A forecast shows its interval, also an open one; a refusal shows nothing."""
    metrics = Metrics()

    metrics.publish(
        a_memory(),
        {"p95": Forecast(90, 80, math.inf), "pool": Refusal("too little")},
    )

    lines = [line for line in page(metrics) if "capacity" in line]
    assert lines == [
        'isolation_sentinel_capacity_users{bound="low",limit="p95"} 80.0',
        'isolation_sentinel_capacity_users{bound="estimate",limit="p95"} 90.0',
        'isolation_sentinel_capacity_users{bound="high",limit="p95"} +Inf',
    ]
