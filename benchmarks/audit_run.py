"""The main job as a newcomer runs it: wall time, work done, bursts, memory.

``isolation-audit run`` is started as its own process on the reference service with
packaged Postgres and Redis, ``--runs`` times; figures are read from audit.json. A
second table audits the small notes service again and again in one process and
watches its resident memory.
"""

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from test_framework.config import Config
from test_framework.core import History
from test_framework.staging import perform

REPOSITORY = Path(__file__).parents[1]


def clean_environment() -> dict[str, str]:
    """Return the environment without what points audits elsewhere."""
    dropped = {"DATABASE_URL", "REDIS_URL", "ISOLATION_TARGET"}
    return {name: value for name, value in os.environ.items() if name not in dropped}


def measure_run(folder: Path, *, users: int) -> dict[str, float]:
    """Run one audit as a process and return its figures."""
    started = time.perf_counter()
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "test_framework.cli", "run"),
            *("--users", str(users), "--report", str(folder)),
        ],
        cwd=REPOSITORY,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    wall_s = time.perf_counter() - started
    document = json.loads((folder / "audit.json").read_text())
    if ended.returncode != 0:
        sys.exit(f"The audit ended with {ended.returncode}:\n{ended.stdout}")
    bursts = [b for b in document["bursts"] if 2 * b["size"] > users]
    return {
        "wall, process start to exit (s)": wall_s,
        "audit alone (s)": document["seconds"],
        "HTTP requests": document["requests"],
        "WebSockets": document["websockets"],
        "least in flight in a burst of all": min(b["in_flight"] for b in bursts),
        "handler start spread, median burst (ms)": statistics.median(
            b["spread_ms"] for b in bursts
        ),
        "handler start spread, worst burst (ms)": max(b["spread_ms"] for b in bursts),
        "peak memory of the auditing process (MiB)": document["peak_memory_mb"],
    }


def measure_memory(runs: int) -> list[float]:
    """Audit the notes service ``runs`` times in this process; RSS in MiB after each."""
    config = Config(
        target="tests.targets.notes:create_app",
        workload=REPOSITORY / "tests" / "targets" / "notes_audit.py",
        users=100,
        seed=1,
        root=REPOSITORY,
    )
    after = []
    for _ in range(runs):
        perform(config, History(), environ=clean_environment())
        gc.collect()
        after.append(psutil.Process().memory_info().rss / 2**20)
    return after


def main() -> None:
    """Print both tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--memory-runs", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        # Not counted: the first run of a machine makes the database template.
        measure_run(Path(folder), users=options.users)
        rows = [
            measure_run(Path(folder), users=options.users) for _ in range(options.runs)
        ]
    print(f"| {options.users} users, {options.runs} runs | min | median | max |")
    print("|---|--:|--:|--:|")
    for name in rows[0]:
        values = [row[name] for row in rows]
        cells = (min(values), statistics.median(values), max(values))
        print(f"| {name} | " + " | ".join(f"{value:,.1f}" for value in cells) + " |")
    print()
    print("| resident memory after audit | MiB |")
    print("|---|--:|")
    for number, rss in enumerate(measure_memory(options.memory_runs), 1):
        print(f"| {number} | {rss:.1f} |")


if __name__ == "__main__":
    main()
