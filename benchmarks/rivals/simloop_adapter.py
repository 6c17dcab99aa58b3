"""simloop: one random pick among all ready callbacks; strategies are its policies."""

import time

import simloop

from benchmarks.explore_scenarios import Program

IS_SEEDED = True
CHUNK = 25
VERDICT_RUNS = 100


def run(program: Program, strategy: str, first_seed: int, runs: int) -> int | None:
    """Run ``program`` so often; return which run failed first, counted from 1."""
    seeds = range(first_seed, first_seed + runs)
    report = simloop.explore(program.main, seeds, policy=strategy)
    return None if report is None else report.seeds_passed + 1


def shrink(program: Program, strategy: str, seed: int) -> dict[str, float] | None:
    """Find a failure and shrink it; steps that are not first-in-first-out are left."""
    number = run(program, strategy, seed, CHUNK)
    if number is None:
        return None
    start = time.process_time()
    report = simloop.explore(
        program.main, [seed + number - 1], policy=strategy, shrink=True
    )
    spent_ms = (time.process_time() - start) * 1e3
    if report is None or report.shrunk is None:
        return None
    shrunk = report.shrunk
    return {"left": len(shrunk.kept), "runs": shrunk.oracle_runs, "ms": spent_ms}


def judge(program: Program, strategy: str) -> str:
    """Return what a hundred seeds say: ``passes`` or ``fails``."""
    return "passes" if run(program, strategy, 0, VERDICT_RUNS) is None else "fails"
