"""The explorer of this repository.

Strategies: ``explore`` is what a user calls; ``urw`` is one policy on the bare runner.
"""

import random
import time
from dataclasses import replace
from typing import Any
from unittest import mock

from benchmarks.explore_scenarios import (
    Counter,
    Program,
    update,
    update_locked,
    updates,
)
from test_framework.explore import (
    Conclusion,
    Report,
    Scenario,
    explore,
    explorer,
    shared,
)
from test_framework.explore.asgi import Asgi
from test_framework.explore.execution import Runner
from test_framework.explore.loop import ExplorationLoop
from test_framework.explore.proof import prove
from test_framework.explore.schedule import Fidelity
from test_framework.explore.schedulers import Profile, Stock, Urw

IS_SEEDED = True
CHUNK = 10_000
BUDGET_S = 60.0
VERDICT_RUNS = 2_000


def run(program: Program, strategy: str, first_seed: int, runs: int) -> int | None:
    """Run ``program`` so often; return which run failed first, counted from 1."""
    if strategy == "explore":
        witness = explored(program, seed=first_seed, schedules=runs).witness
        return None if witness is None else witness.found_after
    if strategy == "asgi":
        return _through_driver(first_seed, runs)
    loop = ExplorationLoop(Fidelity.AWAIT)
    runner = Runner(program.main, loop)
    with explorer.prepared(loop):
        runner.run(Stock())
        # As a search does when it saw that there are none.
        runner.watches = bool(loop.invariants)
        profile = Profile()
        profile.learn(loop.order)
        urw = Urw(random.Random(first_seed), profile)
        for number in range(1, runs + 1):
            if runner.run(urw) is not None:
                return number
    return None


def _through_driver(seed: int, runs: int) -> int | None:
    """Explore the same application and users through the driver for ASGI apps."""
    # Only where the web stack is.
    from benchmarks.explore_web import USERS, app  # noqa: PLC0415  # see above

    async def visit(asgi: Asgi, user: int) -> None:
        reply = await asgi.browser(user).get(f"/quota/{user}")
        if reply.status != 200:
            raise AssertionError(f"status {reply.status}")

    report = explore(
        Scenario(lambda: Asgi(app), visit, users=USERS),
        fidelity="await",
        budget=BUDGET_S,
        schedules=runs,
        seed=seed,
    )
    return None if report.witness is None else report.witness.found_after


def explored(program: Program, **options: Any) -> Report:  # noqa: ANN401  # handed on
    """Explore a program whose awaits all stand for the outside."""
    return explore(program.main, fidelity="await", budget=BUDGET_S, **options)


def shrink(program: Program, strategy: str, seed: int) -> dict[str, float] | None:  # noqa: ARG001  # there is one way
    """Find a failure and shrink it.

    Returns:
        Switches of the witness, and the runs and milliseconds of CPU from the failure
        to the witness; the time of repeating and telling it is in.
    """
    spent: list[float] = []

    def timed(*args: Any, **options: Any) -> Any:  # noqa: ANN401  # handed on
        start = time.process_time()
        try:
            return prove(*args, **options)
        finally:
            spent.append((time.process_time() - start) * 1e3)

    with mock.patch.object(explorer, "prove", timed):
        witness = explored(program, seed=seed).witness
    if witness is None:
        return None
    switches = witness.schedule.switches
    return {"left": switches, "runs": witness.shrink_runs, "ms": spent[0]}


def judge(program: Program, strategy: str) -> str:  # noqa: ARG001  # there is one way
    """Return what an exploration says: ``passes``, ``fails`` or ``inconclusive``."""
    match explored(program, seed=1, schedules=VERDICT_RUNS).conclusion:
        case Conclusion.FOUND:
            return "fails"
        case Conclusion.INCONCLUSIVE:
            return "inconclusive"
        case _:
            return "passes"


def enumerate_classes(users: int, budget_s: float) -> dict[str, Any]:
    """Run one order of each class of ``users`` lost updates."""
    program = updates(users)
    tracked = replace(program, setup=lambda: shared(program.setup()))
    start = time.process_time()
    report = explore(
        tracked.main, fidelity="await", budget=budget_s, seed=1, track=True
    )
    return {
        "executions": report.schedules,
        "classes": report.classes,
        "seconds": time.process_time() - start,
        "is_complete": report.conclusion is Conclusion.PROVEN,
    }


def enumerate_states(users: int, *, is_locked: bool) -> dict[str, Any]:
    """Explore ``users`` identical users who add to one counter."""

    async def user(counter: Counter, number: int) -> None:  # noqa: ARG001  # all alike
        await (update_locked if is_locked else update)(counter)

    def check(counter: Counter) -> None:
        if counter.value != users:
            raise AssertionError("an update was lost")

    start = time.process_time()
    report = explore(
        Scenario(Counter, user, check, users=users),
        fidelity="await",
        budget=BUDGET_S,
        seed=1,
        symmetric=True,
    )
    return {
        "executions": report.schedules,
        "seconds": time.process_time() - start,
        "conclusion": str(report.conclusion),
    }
