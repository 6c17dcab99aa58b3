"""Cost of an operation: increments, a map and a channel, per backend; and 4.8 M at once.

Run ``python -m benchmarks.battery``; Redis and Postgres are started unless
``DATABASE_URL`` and ``REDIS_URL`` say where they are. The Go original reports 20.10 ns
for an atomic increment, 109.9 ns for a concurrent map and 1.177 ns for a "channel" that
nobody receives from: compiled code, one call each, with nothing written down. So each
thing is measured twice here: the bare call by one worker, and the same by eight workers
of the battery, who write down two instants, the arguments and the answer of each call.
What one process does is CPU time; where others work as well, it is that of the wall.
"""

import argparse
import asyncio
import resource
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import asyncpg
from redis.asyncio import Redis

from test_framework.battery import RaceRun, RaceTestConfig, RaceTestRunner, Worker
from test_framework.battery.cells import (
    AsyncioCell,
    PostgresCell,
    ProcessCell,
    RedisCell,
    ThreadCell,
)
from test_framework.battery.cells.postgres import postgres_connection
from test_framework.battery.cells.redis import redis_connection
from test_framework.battery.channels import (
    AsyncioChannel,
    PostgresQueueChannel,
    ProcessChannel,
    RedisListChannel,
    ThreadChannel,
)
from test_framework.battery.config import WorkerKind
from test_framework.battery.subject import made
from test_framework.battery.tickets import INCREMENT, check_tickets
from test_framework.battery.worker import Work, connected
from test_framework.services import running_services

WORKERS = 8
ROUNDS = 3
KEYS = 64
CAPACITY = 1024
WAIT_S = 10.0

ORIGINAL_NS = {
    "atomic increment": "20.10",
    "concurrent map": "109.9",
    "channel": "1.177",
}

BIG_WORKERS = 48
BIG_TURNS = 100_000


class ThreadMap:
    """A dict of threads, under a lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items: dict[int, int] = {}

    def put(self, key: int, value: int) -> None:
        """Store a value."""
        with self._lock:
            self._items[key] = value


class AsyncioMap:
    """A dict of tasks, under a lock of theirs."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._items: dict[int, int] = {}

    async def put(self, key: int, value: int) -> None:
        """Store a value."""
        async with self._lock:
            self._items[key] = value


class _RedisHash:
    def __init__(self, client: Redis) -> None:
        self._client = client

    async def put(self, key: int, value: int) -> None:
        answer: Any = self._client.hset("battery:map", str(key), str(value))
        await answer


class RedisMap:
    """A hash of Redis: HSET."""

    def __init__(self, url: str) -> None:
        self._url = url

    def connect(self) -> Any:  # noqa: ANN401  # a context manager of either kind
        """Yield a worker's own connection."""
        return _through(redis_connection(self._url), _RedisHash)


_UPSERT = (
    "insert into battery_map (key, value) values ($1, $2) "
    "on conflict (key) do update set value = excluded.value"
)


class _PostgresTable:
    def __init__(self, connection: Any) -> None:  # noqa: ANN401  # asyncpg has no types
        self._connection = connection

    async def put(self, key: int, value: int) -> None:
        await self._connection.execute(_UPSERT, key, value)


class PostgresMap:
    """A table of Postgres: insert, or update on conflict."""

    def __init__(self, url: str) -> None:
        self._url = url

    def connect(self) -> Any:  # noqa: ANN401  # a context manager of either kind
        """Yield a worker's own connection."""
        return _through(postgres_connection(self._url), _PostgresTable)


class _through:  # noqa: N801  # a context manager
    def __init__(self, inner: Any, make: Callable[[Any], Any]) -> None:  # noqa: ANN401  # as above
        self._inner, self._make = inner, make

    async def __aenter__(self) -> Any:  # noqa: ANN401  # as above
        return self._make(await self._inner.__aenter__())

    async def __aexit__(self, *error: object) -> None:
        await self._inner.__aexit__(*error)


async def increment(worker: Worker[Any]) -> None:
    """Add 1."""
    await worker.journal.call(INCREMENT, worker.shared.increment)


async def put(worker: Worker[Any]) -> None:
    """Store one of ``KEYS`` values."""
    turn = worker.iteration
    await worker.journal.call("put", worker.shared.put, turn % KEYS, turn)


async def pass_on(worker: Worker[Any]) -> None:
    """Send a message and receive one: two operations."""
    await worker.journal.call("send", worker.shared.send, "message", worker.index)
    await worker.journal.call("receive", worker.shared.receive, worker.index)


async def pass_on_blocking(worker: Worker[Any]) -> None:
    """The same through a channel that blocks."""
    await worker.journal.call("send", worker.shared.send, "message", 0, WAIT_S)
    await worker.journal.call("receive", worker.shared.receive, 0, WAIT_S)


@dataclass(frozen=True)
class Row:
    """A thing to measure.

    Attributes:
        name: What is done.
        backend: Where.
        kind: What the workers are.
        make: Makes it.
        work: A turn of a worker of the battery.
        bare: The calls of a turn, without the battery.
        turns: How many are measured.
        calls: How many there are in a turn.
        includes: What is in the figure of the bare call.
        is_wire: Whether a server does the work: time of the wall then, else of the CPU.
    """

    name: str
    backend: str
    kind: WorkerKind
    make: Callable[[], Any]
    work: Work[Any]
    bare: Callable[[Any, int], Any]
    turns: int
    includes: str
    calls: int = 1
    is_wire: bool = False


async def bare_ns(row: Row) -> float:
    """Return the time of one call by one worker, nanoseconds; the best of the rounds."""
    best, now = float("inf"), time.perf_counter if row.is_wire else time.process_time
    async with made(row.make) as subject, connected(subject) as own:
        # What one turn of the loop below costs without any call is left in: 20 ns.
        for _ in range(ROUNDS):
            started = now()
            for turn in range(row.turns):
                answer = row.bare(own, turn)
                if answer is not None:
                    await answer
            best = min(best, now() - started)
    return best / row.turns / row.calls * 1e9


async def battery_ns(row: Row) -> float:
    """Return the same by the battery, with all that a run costs; without its start."""
    best = float("inf")
    for _ in range(ROUNDS):
        async with made(row.make) as subject:
            config = RaceTestConfig(
                workers=WORKERS,
                iterations=max(1, row.turns // WORKERS),
                kind=row.kind,
                detect_deadlocks=False,
                pauses=0,
                preemptions=0,
                timeout_s=600,
                quiet_s=60,
            )
            cpu_s = time.process_time()
            run = await RaceTestRunner(config).run(row.work, subject)
            cpu_ns = (time.process_time() - cpu_s) * 1e9 / run.overlap.operations
            is_elsewhere = row.is_wire or row.kind == "process"
            best = min(best, _span_ns(run) if is_elsewhere else cpu_ns)
    return best


def _span_ns(run: RaceRun) -> float:
    """Return the time from the first call to the last answer, by call."""
    if run.errors or run.hang:
        raise RuntimeError(f"{run.errors[:1]} {run.hang}")
    begin = min(journal.invoked[0] for journal in run.journals if journal.invoked)
    end = max(journal.ended[-1] for journal in run.journals if journal.ended)
    return (end - begin) / run.overlap.operations


def _put(own: Any, turn: int) -> Any:  # noqa: ANN401  # any map
    return own.put(turn % KEYS, turn)


def _increment(own: Any, _turn: int) -> Any:  # noqa: ANN401  # any cell
    return own.increment()


async def _pass(own: Any, _turn: int) -> None:  # noqa: ANN401  # any channel
    await own.send("message", 0)
    await own.receive(0)


def _pass_blocking(own: Any, _turn: int) -> None:  # noqa: ANN401  # any channel
    own.send("message", 0, WAIT_S)
    own.receive(0, WAIT_S)


def _silently(call: Callable[[Any, int], Any]) -> Callable[[Any, int], None]:
    """Drop the answer: it is not to be awaited."""

    def silent(own: Any, turn: int) -> None:  # noqa: ANN401  # any of them
        call(own, turn)

    return silent


def rows(database_url: str, redis_url: str) -> list[Row]:
    """Return everything that is measured."""
    add, store, move = "atomic increment", "concurrent map", "channel"
    wire = "a round trip to a server of this machine"
    return [
        Row(add, "asyncio.Lock", "task", AsyncioCell, increment, _increment, 4_000,
            "lock, one turn of the loop, add, unlock"),
        Row(add, "threading.Lock", "thread", ThreadCell, increment,
            _silently(_increment), 80_000, "lock, add, unlock"),
        Row(add, "shared memory", "process", ProcessCell, increment,
            _silently(_increment), 40_000, "semaphore of the kernel, add, release"),
        Row(add, "Redis INCR", "task", lambda: RedisCell(redis_url), increment,
            _increment, 2_000, wire, is_wire=True),
        Row(add, "Postgres update..returning", "task",
            lambda: PostgresCell(database_url), increment, _increment, 800,
            f"{wire}, a commit", is_wire=True),
        Row(store, "dict, asyncio.Lock", "task", AsyncioMap, put, _put, 20_000,
            "lock, store, unlock; nobody waits"),
        Row(store, "dict, threading.Lock", "thread", ThreadMap, put, _silently(_put),
            80_000, "lock, store, unlock"),
        Row(store, "Redis HSET", "task", lambda: RedisMap(redis_url), put, _put, 2_000,
            wire, is_wire=True),
        Row(store, "Postgres upsert", "task", lambda: PostgresMap(database_url), put,
            _put, 800, f"{wire}, a commit", is_wire=True),
        Row(move, "asyncio.Queue", "task", lambda: AsyncioChannel(CAPACITY), pass_on,
            _pass, 20_000, "put and get, half each", 2),
        Row(move, "queue.Queue", "thread", lambda: ThreadChannel(CAPACITY),
            pass_on_blocking, _silently(_pass_blocking), 20_000,
            "put and get, half each", 2),
        Row(move, "multiprocessing.Queue", "process", ProcessChannel, pass_on_blocking,
            _silently(_pass_blocking), 4_000, "put and get through a pipe, half each", 2),
        Row(move, "Redis list", "task", lambda: RedisListChannel(redis_url), pass_on,
            _pass, 1_000, f"{wire} for each, half each", 2, is_wire=True),
        Row(move, "Postgres SKIP LOCKED", "task",
            lambda: PostgresQueueChannel(database_url).open(), pass_on, _pass, 400,
            f"{wire} and a commit for each, half each", 2, is_wire=True),
    ]  # fmt: skip


async def per_operation(database_url: str, redis_url: str) -> None:
    """Print the table of costs."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "create table if not exists battery_map (key int primary key, value int)"
    )
    await connection.close()
    print(
        f"| operation | backend | bare call | {WORKERS} workers of the battery | Go "
        "original | in the bare figure |"
    )
    print("|---|---|--:|--:|--:|---|")
    for row in rows(database_url, redis_url):
        bare, full = await bare_ns(row), await battery_ns(row)
        print(
            f"| {row.name} | {row.backend} | {bare:,.0f} ns | {full:,.0f} ns | "
            f"{ORIGINAL_NS[row.name]} ns | {row.includes} |",
            flush=True,
        )


async def all_at_once() -> None:
    """Count to 4.8 million with 48 threads, and judge every increment."""
    config = RaceTestConfig(
        workers=BIG_WORKERS,
        iterations=BIG_TURNS,
        kind="thread",
        pauses=0,
        preemptions=0.0001,
        timeout_s=900,
        quiet_s=60,
    )
    cell = ThreadCell()
    cpu_s = time.process_time()
    run = await RaceTestRunner(config).run(increment, cell)
    run_s = time.process_time() - cpu_s
    checked = check_tickets(run.journals, initial=0, final=cell.get())
    check_s = time.process_time() - cpu_s - run_s
    scale = 1 if sys.platform == "darwin" else 1024
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6
    print(
        f"{run.overlap.operations:,} increments by {BIG_WORKERS} threads: "
        f"{checked.verdict}, {len(run.errors)} errors; run {run_s:.1f} s CPU "
        f"({run_s / run.overlap.operations * 1e9:,.0f} ns each), check "
        f"{check_s:.1f} s CPU, peak {peak_mb:,.0f} MB; {run.overlap}"
    )


def main() -> None:
    """Print the table, then the big run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--big-only", action="store_true", help="only the 4.8 M")
    options = parser.parse_args()
    if not options.big_only:
        with running_services() as services:
            urls = str(services.database_url), str(services.redis_url)
            asyncio.run(per_operation(*urls))
        print()
    asyncio.run(all_at_once())


if __name__ == "__main__":
    main()
