"""The isolation matrix and the level fingerprint on a Postgres of our own.

Run ``python -m benchmarks.isolation_matrix [--runs N]``. Wall seconds, as both mostly
wait for the database; what counts is that they are within their targets and right.
"""

import argparse
import asyncio
import time

from test_framework.battery.isolation import (
    PUBLISHED,
    PostgresLevel,
    fingerprint,
    run_matrix,
)
from test_framework.services import running_services

RUNS = 3


def matrix_line(dsn: str, runs: int) -> str:
    """Return the line of the matrix."""
    took, right = [], 0
    for _ in range(runs):
        begun = time.perf_counter()
        found = asyncio.run(run_matrix(dsn))
        took.append(time.perf_counter() - begun)
        allowed = {level: found.allowed(level) for level in found.levels}
        right += allowed == PUBLISHED
    cells = f"matrix, {len(found.cells)} cells"
    return f"| {cells} | 5 s | {max(took):.2f} s | {right} of {runs} as published |"


def fingerprint_line(dsn: str, level: PostgresLevel, runs: int) -> str:
    """Return the line of the fingerprint of one level."""
    took, right, committed = [], 0, 0
    for seed in range(runs):
        begun = time.perf_counter()
        found = asyncio.run(fingerprint(dsn, level=level, seed=seed))
        took.append(time.perf_counter() - begun)
        right += found.level is level
        committed += found.committed
    told = f"{right} of {runs} right, {committed // runs} transactions each"
    return f"| fingerprint, {level.upper()} | 10 s | {max(took):.2f} s | {told} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    runs = parser.parse_args().runs
    print("| work | target | slowest | verdicts |")
    print("|---|--:|--:|---|")
    with running_services() as services:
        print(matrix_line(services.database_url, runs), flush=True)
        for level in PostgresLevel:
            print(fingerprint_line(services.database_url, level, runs), flush=True)


if __name__ == "__main__":
    main()
