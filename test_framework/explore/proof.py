"""Turn a failing run into a witness: repeat it, shrink it, confirm it, tell it."""

import re
from dataclasses import replace
from typing import Any

from test_framework.explore.execution import Runner
from test_framework.explore.failures import Failure
from test_framework.explore.report import Witness
from test_framework.explore.scenario import Scenario, main_of
from test_framework.explore.schedule import Fidelity, Schedule
from test_framework.explore.schedulers import OneByOne, Replay
from test_framework.explore.search import FoundError, Search
from test_framework.explore.shrink import Fails, shrink
from test_framework.explore.stock import StockLoop
from test_framework.explore.story import Step, tell, traced
from test_framework.explore.waits import NOWHERE


def prove(
    search: Search,
    found: FoundError,
    *,
    reference: str,
    crowd: Scenario[Any] | None = None,
    users: int | None = None,
) -> tuple[Witness | None, str]:
    """Run a failure again, shrink it and tell it.

    Args:
        search: Whose runner made it.
        found: The failure and its schedule.
        reference: ``PATH::NAME`` of the scenario, or empty.
        crowd: The ``Scenario``, which may fail with fewer users.
        users: Users of it.

    Returns:
        The witness and nothing; or None and why there is none.
    """
    runner = search.runner
    # Who was stuck for so long once need not be waited for as long again.
    runner.loop.patience = _PATIENCE_AGAIN
    identity = found.failure.identity
    again, steps = follow(runner, found.schedule)
    if again is None or again.identity != identity:
        places = [where for _, where, _ in steps if where not in {"", NOWHERE}]
        ended = (
            f"after {places[-1]}"
            if places
            else "without a wait at any line of the program"
        )
        return None, (
            f"A run failed ({found.failure.message}) and its own schedule did not repeat "
            f"it; the repetition ended {ended}. Something outside of the loop "
            "decides: seed random, sort sets, fix time, and make all state inside of "
            "the scenario."
        )

    def fails(candidate: Schedule) -> bool:
        result = runner.run(Replay(candidate.segments), candidate.faults)
        return result is not None and result.identity == identity

    best, runs = shrink(found.schedule, fails)
    if crowd is not None and users is not None:
        smaller = _SmallerCrowd(crowd, runner, fails)
        best, fewer = smaller.of(best, users)
        runs += smaller.runs
        if fewer < users:
            users = fewer
            best, more = shrink(best, fails)
            runs += more
    failure, steps = follow(runner, best)
    if failure is None:
        return None, (
            f"A run failed ({found.failure.message}), and its shortest schedule failed "
            "in one run and not in the next. Something outside of the loop decides: "
            "seed random, sort sets, and make all state inside of the scenario."
        )
    best = replace(best, scenario=reference, users=users)
    is_confirmed = _confirm(search, best, identity)
    if is_confirmed is False:
        at = f" at {failure.where}" if failure.where else ""
        return None, (
            f"A run failed ({found.failure.message}{at}), and the same order did not fail "
            "on CPython's own loop. Either the program asks which loop it is on, or the "
            "explorer's picture of asyncio is wrong: then please report it. To look at "
            f"the run: isolation-audit replay {best.token()}"
        )
    witness = Witness(
        schedule=best,
        failure=failure,
        story=tell(steps, best.faults),
        users=users,
        found_after=search.runs,
        shrink_runs=runs,
        is_confirmed=is_confirmed,
        scenario=reference,
    )
    return witness, ""


_PATIENCE_AGAIN = 5
_USER = re.compile(r"user\[(\d+)\]")


class _SmallerCrowd:
    """Looks for fewer users with which a schedule still fails.

    Only among crowds that are right when their users come one by one: a check may know
    how many there are, and then a smaller crowd fails by that alone.

    Args:
        crowd: The scenario.
        runner: Runs it; left with the fewest users that were found.
        fails: Makes one run of a schedule.

    Attributes:
        runs: How many were made.
    """

    def __init__(self, crowd: Scenario[Any], runner: Runner, fails: Fails) -> None:
        self._crowd = crowd
        self._runner = runner
        self._fails = fails
        self.runs = 0

    def of(self, schedule: Schedule, users: int) -> tuple[Schedule, int]:
        """Return a schedule that fails, and for how many users it is.

        First with only those whom it names, moved up. Then with the first so many, for
        what users do may depend on their numbers: by bisection.
        """
        text = schedule.text()
        named = sorted({int(number) for number in _USER.findall(text)})
        rank = {number: index for index, number in enumerate(named)}
        moved = _USER.sub(lambda match: f"user[{rank[int(match[1])]}]", text)
        if 0 < len(named) < users and self._try(Schedule.parse(moved), len(named)):
            return Schedule.parse(moved), len(named)
        low, high = max(named, default=0) + 1, users
        while low < high:
            middle = (low + high) // 2
            if self._try(schedule, middle):
                high = middle
            else:
                low = middle + 1
        return schedule, high

    def _try(self, schedule: Schedule, users: int) -> bool:
        self.runs += 2
        main, self._runner.main = self._runner.main, main_of(self._crowd, users)
        is_sound = self._runner.run(OneByOne()) is None
        is_found = is_sound and self._fails(schedule)
        if not is_found:
            self._runner.main = main
        return is_found


def follow(runner: Runner, schedule: Schedule) -> tuple[Failure | None, list[Step]]:
    """Follow a schedule once; return its failure and its traced steps."""
    return traced(runner, Replay(schedule.segments), schedule.faults)


def _confirm(
    search: Search, schedule: Schedule, identity: tuple[str, str]
) -> bool | None:
    if schedule.fidelity is not Fidelity.FIFO or schedule.io != "sim":
        # Over real sockets the run was made on a loop of CPython as it is.
        return None
    runner = Runner(search.runner.main, StockLoop())
    runner.usual_left = search.runner.usual_left
    failure = runner.run(Replay(schedule.segments), schedule.faults)
    return failure is not None and failure.identity == identity
