"""``run --baseline FILE``: hold a run against an earlier one, or keep it for later ones.

A file that is not there is made, one that is there is compared with; the second only
with ``--update-baseline`` replaces it. Only a valid run is kept: latencies of a service
that mixes up its users, or of a run that proved nothing, are no measure.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from test_framework.check import Baseline, compare_baselines, take_baseline
from test_framework.core import (
    AlarmRecord,
    History,
    Level,
    UsageError,
    Verdict,
    WatchRecord,
    calibrate_ms,
)
from test_framework.report import load_baseline, save_baseline

if TYPE_CHECKING:
    from test_framework.check.baseline import Conditions
    from test_framework.config import Config


class Comparison:
    """What a run does with its baseline; made before the run, so that it fails early.

    Args:
        path: The baseline's file.
        config: The run.
        is_updating: Whether the file is to be replaced by this run.
        level: How much an endpoint that became slower matters.
        calibrate: Tells how fast the machine is.

    Raises:
        UsageError: The file is no baseline, or one of another kind of run.
    """

    def __init__(
        self,
        path: Path,
        config: "Config",
        *,
        is_updating: bool = False,
        level: Level = "warning",
        calibrate: Callable[[], float] = calibrate_ms,
    ) -> None:
        self._path = path
        self._conditions = _conditions(config)
        self._level = level
        self._before: Baseline | None = None
        self._watch: WatchRecord | None = None
        self._slower = 0
        if path.exists() and not is_updating:
            self._before = load_baseline(path)
            self._before.require(self._conditions)
        self._calibrate = calibrate
        self._calibration_ms = calibrate()

    def compare(self, history: History) -> None:
        """Add to a finished history what became slower."""
        # Something else may have kept the machine busy, before the run or now.
        self._calibration_ms = min(self._calibration_ms, self._calibrate())
        if self._before is None:
            return
        after = self._taken(history)
        for record in compare_baselines(self._before, after, level=self._level):
            history.add(record)
            if isinstance(record, AlarmRecord):
                self._slower += 1
            else:
                self._watch = record

    def conclude(self, history: History, verdict: Verdict) -> str:
        """Keep the run if it is to be kept, and say what was done.

        Raises:
            UsageError: The file cannot be written.
        """
        if self._before is not None:
            return self._told()
        if verdict is not Verdict.VALID:
            return f"The baseline {self._path} was not written: the run is {verdict}."
        baseline = self._taken(history)
        save_baseline(baseline, self._path)
        return f"Baseline of {len(baseline.endpoints)} endpoints: {self._path}"

    def _taken(self, history: History) -> Baseline:
        return take_baseline(
            history, self._conditions, calibration_ms=self._calibration_ms
        )

    def _told(self) -> str:
        facts = self._watch.facts if self._watch is not None else {}
        if not facts:
            return f"Nothing was compared with the baseline {self._path}."
        return (
            f"{facts['endpoints']} endpoints were compared with the baseline "
            f"{self._path}, {self._slower or 'none'} slower; runs differ by "
            f"{facts['noise_percent']} % anyway."
        )


def _conditions(config: "Config") -> "Conditions":
    """Return what two runs must have in common to be compared."""
    hosted: Conditions = {
        "workers": config.workers,
        "services": ",".join(config.services),
        # They cost time.
        "detectors": ",".join(config.watching),
    }
    return {
        "target": config.target,
        "workload": "" if config.workload is None else config.workload.name,
        "users": config.users,
        "shapes": ",".join(config.shapes),
        **({} if config.is_url else hosted),
    }


def make_comparison(
    path: str | None, config: "Config", *, is_updating: bool, level: Level | None
) -> Comparison | None:
    """Return what the options ask for; None without a baseline.

    Raises:
        UsageError: An option needs a baseline, or the baseline does not fit.
    """
    if path is not None:
        return Comparison(
            Path(path), config, is_updating=is_updating, level=level or "warning"
        )
    for name, is_given in (
        ("--update-baseline", is_updating),
        ("--on-regression", level is not None),
    ):
        if is_given:
            message = f"{name} needs a baseline. Pass --baseline FILE as well."
            raise UsageError(message)
    return None
