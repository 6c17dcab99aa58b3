"""How surely the explorer finds the patterns of the catalogue, and at what price.

Run ``python -m benchmarks.catalogue``. Every vulnerable twin is explored from many
seeds; a pattern counts as missed by a seed that does not find it within the runs. Every
safe twin is explored once, much longer; one alarm is one too many. Runs are work and
the same on every machine; seconds are process time.
"""

import argparse
import time
from collections.abc import Sequence
from itertools import groupby
from statistics import fmean

from test_framework.catalogue import Pattern, load_patterns
from test_framework.explore import Conclusion

RUNS = 400
SAFE_RUNS = 20_000
BUDGET_S = 60


def search(pattern: Pattern, seeds: int) -> tuple[list[int], list[float]]:
    """Return the runs until each seed found the bug, and the seconds of every seed."""
    runs, seconds = [], []
    for seed in range(seeds):
        start = time.process_time()
        report = pattern.explore(schedules=RUNS, budget=BUDGET_S, seed=seed)
        seconds.append(time.process_time() - start)
        if report.witness is not None:
            runs.append(report.witness.found_after)
    return runs, seconds


def row(name: str, patterns: Sequence[Pattern], seeds: int, safe_runs: int) -> str:
    """Return one line of the table: the patterns of one theme, or all of them."""
    runs: list[int] = []
    seconds: list[float] = []
    for pattern in patterns:
        found, took = search(pattern, seeds)
        runs += found
        seconds += took
    safe = [
        one.explore("safe", schedules=safe_runs, budget=BUDGET_S, seed=seeds)
        for one in patterns
    ]
    ends = [report.conclusion for report in safe]
    alarms = len(ends) - ends.count(Conclusion.PROVEN) - ends.count(Conclusion.SAMPLED)
    return (
        f"| {name} | {len(patterns)} | {len(seconds) - len(runs)} of {len(seconds):,} "
        f"| {fmean(runs or [0]):.1f} | {max(runs, default=0)} "
        f"| {fmean(seconds) * 1000:.1f} | {max(seconds) * 1000:.0f} "
        f"| {ends.count(Conclusion.PROVEN)} | {alarms} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer seeds and runs")
    quick = parser.parse_args().quick
    seeds, safe_runs = (5, 1_000) if quick else (50, SAFE_RUNS)
    print(f"{seeds} seeds, at most {RUNS} runs each; safe twins {safe_runs:,} runs.\n")
    print(
        "| theme | patterns | missed | mean runs | max runs | mean ms | max ms "
        "| safe proven | alarms |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    by_theme = groupby(load_patterns(), lambda one: one.theme)
    for theme, patterns in by_theme:
        print(row(theme, tuple(patterns), seeds, safe_runs), flush=True)


if __name__ == "__main__":
    main()
