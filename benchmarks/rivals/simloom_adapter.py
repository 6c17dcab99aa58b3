"""simloom: one random pick among all ready callbacks; strategies are its schedulers."""

import time

import simloom

from benchmarks.explore_scenarios import Program

IS_SEEDED = True
CHUNK = 25
VERDICT_RUNS = 100


def run(program: Program, strategy: str, first_seed: int, runs: int) -> int | None:
    """Run ``program`` so often; return which run failed first, counted from 1."""
    found = _explored(program, strategy, first_seed, runs)
    return found.runs if found.failed else None


def _explored(
    program: Program, strategy: str, first_seed: int, runs: int
) -> simloom.Exploration:
    scheduler = None if strategy == "random" else strategy
    return simloom.explore(
        program.main, runs=runs, start_seed=first_seed, scheduler=scheduler
    )


def shrink(program: Program, strategy: str, seed: int) -> dict[str, float] | None:
    """Find a failure and shrink it; deviations from first-in-first-out are left."""
    failure = _explored(program, strategy, seed, CHUNK).first_failure
    if failure is None:
        return None
    start = time.process_time()
    shrunk = simloom.shrink(program.main, failure)
    spent_ms = (time.process_time() - start) * 1e3
    return {"left": shrunk.deviations, "runs": shrunk.runs_used, "ms": spent_ms}


def judge(program: Program, strategy: str) -> str:
    """Return what a hundred seeds say: ``passes`` or ``fails``."""
    return "passes" if run(program, strategy, 0, VERDICT_RUNS) is None else "fails"
