"""Baselines: taken from a run, held against another, refused when they do not fit."""

import pytest

from test_framework.check import Baseline, compare_baselines, judge, take_baseline
from test_framework.check.baseline import Conditions
from test_framework.core import (
    AlarmRecord,
    History,
    Level,
    UsageError,
    Verdict,
    WatchRecord,
)
from tests.unit.check.builder import Builder, whole_run

CONDITIONS: Conditions = {"target": "app:app", "users": 100}
ENDPOINTS = tuple(f"GET /{n}" for n in range(5))
SHAPES = ("own-connections", "read-bursts", "disconnects")


def _run(*, slow_ms: int = 0, count: int = 20) -> Builder:
    """Return a run of five endpoints, the last of which may take longer."""
    builder = whole_run()
    for shape in SHAPES:
        for number, endpoint in enumerate(ENDPOINTS):
            extra_ms = slow_ms if endpoint == ENDPOINTS[-1] else 0
            for n in range(count):
                took_ms = 40 + number + n + extra_ms
                start_ms = 1000 * n
                builder.op(
                    n % 2,
                    endpoint,
                    shape=shape,
                    start_ms=start_ms,
                    end_ms=start_ms + took_ms,
                )
    return builder


def _taken(history: History, calibration_ms: float = 6.0) -> Baseline:
    return take_baseline(history, CONDITIONS, calibration_ms=calibration_ms)


def _compared(
    before: Baseline, after: Baseline, *, level: Level = "warning"
) -> list[AlarmRecord]:
    return [
        record
        for record in compare_baselines(before, after, level=level)
        if isinstance(record, AlarmRecord)
    ]


def test_baseline_has_quantiles_and_a_bounded_sample() -> None:
    """A thousand answers are kept as figures and 25 latencies per shape."""
    baseline = _taken(_run(count=1000).history)

    timings = baseline.endpoints["GET /0"]
    assert timings.count == 3000
    assert (timings.p50_ms, timings.p95_ms) == (539, 989)
    assert set(timings.samples_ms) == set(SHAPES)
    assert {len(sample) for sample in timings.samples_ms.values()} == {25}


def test_run_against_itself_is_silent() -> None:
    """No alarm, and a record of what was compared."""
    baseline = _taken(_run().history)

    (watch,) = compare_baselines(baseline, baseline)

    assert isinstance(watch, WatchRecord)
    assert watch.watched == ENDPOINTS
    assert watch.facts["endpoints"] == 5


@pytest.mark.power
@pytest.mark.parametrize(
    ("level", "verdict"), [("warning", Verdict.VALID), ("error", Verdict.INVALID)]
)
def test_slower_endpoint_counts_as_much_as_asked(
    level: Level, verdict: Verdict
) -> None:
    """A regression is a warning, or on demand an error that voids the run."""
    before, builder = _taken(_run().history), _run(slow_ms=50)
    alarms = _compared(before, _taken(builder.history), level=level)
    for alarm in alarms:
        builder.history.add(alarm)

    judgement = judge(builder.end())

    (alarm,) = judgement.alarms
    assert judgement.verdict is verdict
    assert (alarm.rule, alarm.level) == ("slower-than-baseline", level)
    assert alarm.site == ENDPOINTS[-1]
    assert "P50 53.0 ms" in alarm.evidence[0]
    assert "P50 103.0 ms" in alarm.evidence[1]


@pytest.mark.parametrize("calibration_ms", [3.0, 12.0])
def test_other_machine_is_told_and_not_compared(calibration_ms: float) -> None:
    """On a machine twice as fast or slow, a slower endpoint proves nothing."""
    before = _taken(_run().history)
    after = _taken(_run(slow_ms=50).history, calibration_ms)

    (alarm,) = _compared(before, after)

    assert (alarm.rule, alarm.level) == ("baseline-of-another-machine", "warning")
    assert "6.0 ms" in alarm.evidence[0]
    assert f"{calibration_ms} ms" in alarm.evidence[1]


@pytest.mark.power
def test_slower_service_as_a_whole_is_a_warning() -> None:
    """Three times the time on every endpoint is told, unless the machine explains it."""
    before, builder = _taken(_run().history), whole_run()
    for shape in SHAPES:
        for number, endpoint in enumerate(ENDPOINTS):
            for n in range(20):
                end_ms = 1000 * n + 3 * (40 + number + n)
                builder.op(0, endpoint, shape=shape, start_ms=1000 * n, end_ms=end_ms)

    (alarm,) = _compared(before, _taken(builder.history))

    assert (alarm.rule, alarm.level) == ("slower-throughout", "warning")
    assert "3.00 times" in alarm.claim


def test_what_cannot_be_compared_is_named() -> None:
    """New endpoints, absent ones and those of few answers stand under not tested."""
    before, after = _run(), _run()
    before.op(0, "GET /old")
    after.op(0, "GET /new")
    for builder in (before, after):
        builder.op(0, "GET /rare")

    *_, watch = compare_baselines(_taken(before.history), _taken(after.history))

    assert isinstance(watch, WatchRecord)
    told = {line for line in watch.unwatched if "/notes" not in line}
    assert told == {
        "GET /new is new",
        "GET /old was not used this time",
        "GET /rare has too few answers in any one traffic shape",
    }


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        ({"target": "b:app", "users": 100}, "target was 'app:app' and is 'b:app'"),
        ({"target": "app:app", "users": 9}, "users was 100 and is 9"),
        ({**CONDITIONS, "workers": 2}, "workers was None and is 2"),
        ({"target": "app:app"}, "users was 100 and is None"),
    ],
)
def test_other_conditions_are_refused(
    conditions: dict[str, str | int], words: str
) -> None:
    """A baseline of another target or size is the caller's mistake."""
    baseline = _taken(_run().history)
    baseline.require(CONDITIONS)

    with pytest.raises(UsageError, match="--update-baseline") as caught:
        baseline.require(conditions)

    assert words in str(caught.value)
