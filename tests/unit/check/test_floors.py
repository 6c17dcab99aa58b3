"""Answers that came before their work could be done."""

from collections.abc import Iterable

import pytest

from test_framework.check import check_floors, find_quick, judge
from test_framework.core import HandlerRecord, Operation, PolicyRecord, Verdict
from tests.unit.check.builder import MS, Builder, seen, whole_run

FLOORS = PolicyRecord(floors_s={"POST /runs": 0.05, "*": 0.001})


def _answered(
    builder: Builder, latencies_ms: Iterable[float], **fields: object
) -> None:
    for n, latency_ms in enumerate(latencies_ms):
        start_ms = 1000 * n
        builder.op(
            n % 2,
            "POST /runs",
            start_ms=start_ms,
            end_ms=start_ms + latency_ms,
            **fields,
        )


@pytest.mark.power
def test_answer_below_its_floor_is_a_finding() -> None:
    """An answer in less time than its work takes was not worked for."""
    builder = whole_run()
    builder.history.add(FLOORS)
    _answered(builder, [60, 49, 80])

    judgement = judge(builder.end())

    (finding,) = judgement.findings
    assert judgement.verdict is Verdict.INVALID
    assert (finding.rule, finding.victim) == ("faster-than-its-work", "user-01")
    assert "49.0 ms" in finding.claim
    assert "50 ms" in finding.claim


@pytest.mark.parametrize(
    ("latency_ms", "fields"),
    [
        (50, {}),
        (3, {"outcome": "fail", "status": 409}),
        (3, {"disturbed": True}),
        (3, {"cached": True}),
    ],
)
def test_answer_that_owes_no_work_is_silent(
    latency_ms: float, fields: dict[str, object]
) -> None:
    """What took its time, was refused, cut or came from the proxy breaks no floor."""
    builder = Builder()
    builder.history.add(FLOORS)
    _answered(builder, [latency_ms], **fields)

    assert list(check_floors(builder.history)) == []


def test_without_a_floor_nothing_is_required() -> None:
    """An endpoint that no floor names may answer at once."""
    builder = Builder()
    builder.history.add(PolicyRecord(floors_s={"POST /runs": 0.05}))
    builder.op(0, "GET /notes", start_ms=10, end_ms=10)

    assert list(check_floors(builder.history)) == []


@pytest.mark.power
def test_one_answer_far_below_all_others_is_noted() -> None:
    """One answer in a hundredth of the usual time is told, and nothing more."""
    builder = whole_run()
    _answered(builder, [*(80 + n for n in range(39)), 1])

    judgement = judge(builder.end())

    (alarm,) = judgement.alarms
    assert judgement.verdict is Verdict.VALID
    assert (alarm.rule, alarm.level) == ("much-faster-than-others", "note")
    assert (alarm.site, alarm.count, alarm.users) == ("POST /runs", 1, (1,))
    assert "1.00 ms" in alarm.evidence[0]


@pytest.mark.power
def test_quick_answer_with_foreign_canary_is_a_warning() -> None:
    """A quick answer that held another's data says from where it came."""
    builder = whole_run()
    _answered(builder, [80 + n for n in range(39)])
    builder.op(1, "POST /runs", start_ms=1, end_ms=2, seen=(seen(0),))

    (alarm,) = find_quick(builder.end())

    assert alarm.level == "warning"
    assert "belongs to user-00" in alarm.evidence[1]


@pytest.mark.parametrize(
    "latencies_ms",
    [
        pytest.param([80 + n for n in range(40)], id="even"),
        pytest.param([80] * 39 + [21], id="a quarter"),
        pytest.param([1.2**n for n in range(40)], id="wide"),
        pytest.param([80] * 37 + [1] * 3, id="a cache"),
        pytest.param([80] * 18 + [1], id="too few"),
    ],
)
def test_honest_spread_is_not_noted(latencies_ms: list[float]) -> None:
    """Even times, a wide spread, a cache that is often hit: none is an anomaly."""
    builder = Builder()
    _answered(builder, latencies_ms)

    assert list(find_quick(builder.history)) == []


def test_client_that_stamps_late_accuses_nobody() -> None:
    """What the service's own process worked for was worked for."""
    builder = Builder()
    builder.history.add(FLOORS)
    _answered(builder, [*(80 + n for n in range(39)), 1])
    late = builder.history.of(Operation)[-1]
    assert len(list(check_floors(builder.history))) == 1

    builder.history.add(HandlerRecord(late.index, "http", 0, 80 * MS, worker=0))

    assert list(check_floors(builder.history)) == []
    assert list(find_quick(builder.history)) == []
