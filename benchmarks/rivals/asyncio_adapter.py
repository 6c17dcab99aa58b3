"""Plain asyncio: the order that a loop happens to make, again and again.

Strategies: ``run`` makes a loop for each run, ``runner`` keeps one.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from benchmarks.explore_scenarios import Program

IS_SEEDED = False
CHUNK = 1


def run(program: Program, strategy: str, first_seed: int, runs: int) -> int | None:  # noqa: ARG001  # it has no seed
    """Run ``program`` so often; return which run failed first, counted from 1."""
    if strategy == "run":
        return _first(asyncio.run, program, runs)
    with asyncio.Runner() as runner:
        return _first(runner.run, program, runs)


def _first(
    run_once: Callable[[Coroutine[Any, Any, None]], None], program: Program, runs: int
) -> int | None:
    for number in range(1, runs + 1):
        try:
            run_once(program.main())
        except AssertionError:
            return number
    return None
