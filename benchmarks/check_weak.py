"""Isolation levels of black-box register histories: events per second, seconds, memory.

Run ``python -m benchmarks.check_weak [--events N] [--histories FOLDER]``. Weak levels
judge a simulated serial database of 50 sessions in transactions of 8 operations, as large
as the one that AWDIT was measured on. Snapshot isolation and serializability judge the
public histories of PolySI, if the folder that holds them is named. Each figure is CPU time
of a process of its own; only ratios to the anchors mean something, which were taken on
two cores that others used as well.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from test_framework.check.formats import read_history
from test_framework.check.transactions import TransactionLog
from test_framework.check.transactions.black_box import check_black_box
from test_framework.check.transactions.columns import log_of_columns
from test_framework.check.transactions.weak import WEAK, IsolationLevel

EVENTS = 2_000_000
OPERATIONS = 8
SESSIONS = 50
KEYS = 10_000

AWDIT = {
    IsolationLevel.READ_COMMITTED: (1.65e6, "0.18 GB"),
    IsolationLevel.READ_ATOMIC: (0.83e6, "0.32 GB"),
    IsolationLevel.CAUSAL: (0.15e6, "2.8 GB"),
}
"""AWDIT cde5da5 (Rust), 2.0 M events in 50 sessions: events a second, and memory."""

POLYSI = {
    "violations/dgraph": (2.84, ""),
    "fig7/20_10_15_10000_0.5_uniform": (1.12, ""),
    "fig7/20_100_15_10000_0.5_uniform": (6.46, "349 MB"),
    "fig7/20_100_15_1000_0.5_uniform": (29.6, "1.2 GB"),
    "fig7/30_100_15_10000_0.5_uniform": (15.9, ""),
    "fig7/20_250_15_10000_0.5_uniform": (27.1, "1.9 GB"),
    "fig8/25_400_8_10000_0.5_uniform": (45.8, "1.6 GB"),
    "fig8/rubis-10000": (10.6, ""),
    "fig8/twitter-10000": (13.1, ""),
}
"""PolySI (Java and MonoSAT) judging snapshot isolation: CPU seconds, and memory."""


def serial_history(events: int) -> TransactionLog:
    """Return what clients of a serial database saw; half of the operations write."""
    rng = np.random.default_rng(7)
    count = events // OPERATIONS
    session = rng.integers(0, SESSIONS, count)
    key = rng.integers(0, KEYS, count * OPERATIONS)
    is_write = rng.random(count * OPERATIONS) < 0.5
    value = np.arange(1, count * OPERATIONS + 1)
    store = [0] * KEYS
    seen = value.tolist()
    for at, (place, writes) in enumerate(
        zip(key.tolist(), is_write.tolist(), strict=True)
    ):
        if writes:
            store[place] = seen[at]
        else:
            seen[at] = store[place]
    order = np.argsort(session, kind="stable")
    moved = (order[:, None] * OPERATIONS + np.arange(OPERATIONS)).reshape(-1)
    found = np.array(seen)[moved]
    return log_of_columns(
        session=session[order],
        sizes=np.full(count, OPERATIONS),
        is_write=is_write[moved],
        key=key[moved],
        value=found,
        is_initial=found == 0,
    )


def plume_text(log: TransactionLog) -> bytes:
    """Return the history as Plume writes it, to measure reading as well."""
    columns = zip(
        log.kind.tolist(),
        log.key.tolist(),
        log.value.tolist(),
        log.session[log.transaction].tolist(),
        log.transaction.tolist(),
        strict=True,
    )
    return "".join(
        f"{'w' if kind == 2 else 'r'}({key},{value + 1},{session},{number})\n"
        for kind, key, value, session, number in columns
    ).encode()


def measure(path: str, level: str) -> None:
    """Print as JSON what judging one file by one level takes."""
    read_at = time.process_time()
    log = read_history(path)
    if not isinstance(log, TransactionLog):
        message = f"{path} holds no transactions"
        raise SystemExit(message)
    judged_at = time.process_time()
    checked = check_black_box(log, IsolationLevel(level))
    ended_at = time.process_time()
    figures = {
        "verdict": checked.verdict,
        "read": judged_at - read_at,
        "judge": ended_at - judged_at,
        "mb": peak_mb(),
    }
    print(json.dumps(figures))


def peak_mb() -> float:
    """Return the most memory this process had; ``getrusage`` counts its parent too."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def measured(path: Path, level: IsolationLevel) -> dict[str, float]:
    """Return the figures of a process of its own."""
    command = [sys.executable, "-m", "benchmarks.check_weak"]
    done = subprocess.run(
        [*command, "--one", str(path), "--level", level],
        check=True,
        capture_output=True,
        text=True,
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def weak_table(events: int, folder: Path) -> None:
    """Print how fast the weak levels are judged."""
    path = folder / "serial.txt"
    path.write_bytes(plume_text(serial_history(events)))
    print(
        "| level | events | verdict | read | judge | events/s | AWDIT | ratio | memory |"
    )
    print("|---|--:|---|--:|--:|--:|--:|--:|--:|")
    for level in WEAK:
        one = measured(path, level)
        rate = events / (one["read"] + one["judge"])
        anchor, memory = AWDIT[level]
        print(
            f"| {level} | {events / 1e6:.1f} M | {one['verdict']} | {one['read']:.2f} s | "
            f"{one['judge']:.2f} s | {rate / 1e6:.2f} M | {anchor / 1e6:.2f} M | "
            f"x {anchor / rate:.2f} time | {one['mb']:.0f} MB ({memory}) |"
        )


def hard_table(histories: Path) -> None:
    """Print how fast the levels are judged that are NP-hard."""
    print("| history | level | verdict | read and judge | PolySI | ratio | memory |")
    print("|---|---|---|--:|--:|--:|--:|")
    levels = (IsolationLevel.SNAPSHOT_ISOLATION, IsolationLevel.SERIALIZABLE)
    for name, level in itertools.product(POLYSI, levels):
        one = measured(histories / "polysi" / name, level)
        anchor, memory = POLYSI[name]
        took = one["read"] + one["judge"]
        is_anchored = level is IsolationLevel.SNAPSHOT_ISOLATION
        rival = f"{anchor} s | x {took / anchor:.3f}" if is_anchored else "|"
        shown = f" ({memory})" if memory and is_anchored else ""
        print(
            f"| {name.split('/')[1]} | {level} | {one['verdict']} | {took:.2f} s | "
            f"{rival} | {one['mb']:.0f} MB{shown} |"
        )


def main() -> None:
    """Print both tables, or measure one history."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--histories", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument(
        "--level", default=IsolationLevel.CAUSAL, help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    if options.one:
        measure(options.one, options.level)
        return
    with tempfile.TemporaryDirectory() as folder:
        weak_table(options.events, Path(folder))
    if options.histories is None:
        print("\nName a folder with --histories for snapshot isolation.")
        return
    print()
    hard_table(options.histories)


if __name__ == "__main__":
    main()
