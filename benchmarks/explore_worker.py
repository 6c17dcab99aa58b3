"""One contender in a process of its own: requests on standard input, answers on output.

    python -m benchmarks.explore_worker ADAPTER [--web]

Both are JSON, one line each. The process lives as long as the benchmark, so rounds of
all contenders can be interleaved without paying for imports each time. What the
contender prints goes to standard error.
"""

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any

from benchmarks.explore_scenarios import PROGRAMS, Program

WEB_STACK = (
    "fastapi",
    "sqlalchemy.ext.asyncio",
    "httpx",
    "redis.asyncio",
    "asyncpg",
    "websockets",
)


class Worker:
    """Answers requests about one contender.

    Args:
        adapter: Its module.
        programs: What it can be asked to run.
    """

    def __init__(self, adapter: ModuleType, programs: dict[str, Program]) -> None:
        self._adapter = adapter
        self._programs = programs
        self._sizes: dict[tuple[str, str], int] = {}

    def answer(self, do: str, **options: Any) -> Any:  # noqa: ANN401  # whatever is JSON
        """Do what is asked for."""
        if hasattr(self, do):
            return getattr(self, do)(**options)
        if "program" in options:
            options["program"] = self._programs[options["program"]]
        if not hasattr(self._adapter, do):
            raise NotImplementedError("it has nothing of the kind")
        return getattr(self._adapter, do)(**options)

    def rate(self, program: str, strategy: str, seconds: float) -> float:
        """Return schedules per second of CPU, over about so many seconds."""
        runs = self._sizes.get((program, strategy), 5)
        while True:
            start = time.process_time()
            failed = self._adapter.run(self._programs[program], strategy, 0, runs)
            spent = time.process_time() - start
            if failed is not None:
                raise RuntimeError(f"a correct program failed in run {failed}")
            if spent >= seconds / 2:
                self._sizes[program, strategy] = runs
                return runs / spent
            runs = int(runs * min(max(seconds / max(spent, 1e-6), 1.5), 20))

    def bugs(
        self, program: str, strategy: str, seeds: int, cap: int, seconds: float
    ) -> dict[str, int]:
        """Search for the bug with each seed, at most ``cap`` runs each.

        Returns:
            Runs made, bugs found, seeds tried; the last one may be cut off by the time.
        """
        adapter = self._adapter
        seeds = seeds if adapter.IS_SEEDED and strategy != "dpor" else 1
        is_over = _clock(seconds)
        runs = found = tried = 0
        for seed in range(seeds):
            made, number = 0, None
            while made < cap and number is None and not is_over():
                amount = min(adapter.CHUNK, cap - made)
                number = adapter.run(
                    self._programs[program], strategy, seed * cap + made, amount
                )
                made += amount if number is None else number
            tried += made > 0
            runs += made
            found += number is not None
        return {"runs": runs, "found": found, "tried": tried}

    def shrinks(
        self, program: str, strategy: str, seeds: int, seconds: float
    ) -> list[dict[str, float]]:
        """Shrink the failures of some seeds within about so many seconds of CPU."""
        is_over = _clock(seconds)
        shrunk: list[dict[str, float]] = []
        seed = 0
        while len(shrunk) < seeds and not is_over():
            result = self._adapter.shrink(self._programs[program], strategy, seed)
            seed += self._adapter.CHUNK
            if result is not None:
                shrunk.append(result)
        return shrunk


def _clock(seconds: float) -> Callable[[], bool]:
    """Return a function that tells whether so much CPU, or four times as much time, is spent."""
    cpu, wall = time.process_time() + seconds, time.monotonic() + 4 * seconds
    return lambda: time.process_time() >= cpu or time.monotonic() >= wall


def main() -> None:
    """Answer until standard input ends."""
    # Rivals may print; the answers must stay alone on their channel.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    programs = dict(PROGRAMS)
    if "--web" in sys.argv:
        for name in WEB_STACK:
            importlib.import_module(name)
        programs |= importlib.import_module("benchmarks.explore_web").WEB_PROGRAMS
    adapter = importlib.import_module(f"benchmarks.rivals.{sys.argv[1]}_adapter")
    worker = Worker(adapter, programs)
    for line in sys.stdin:
        answer: dict[str, Any]
        try:
            answer = {"result": worker.answer(**json.loads(line))}
        except Exception as exc:  # noqa: BLE001  # the table tells it
            traceback.print_exc()
            answer = {"problem": f"{exc}" or type(exc).__name__}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
