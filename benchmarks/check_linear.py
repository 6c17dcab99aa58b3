"""Time and memory of the checkers of calls: linearizability, sessions, flow.

Run ``python -m benchmarks.check_linear``. The public histories are searched, as
Porcupine does; all others are drawn, and checked as they are by default. Times are CPU
time, the best of the rounds, and include the witness of a history that is wrong; reading
files and putting calls in columns is not counted. The peak of memory is that of a
process that loads the columns of one history and judges it.

Porcupine was measured by hand, with GOMAXPROCS=1, on a machine like ours (issue 5):
read the ratios.
"""

import argparse
import csv
import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np

from test_framework.check.linear import (
    CallLog,
    CasRegister,
    Counter,
    KeyValue,
    Limits,
    Queue,
    Register,
    check_linearizability,
)
from test_framework.check.linear.columns import NOTHING, Ints
from test_framework.check.sessions import check_sessions
from test_framework.check.witness import Checked

PUBLIC = Path(__file__).parents[2] / "shared" / "histories" / "porcupine"
TABLES = ("processes", "kinds", "keys", "values")
MB = 1000
"""Kilobytes."""

PORCUPINE_S = {
    "etcd, 102 logs": 0.458,
    "etcd_002, the hardest": 0.168,
    "kv c10-ok": 0.00084,
    "kv c10-bad": 0.00042,
    "kv c50-ok": 0.162,
    "kv c50-bad": 0.014,
    "register, 1 M calls, 1,000 keys": 2.053,
    "register, 1 M calls, 1,000 keys, one stale": 1.203,
    "register, 20 k calls, 1 key": 54.181,
}
"""The least of what was measured."""


def columns(
    kind: Ints, argument: Ints, result: Ints, **others: Ints | tuple[object, ...]
) -> CallLog:
    """Return calls of which each takes effect 10 after the one before, and overlap."""
    count = len(kind)
    rng = np.random.default_rng(1)
    width = rng.integers(1, 500, count)
    point = np.arange(count) * 10
    invoked = point - rng.integers(0, width)
    table: dict[str, object] = {
        "process": np.zeros(count, dtype=np.int64),
        "key": np.zeros(count, dtype=np.int64),
        "invoked": invoked,
        "completed": np.maximum(invoked + width, point),
        "index": np.arange(count),
        "processes": (0,),
        "keys": (0,),
        "values": tuple(range(int(max(argument.max(), result.max())) + 1)),
    }
    table |= {"kind": kind, "argument": argument, "result": result} | others
    return CallLog(**table)  # type: ignore[arg-type]  # one table of all columns


def registers(count: int, keys: int, *, is_stale: bool = False) -> CallLog:
    """Return writes of distinct values and reads, on some keys."""
    rng = np.random.default_rng(0)
    key = rng.integers(0, keys, count)
    write = rng.random(count) < 0.5
    argument = np.where(write, np.cumsum(write) - 1, NOTHING)
    # What was written last to the same key.
    order = np.argsort(key, kind="stable")
    place = np.arange(count)
    latest = np.maximum.accumulate(np.where(write[order], place, -1))
    heads = np.concatenate(([True], np.diff(key[order]) != 0))
    first = np.maximum.accumulate(np.where(heads, place, 0))
    found = np.where(latest >= first, argument[order][np.maximum(latest, 0)], NOTHING)
    result = np.empty(count, dtype=np.int64)
    result[order] = np.where(write[order], NOTHING, found)
    if is_stale:
        reads = np.flatnonzero((result != NOTHING) & (key == key[0]))
        result[reads[len(reads) // 2]] = result[reads[0]]
    return columns(
        np.where(write, 0, 1),
        argument,
        result,
        key=key,
        kinds=("write", "read"),
        keys=tuple(range(keys)),
    )


def counter(count: int, workers: int) -> CallLog:
    """Return increments of some workers that return what they made it."""
    return columns(
        np.zeros(count, dtype=np.int64),
        np.full(count, NOTHING),
        np.arange(count) + 1,
        process=np.arange(count) % workers,
        processes=tuple(range(workers)),
        kinds=("increment",),
        values=tuple(range(count + 1)),
    )


def queue(count: int) -> CallLog:
    """Return values that are put in and taken out one after the other."""
    put = np.arange(count) % 2 == 0
    number = np.arange(count) // 2
    return columns(
        np.where(put, 0, 1),
        np.where(put, number, NOTHING),
        np.where(put, NOTHING, number),
        kinds=("enqueue", "dequeue"),
        key=np.zeros(count, dtype=np.int64),
    )


def versions(count: int) -> CallLog:
    """Return reads and writes of rising versions by 100 sessions on 1,000 objects."""
    rng = np.random.default_rng(0)
    write = rng.random(count) < 0.5
    version = np.arange(count)
    point = version * 10
    return columns(
        np.where(write, 0, 1),
        np.where(write, version, NOTHING),
        np.where(write, NOTHING, version),
        process=rng.integers(0, 100, count),
        key=rng.integers(0, 1000, count),
        invoked=point,
        completed=point + 9,
        processes=tuple(range(100)),
        kinds=("write", "read"),
        keys=tuple(range(1000)),
    )


def users(count: int) -> CallLog:
    """Return 100 users that write and read what is theirs, and one read that is not."""
    log = registers(count, 10_000)
    result = log.result.copy()
    reads = np.flatnonzero(result != NOTHING)
    foreign = np.flatnonzero((log.kind == 0) & (log.key >= 5000))[0]
    victim = reads[log.key[reads] < 5000][len(reads) // 4]
    result[victim] = log.argument[foreign]
    return columns(
        log.kind,
        log.argument,
        result,
        key=log.key,
        process=log.key // 100,
        processes=tuple(range(100)),
        kinds=log.kinds,
        keys=tuple(f"user/{n // 100}/{n % 100}" for n in range(10_000)),
        values=tuple(f"canary-{n:09}" for n in range(len(log.values))),
    )


def hot_key(count: int) -> CallLog:
    """Return a register of 200 values, each written many times, with a stale read."""
    log = registers(count, 1)
    stale = log.result.copy()
    reads = np.flatnonzero(stale != NOTHING)
    stale[reads[len(reads) // 2]] = stale[reads[len(reads) // 2 - 150]]
    argument = np.where(log.argument >= 0, log.argument % 200, NOTHING)
    result = np.where(stale >= 0, stale % 200, NOTHING)
    return columns(log.kind, argument, result, kinds=log.kinds)


def check_flow(log: CallLog) -> Checked:
    """Judge flow; imported here, for it loads scipy, whose 30 MB others do not need."""
    flow = importlib.import_module("test_framework.check.flow")
    checked: Checked = flow.check_flow(log)
    return checked


def _sorted_register(log: CallLog) -> Checked:
    return check_linearizability(log, Register())


DRAWN: dict[str, tuple[Callable[[], CallLog], Callable[[CallLog], Checked], str]] = {
    "register, 1 M calls, 1,000 keys": (
        lambda: registers(1_000_000, 1000),
        _sorted_register,
        "<= 0.25 s, <= 200 MB",
    ),
    "register, 1 M calls, 1,000 keys, one stale": (
        lambda: registers(1_000_000, 1000, is_stale=True),
        _sorted_register,
        "<= 0.25 s, <= 200 MB",
    ),
    "register, 20 k calls, 1 key": (
        lambda: registers(20_000, 1),
        _sorted_register,
        "<= 0.05 s",
    ),
    "register, 20 k calls, 1 key, one stale": (
        lambda: registers(20_000, 1, is_stale=True),
        _sorted_register,
        "<= 0.05 s",
    ),
    "counter, 4.8 M increments of 48 workers": (
        lambda: counter(4_800_000, 48),
        lambda log: check_linearizability(log, Counter()),
        "",
    ),
    "queue, 1 M calls": (
        lambda: queue(1_000_000),
        lambda log: check_linearizability(log, Queue()),
        "",
    ),
    "sessions, 1 M calls": (lambda: versions(1_000_000), check_sessions, ""),
    "flow, 1 M calls of 100 users": (lambda: users(1_000_000), check_flow, "< 2 s"),
    "register, 20 k calls, 1 key, values not distinct": (
        lambda: hot_key(20_000),
        lambda log: check_linearizability(
            log, Register(), limits=Limits(seconds=60, memory_bytes=512 << 20)
        ),
        "unknown in 60 s, <= 512 MB",
    ),
}


def search_public(rounds: int) -> list[tuple[str, float, str]]:
    """Search the public histories; return the time of each row, and how many agree."""
    formats = importlib.import_module("test_framework.check.formats")
    with (PUBLIC / "verdicts.csv").open(encoding="utf-8") as file:
        verdicts = dict(list(csv.reader(file))[1:])
    times: dict[str, float] = {}
    right: dict[str, bool] = {}
    for name, expected in verdicts.items():
        calls = formats.read_history(PUBLIC / name)
        model = KeyValue() if name.startswith("kv") else CasRegister()
        times[name], checked = best(
            lambda calls=calls, model=model: check_linearizability(  # type: ignore[misc]  # bound at once
                calls, model, only_search=True
            ),
            rounds,
        )
        right[name] = (checked.verdict == "valid") == (expected == "true")
    etcd = [name for name in verdicts if name.startswith("jepsen")]
    rows = [
        ("etcd, 102 logs", etcd),
        ("etcd_002, the hardest", ["jepsen/etcd_002.log"]),
        *(
            (f"kv {name[3:-4]}", [name])
            for name in verdicts
            if name.startswith("kv") and "c01" not in name
        ),
    ]
    return [
        (
            row,
            sum(times[name] for name in names),
            f"{sum(right[name] for name in names)} of {len(names)} right",
        )
        for row, names in rows
    ]


def best(check: Callable[[], Checked], rounds: int) -> tuple[float, Checked]:
    """Return the least CPU time in seconds, and the last answer."""
    times = []
    while True:
        started = time.process_time()
        checked = check()
        times.append(time.process_time() - started)
        if len(times) >= rounds:
            return min(times), checked


def measure_apart(name: str, rounds: int) -> dict[str, float | str]:
    """Check a drawn history in a process of its own; it needs no more than that."""
    log = DRAWN[name][0]()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.npz"
        tables = {table: np.array(getattr(log, table)) for table in TABLES}
        own = {
            field.name: getattr(log, field.name)
            for field in fields(log)
            if field.name not in TABLES
        }
        np.savez(path, allow_pickle=False, **own, **tables)
        del log, own, tables
        command = [sys.executable, "-m", "benchmarks.check_linear", "--only", str(path)]
        done = subprocess.run(  # our own module
            [*command, "--name", name, "--rounds", str(rounds)],
            check=True,
            capture_output=True,
            text=True,
        )
    answer: dict[str, float | str] = json.loads(done.stdout)
    return answer


def check_only(path: Path, name: str, rounds: int) -> None:
    """Check one stored history, and print the time, the peak of memory, the verdict."""
    with np.load(path) as stored:
        own = {field: stored[field] for field in stored.files if field not in TABLES}
        tables = {table: tuple(stored[table].tolist()) for table in TABLES}
    log = CallLog(**own, **tables)
    seconds, checked = best(lambda: DRAWN[name][1](log), rounds)
    answer = {"s": seconds, "peak_mb": peak_mb(), "verdict": str(checked.verdict)}
    print(json.dumps(answer))


def peak_mb() -> float:
    """Return the peak of this process's resident memory.

    ``getrusage`` would count that of the process that started this one.
    """
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / MB
    raise OSError(line)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--name", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        check_only(options.only, options.name, options.rounds)
        return
    print("| history | target | Porcupine | CPU time | ratio | peak memory | verdict |")
    print("|---|---|--:|--:|--:|--:|---|")
    if PUBLIC.exists():
        for row, seconds, verdict in search_public(options.rounds):
            print_row(row, "<= 1.0 x" if row.startswith("etcd,") else "<= 2 x", seconds)
            print(f" - | {verdict} |")
    else:
        print("| The public histories are not beside the project. | | | | | | |")
    for name, (_, _, target) in DRAWN.items():
        is_hard = name.endswith("not distinct")
        found = measure_apart(name, 1 if is_hard else options.rounds)
        print_row(name, target, float(found["s"]))
        print(f" {found['peak_mb']:.0f} MB | {found['verdict']} |", flush=True)


def print_row(name: str, target: str, seconds: float) -> None:
    """Print a row up to its ratio."""
    rival = PORCUPINE_S.get(name)
    anchor, ratio = ("-", "-")
    if rival is not None:
        anchor, ratio = f"{rival * 1000:,.1f} ms", f"{seconds / rival:.3f}"
    print(
        f"| {name} | {target} | {anchor} | {seconds * 1000:,.1f} ms | {ratio} |", end=""
    )


if __name__ == "__main__":
    main()
