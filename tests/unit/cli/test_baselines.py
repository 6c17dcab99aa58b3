"""What ``run --baseline`` does with a finished run."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from test_framework.check import judge
from test_framework.cli.baselines import Comparison, make_comparison
from test_framework.config import Config
from test_framework.core import History, Level, UsageError, Verdict
from test_framework.report import load_baseline
from tests.unit.check.builder import whole_run

CONFIG = Config(target="app:app", workload=Path("audit.py"), users=2)
ENDPOINTS = tuple(f"GET /{n}" for n in range(5))
SHAPES = ("own-connections", "read-bursts", "disconnects")


def _run(*, slow_ms: int = 0) -> History:
    """Return a run of five endpoints, the last of which may take longer."""
    builder = whole_run()
    for shape in SHAPES:
        for endpoint in ENDPOINTS:
            extra_ms = slow_ms if endpoint == ENDPOINTS[-1] else 0
            for n in range(20):
                end_ms = 1000 * n + 40 + n + extra_ms
                builder.op(
                    n % 2, endpoint, shape=shape, start_ms=1000 * n, end_ms=end_ms
                )
    return builder.end()


def _comparison(path: Path, **options: Any) -> Comparison:  # noqa: ANN401  # those of Comparison
    # The real machine may be twice as slow in the next moment.
    return Comparison(path, CONFIG, calibrate=lambda: 6.0, **options)


def _compare(path: Path, history: History, **options: Any) -> str:  # noqa: ANN401  # those of Comparison
    """Do as the command does, and return what it says."""
    comparison = _comparison(path, **options)
    comparison.compare(history)
    return comparison.conclude(history, judge(history).verdict)


def test_absent_baseline_is_made_and_a_present_one_compared(tmp_path: Path) -> None:
    """The first run makes the file and the second leaves it as it is."""
    path = tmp_path / "baseline.json"

    assert "Baseline of 7 endpoints" in _compare(path, _run())
    before = path.read_bytes()
    told = _compare(path, _run())

    assert "endpoints were compared" in told
    assert "none slower" in told
    assert path.read_bytes() == before


@pytest.mark.power
@pytest.mark.parametrize(
    ("level", "verdict"), [("warning", Verdict.VALID), ("error", Verdict.INVALID)]
)
def test_regression_joins_the_verdict_as_asked(
    tmp_path: Path, level: Level, verdict: Verdict
) -> None:
    """A slower endpoint is in the history before it is judged."""
    path = tmp_path / "baseline.json"
    _compare(path, _run())
    history = _run(slow_ms=60)

    told = _compare(path, history, level=level)

    judgement = judge(history)
    assert judgement.verdict is verdict
    assert [alarm.rule for alarm in judgement.alarms] == ["slower-than-baseline"]
    assert "1 slower" in told


def test_update_replaces_the_baseline_without_comparing(tmp_path: Path) -> None:
    """What is meant to be slower becomes the measure, and raises nothing."""
    path = tmp_path / "baseline.json"
    _compare(path, _run())
    history = _run(slow_ms=60)

    assert "Baseline of 7 endpoints" in _compare(path, history, is_updating=True)

    assert judge(history).alarms == ()
    assert load_baseline(path).endpoints[ENDPOINTS[-1]].p50_ms > 100
    assert "none slower" in _compare(path, _run(slow_ms=60))


@pytest.mark.parametrize("verdict", [Verdict.INVALID, Verdict.UNKNOWN])
def test_run_that_is_not_valid_is_no_measure(tmp_path: Path, verdict: Verdict) -> None:
    """Nothing is written for it, and an earlier baseline stays."""
    path = tmp_path / "baseline.json"
    told = _comparison(path).conclude(_run(), verdict)

    assert told.endswith(f"was not written: the run is {verdict}.")
    assert not path.exists()


def test_busy_moment_is_not_taken_for_another_machine(tmp_path: Path) -> None:
    """A machine that was busy before the run or after it is judged by its best."""
    path = tmp_path / "baseline.json"
    _compare(path, _run())
    for moments in ([60.0, 6.1], [6.1, 60.0]):
        comparison = Comparison(path, CONFIG, calibrate=iter(moments).__next__)
        history = _run()
        comparison.compare(history)
        assert judge(history).alarms == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"users": 3}, "users was 2 and is 3"),
        ({"target": "b:app"}, "target was 'app:app' and is 'b:app'"),
        ({"workers": 1}, "workers was 2 and is 1"),
        ({"detectors": ("access",)}, "and is 'access'"),
        ({"shapes": SHAPES[:1]}, "is 'own-connections'"),
        ({"target": "http://a"}, "workers was 2 and is None"),
    ],
)
def test_other_kind_of_run_is_refused_before_it_starts(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    """What makes latencies differ by itself is named."""
    path = tmp_path / "baseline.json"
    _compare(path, _run())
    config = dataclasses.replace(CONFIG, **change)  # type: ignore[arg-type]  # by name

    with pytest.raises(UsageError, match="of another kind of run") as caught:
        Comparison(path, config, calibrate=lambda: 6.0)

    assert words in str(caught.value)


def test_malformed_baseline_is_refused_before_the_run(tmp_path: Path) -> None:
    """Nobody waits for a run whose baseline cannot be read, unless it is replaced."""
    path = tmp_path / "baseline.json"
    path.write_text("half a bas")

    with pytest.raises(UsageError, match="is not JSON"):
        _comparison(path)
    assert "Baseline of 7" in _compare(path, _run(), is_updating=True)


@pytest.mark.parametrize(
    ("is_updating", "level", "option"),
    [(True, None, "--update-baseline"), (False, "error", "--on-regression")],
)
def test_option_without_its_baseline_is_refused(
    *, is_updating: bool, level: Level | None, option: str
) -> None:
    """An option that would do nothing says what it needs."""
    with pytest.raises(UsageError, match=f"{option} needs a baseline"):
        make_comparison(None, CONFIG, is_updating=is_updating, level=level)


def test_without_options_there_is_nothing_to_compare() -> None:
    """A run without a baseline pays nothing for it."""
    assert make_comparison(None, CONFIG, is_updating=False, level=None) is None
