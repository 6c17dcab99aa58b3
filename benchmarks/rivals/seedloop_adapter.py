"""seedloop: keeps the order of asyncio and varies messages of its own network only."""

import seedloop

from benchmarks.explore_scenarios import Program

IS_SEEDED = True
CHUNK = 50
VERDICT_RUNS = 300


def run(program: Program, strategy: str, first_seed: int, runs: int) -> int | None:  # noqa: ARG001  # it has one
    """Run ``program`` so often; return which run failed first, counted from 1."""

    async def scenario(_: seedloop.World) -> None:
        await program.main()

    seeds = range(first_seed, first_seed + runs)
    result = seedloop.check(scenario, seeds=seeds, on_failure="return")
    return None if result.failing_seed is None else result.checked


def judge(program: Program, strategy: str) -> str:
    """Return what some hundred seeds say: ``passes`` or ``fails``."""
    return "passes" if run(program, strategy, 0, VERDICT_RUNS) is None else "fails"
