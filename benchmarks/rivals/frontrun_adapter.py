"""frontrun: dynamic partial order reduction over the workers, or random schedules."""

import asyncio
import time
from typing import Any

import frontrun

from benchmarks.explore_scenarios import Program, updates

IS_SEEDED = True
CHUNK = 50
# Random schedules in a deadlock wait for its 5 s, the time of thousands of its runs.
STUCK_S = 0.5
VERDICT_RUNS = 300
VERDICT_S = 3.0
# Its 100 are too few for twenty tasks to end.
STEPS = 500


def run(program: Program, strategy: str, first_seed: int, runs: int) -> int | None:
    """Run ``program`` so often; return which run failed first, counted from 1.

    Where it is inconclusive, as with deadlocks under random schedules, nothing is found.

    Raises:
        RuntimeError: It says deadlock where there is nothing to wait for.
    """
    result = _explored(program, strategy, first_seed, runs)
    if result.property_holds is not False:
        return None
    if "Deadlock" in (result.explanation or "") and not program.can_deadlock:
        raise RuntimeError("it reports a deadlock in a program without locks")
    number: int = result.num_explored
    return number


def _explored(
    program: Program,
    strategy: str,
    seed: int,
    runs: int,
    **options: Any,  # noqa: ANN401  # handed on
) -> Any:  # noqa: ANN401  # its result has no public type
    if strategy == "dpor":
        options |= {"max_executions": runs, "reproduce_on_failure": 0}
        options |= {"detect_io": False}
    else:
        options |= {"max_attempts": runs, "seed": seed, "max_ops": STEPS}
        options |= {"timeout_per_run": STUCK_S, "deadlock_timeout": STUCK_S}

    async def explore() -> Any:  # noqa: ANN401  # likewise
        return await frontrun.explore(
            setup=program.setup,
            workers=list(program.workers),
            invariant=program.holds,
            strategy=strategy,
            **options,
        )

    return asyncio.run(explore())


def judge(program: Program, strategy: str) -> str:
    """Return what it says: ``passes``, ``fails`` or ``inconclusive``."""
    holds = _explored(
        program, strategy, 0, VERDICT_RUNS, total_timeout=VERDICT_S
    ).property_holds
    return "inconclusive" if holds is None else "passes" if holds else "fails"


def enumerate_classes(users: int, budget_s: float) -> dict[str, Any]:
    """Run one order of each class of ``users`` lost updates, without its bound."""
    start, start_wall = time.process_time(), time.monotonic()
    result = _explored(
        updates(users),
        "dpor",
        0,
        1_000_000,
        preemption_bound=None,
        stop_on_first=False,
        total_timeout=budget_s,
    )
    return {
        "executions": result.num_explored,
        "seconds": time.process_time() - start,
        # It does not say whether it came to the end.
        "is_complete": time.monotonic() - start_wall < 0.9 * budget_s,
    }
