"""Rate of the checkers of transactions, and their peak of memory.

Run ``python -m benchmarks.check_transactions``. The histories are those of a simulated
database that is strict serializable: 20 sessions, ten keys in use at a time that are
replaced after 32 writes, transactions of one to four operations, half of them reads.
Each is checked in a process of its own, for the peak of its memory, and rates are of CPU
time: what other processes do on the machine matters less to them. Making the history is
not counted; its columns are.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from bisect import insort
from dataclasses import fields
from itertools import product
from pathlib import Path

import numpy as np

from test_framework.check.formats import read_history
from test_framework.check.transactions import (
    Kind,
    LogBuilder,
    Micro,
    TransactionLog,
    check_list_append,
    check_registers,
)
from test_framework.check.witness import Checked

SESSIONS = 20
KEYS_IN_USE = 10
WRITES_PER_KEY = 32
LONGEST = 4

TABLES = ("sessions", "keys", "values")

HUGE = Path(__file__).parents[2] / "shared" / "histories" / "elle" / "huge-scc.edn"

ELLE = {
    100_000: "7-26 k/s by wall",
    500_000: "15-18 k/s by wall, 7.6 GB",
}
"""Elle on histories of this kind, on a machine like ours; measured by hand (issue 5)."""

TARGET = {500_000: ">= 150 k/s, < 2 GB"}


def simulate(count: int, seed: int, *, is_list: bool) -> TransactionLog:
    """Return the history of a database that is strict serializable.

    Args:
        count: Transactions (>= 0).
        seed: Of all choices.
        is_list: Append to lists; else write to registers, each after a read of it.
    """
    rng = random.Random(seed)
    builder = LogBuilder()
    keys = list(range(KEYS_IN_USE))
    store: dict[int, list[int]] = {key: [] for key in keys}
    new = KEYS_IN_USE
    # Each session has one transaction under way; they take effect one after the other.
    under_way: list[tuple[int, int, int]] = []
    for session in range(SESSIONS):
        invoked = rng.randrange(1000)
        insort(under_way, (invoked + rng.randrange(1, 1000), invoked, session))
    for _ in range(count):
        effect, invoked, session = under_way.pop(0)
        operations: list[Micro] = []
        for _ in range(rng.randint(1, LONGEST)):
            at = rng.randrange(KEYS_IN_USE)
            key = keys[at]
            is_read = rng.random() < 0.5
            if is_list and is_read:
                operations.append(("r", key, tuple(store[key])))
            elif not is_list:
                operations.append(("r", key, store[key][-1] if store[key] else None))
            if is_read:
                continue
            value = len(store[key]) + 1
            store[key].append(value)
            operations.append(("append" if is_list else "w", key, value))
            if value == WRITES_PER_KEY:
                keys[at], store[new] = new, []
                new += 1
        completed = effect + rng.randrange(1, 1000)
        builder.add(session, operations, invoked=invoked, completed=completed)
        invoked = completed + rng.randrange(1, 100)
        insort(under_way, (invoked + rng.randrange(1, 1000), invoked, session))
    return builder.build()


def measure(log: TransactionLog, rounds: int) -> tuple[float, Checked]:
    """Return the least CPU time of a check in seconds, and its answer."""
    is_list = bool(np.any(log.kind == Kind.APPEND))
    best, checked = float("inf"), None
    for _ in range(rounds):
        started = time.process_time()
        checked = check_list_append(log) if is_list else check_registers(log)
        best = min(best, time.process_time() - started)
    if checked is None:
        raise AssertionError(rounds)
    return best, checked


def measure_apart(log: TransactionLog, rounds: int) -> dict[str, float | str]:
    """Check a simulated history in a process of its own; it needs no more than that."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.npz"
        columns = {
            field.name: getattr(log, field.name)
            for field in fields(log)
            if field.name not in TABLES
        }
        names = {name: np.array(getattr(log, name)) for name in TABLES}
        np.savez(path, allow_pickle=False, **columns, **names)
        command = [sys.executable, "-m", "benchmarks.check_transactions"]
        done = subprocess.run(  # our own module
            [*command, "--only", str(path), "--rounds", str(rounds)],
            check=True,
            capture_output=True,
            text=True,
        )
    answer: dict[str, float | str] = json.loads(done.stdout)
    return answer


def check_only(path: Path, rounds: int) -> None:
    """Check one stored history, and print the time, the peak of memory, the verdict."""
    with np.load(path) as stored:
        columns = {name: stored[name] for name in stored.files if name not in TABLES}
        names = {name: tuple(stored[name].tolist()) for name in TABLES}
    log = TransactionLog(**columns, **names)
    seconds, checked = measure(log, rounds)
    # Of this program alone: ``ru_maxrss`` counts what its parent held before it as well.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak_mb = int(status.partition("VmHWM:")[2].split()[0]) / 1000
    print(
        json.dumps({"s": seconds, "peak_mb": peak_mb, "verdict": str(checked.verdict)})
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        check_only(options.only, options.rounds)
        return
    print("| history | target | Elle | CPU time | rate | peak memory | verdict |")
    print("|---|---|---|--:|--:|--:|---|")
    for kind, count in product(("list", "register"), ELLE):
        is_list = kind == "list"
        log = simulate(count, seed=1, is_list=is_list)
        told = measure_apart(log, options.rounds)
        seconds = float(told["s"])
        target, anchor = (TARGET.get(count, ""), ELLE[count]) if is_list else ("", "")
        print(
            f"| {count:,} transactions on {kind}s | {target} | {anchor} "
            f"| {seconds:.2f} s | {count / seconds / 1000:,.0f} k/s "
            f"| {float(told['peak_mb']):,.0f} MB | {told['verdict']} |"
        )
    if not HUGE.exists():
        print(f"\n{HUGE.name} is not beside the project, so it was not checked.")
        return
    log = read_history(HUGE)
    if not isinstance(log, TransactionLog):
        raise TypeError(HUGE)
    seconds, checked = measure(log, options.rounds)
    worst = checked.anomalies[0]
    print(
        f"| elle huge-scc.edn | < 1 s | gives up after 10 s "
        f"| {seconds:.2f} s | {len(log) / seconds / 1000:,.0f} k/s | "
        f"| {checked.verdict}: {worst.name}, {len(worst.items)} transactions |"
    )


if __name__ == "__main__":
    main()
