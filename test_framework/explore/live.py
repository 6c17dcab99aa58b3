"""Runs of a scenario in real time with noise: what fails is real, and is not repeated."""

import time
from typing import Any

from test_framework.core import TargetError, stream
from test_framework.explore.execution import EVERYTHING, Runner
from test_framework.explore.failures import Failure
from test_framework.explore.gate.live import LiveLoop
from test_framework.explore.report import (
    Conclusion,
    Report,
    Witness,
    runs_in_words,
)
from test_framework.explore.scenario import CoroutineFunction
from test_framework.explore.schedule import Fidelity, Schedule
from test_framework.explore.schedulers import Stock
from test_framework.explore.search import Options

NOTE = "io=live: real time with seeded noise; the seed does not repeat a run."


def run_live(main: CoroutineFunction, options: Options, *, users: int | None) -> Report:
    """Make runs until one fails or the budget is spent.

    Args:
        main: Makes the coroutine of task 0.
        options: Budget, runs and seed count; faults and fidelity do not.
        users: Users of a ``Scenario``.

    Returns:
        ``FOUND`` with a witness without a schedule, or ``SAMPLED``; ``INCONCLUSIVE`` when
        a server does not answer.
    """
    rng = stream(options.seed, "explore", "live")
    runner = Runner(main, LiveLoop(rng, max_steps=options.max_steps))
    runner.usual_left = EVERYTHING
    started = time.monotonic()

    def report(conclusion: Conclusion, claim: str, **more: Any) -> Report:
        return Report(
            conclusion=conclusion,
            claim=claim,
            seed=options.seed,
            schedules=runner.runs,
            distinct=0,
            unseen_mass=None,
            seconds=time.monotonic() - started,
            notes=(NOTE,),
            **more,
        )

    while time.monotonic() - started < options.budget_s and (
        options.schedules is None or runner.runs < options.schedules
    ):
        try:
            failure = runner.run(Stock())
        except TargetError as exc:
            return report(Conclusion.INCONCLUSIVE, str(exc))
        if failure is not None and failure.kind != "endless":
            witness = _witness(failure, runner.runs, users)
            claim = f"after {runs_in_words(runner.runs)}; it cannot be repeated."
            return report(Conclusion.FOUND, claim, witness=witness)
    claim = f"{runs_in_words(runner.runs)}: nothing wrong was seen, which is no proof."
    return report(Conclusion.SAMPLED, claim)


def _witness(failure: Failure, runs: int, users: int | None) -> Witness:
    return Witness(
        schedule=Schedule(Fidelity.FIFO, io="live", users=users),
        failure=failure,
        story=(),
        users=users,
        found_after=runs,
        shrink_runs=0,
        is_confirmed=None,
    )
