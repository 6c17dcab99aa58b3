"""Turn a failing run into a witness: repeat it, shrink it, confirm it, tell it."""

from dataclasses import replace

from test_framework.core import InternalError
from test_framework.explore.execution import Failure, Runner
from test_framework.explore.report import Witness
from test_framework.explore.schedule import Fidelity, Schedule
from test_framework.explore.schedulers import Replay
from test_framework.explore.search import FoundError, Search
from test_framework.explore.shrink import shrink
from test_framework.explore.stock import StockLoop
from test_framework.explore.story import Step, tell, traced


def prove(
    search: Search, found: FoundError, *, reference: str, users: int | None
) -> tuple[Witness | None, str]:
    """Run a failure again, shrink it and tell it.

    Args:
        search: Whose runner made it.
        found: The failure and its schedule.
        reference: ``PATH::NAME`` of the scenario, or empty.
        users: Users of a ``Scenario``.

    Returns:
        The witness and nothing; or None and why there is none.
    """
    runner = search.runner
    identity = found.failure.identity
    again, steps = follow(runner, found.schedule)
    if again is None or again.identity != identity:
        last = next((where for _, where, _ in reversed(steps) if where), "?")
        return None, (
            f"A run failed ({found.failure.message}) and its own schedule did not repeat "
            f"it; the repetition ended after {last}. Something outside of the loop "
            "decides: seed random, sort sets, fix time, and make all state inside of "
            "the scenario."
        )

    def fails(candidate: Schedule) -> bool:
        result = runner.run(Replay(candidate.segments), candidate.faults)
        return result is not None and result.identity == identity

    best, runs = shrink(found.schedule, fails)
    failure, steps = follow(runner, best)
    if failure is None:
        raise InternalError("A shrunk schedule no longer fails.", seed=search.seed)
    best = replace(best, scenario=reference, users=users)
    witness = Witness(
        schedule=best,
        failure=failure,
        story=tell(steps, best.faults),
        users=users,
        found_after=search.runs,
        shrink_runs=runs,
        is_confirmed=_confirm(search, best, identity),
        scenario=reference,
    )
    return witness, ""


def follow(runner: Runner, schedule: Schedule) -> tuple[Failure | None, list[Step]]:
    """Follow a schedule once; return its failure and its traced steps."""
    return traced(runner, Replay(schedule.segments), schedule.faults)


def _confirm(
    search: Search, schedule: Schedule, identity: tuple[str, str]
) -> bool | None:
    if schedule.fidelity is not Fidelity.FIFO or schedule.io != "sim":
        # Over real sockets the run was made on a loop of CPython as it is.
        return None
    runner = Runner(search.main, StockLoop())
    runner.usual_left = search.runner.usual_left
    failure = runner.run(Replay(schedule.segments), schedule.faults)
    return failure is not None and failure.identity == identity
