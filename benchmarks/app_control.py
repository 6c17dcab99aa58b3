"""Cost of the controllers: queue, reconciling, takeover, one number under contention.

Run ``python -m benchmarks.app_control``. Rates are stated beside a plain baseline of
the same run: ``asyncio.Queue``, a transaction that updates one row, a row per worker.
Postgres and Redis are real ones that are started here; the leaders of the takeovers
are processes of their own, which are killed and stopped.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import uuid4

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.cache import Lease, UserKeyspace, connect
from app.context import UserExecutionContext
from app.control import (
    Controllers,
    Desk,
    Election,
    PhrasePlanner,
    PostgresElection,
    RedisElection,
    ShutDownError,
    WorkQueue,
    reconcile,
)
from app.realtime import EventLog, UserEmitter
from app.storage import (
    Account,
    ConflictError,
    ControlKey,
    Leadership,
    SessionFactory,
    UserAuditTrail,
    add_account,
    create_intent,
    draw_epoch,
    find_node_set,
    open_engine,
    scale_node_set,
    set_replicas,
)
from app.storage.migrate import migrate
from app.storage.tables import node_sets
from test_framework.services import running_services

KEYS = 20_000
INTENTS = 150
WORKERS = 50
SCALES = 400
LEASE_S = 3.0
TARGET_S = 5.0
LIMIT_S = 60.0


# -- the queue --------------------------------------------------------------------------


async def plain_items(count: int) -> None:
    """Put, get and end items of the queue that comes with Python."""
    queue: asyncio.Queue[int] = asyncio.Queue()
    for item in range(count):
        queue.put_nowait(item)
        await queue.get()
        queue.task_done()


async def keys(count: int) -> None:
    """Add, get and end keys."""
    queue = WorkQueue[int]()
    for key in range(count):
        queue.add(key)
        await queue.get()
        queue.done(key)


async def repeated_keys(count: int) -> None:
    """Add each key ten times before it is taken: work that is done once."""
    queue = WorkQueue[int]()
    for key in range(count // 10):
        for _ in range(10):
            queue.add(key)
        await queue.get()
        queue.done(key)


def waiting_items(workers: int) -> Callable[[int], Awaitable[None]]:
    """Return work of so many who wait for items."""

    async def work(count: int) -> None:
        queue: asyncio.Queue[int] = asyncio.Queue()

        async def serve() -> None:
            for _ in range(count // workers):
                await queue.get()
                await asyncio.sleep(0)
                queue.task_done()

        serving = [asyncio.create_task(serve()) for _ in range(workers)]
        for item in range(count // workers * workers):
            queue.put_nowait(item)
        await asyncio.gather(*serving)

    return work


def waiting_keys(workers: int) -> Callable[[int], Awaitable[None]]:
    """Return work of so many who wait for keys."""

    async def work(count: int) -> None:
        queue = WorkQueue[int]()

        async def serve() -> None:
            for _ in range(count // workers):
                async with queue.taken():
                    await asyncio.sleep(0)

        serving = [asyncio.create_task(serve()) for _ in range(workers)]
        for key in range(count // workers * workers):
            queue.add(key)
        await asyncio.gather(*serving)

    return work


def queue_table(rounds: int) -> None:
    """Print what a key costs beside an item of ``asyncio.Queue``."""
    pairs = [
        ("add, get, done", keys, plain_items),
        ("the same key ten times, per add", repeated_keys, plain_items),
        ("100 workers wait", waiting_keys(100), waiting_items(100)),
    ]
    print("| work queue | per second | asyncio.Queue | ratio of cost |")
    print("|---|--:|--:|--:|")
    for name, ours, plain in pairs:
        cost = min(_cpu_s(ours) for _ in range(rounds))
        base = min(_cpu_s(plain) for _ in range(rounds))
        print(
            f"| {name} | {KEYS / cost:,.0f} | {KEYS / base:,.0f} | {cost / base:.1f} |"
        )


def _cpu_s(work: Callable[[int], Awaitable[None]]) -> float:
    async def timed() -> float:
        started = time.process_time()
        await work(KEYS)
        return time.process_time() - started

    return asyncio.run(timed())


# -- the database -----------------------------------------------------------------------


class Bench:
    """Connections to the services, and users."""

    def __init__(self, engine: AsyncEngine, redis_url: str) -> None:
        self.engine = engine
        self.sessions = SessionFactory(engine)
        self.redis = connect(redis_url, connections=8)

    def context(self, user_id: str, request_id: str = "bench") -> UserExecutionContext:
        """Return a context without a session."""
        return UserExecutionContext(
            user_id=user_id,
            request_id=request_id,
            keyspace=UserKeyspace(self.redis, user_id),
            emitter=UserEmitter(EventLog(self.redis), user_id),
            audit=UserAuditTrail(user_id, request_id),
        )

    @contextlib.asynccontextmanager
    async def work(self, user_id: str) -> AsyncIterator[UserExecutionContext]:
        """Open a context with a session."""
        async with self.sessions.for_user(user_id) as session:
            yield self.context(user_id).child(session=session)

    async def add_users(self, count: int) -> list[str]:
        """Add users with a node set each, and return their ids."""
        users = [str(uuid4()) for _ in range(count)]
        async with self.sessions.for_auth() as session:
            for user_id in users:
                await add_account(session, Account(user_id, user_id, "none"))
        for user_id in users:
            async with self.work(user_id) as context:
                await scale_node_set(context, "web", by=0)
        return users

    async def elect(self) -> Leadership:
        """Begin a leadership."""
        async with self.engine.begin() as connection:
            return await draw_epoch(connection, f"bench-{uuid4().hex}", "bench")


@contextlib.asynccontextmanager
async def connected(
    database_url: str, redis_url: str, *, connections: int
) -> AsyncIterator[Bench]:
    """Connect to services."""
    engine = open_engine(database_url, pool_size=connections, pool_timeout_s=60)
    bench = Bench(engine, redis_url)
    try:
        yield bench
    finally:
        await bench.redis.aclose()
        await engine.dispose()


async def reconciled_per_s(bench: Bench, users: list[str], workers: int) -> float:
    """Return intents that are read, planned and applied, per second."""
    desk = Desk(bench.sessions, bench.context, PhrasePlanner())
    leadership, queue = await bench.elect(), WorkQueue[ControlKey]()
    for user_id in users:
        async with bench.work(user_id) as context:
            intent = await create_intent(
                context, intent_id=str(uuid4()), goal="run 1 node in web"
            )
        queue.add(ControlKey(user_id, "intent", intent.intent_id))

    queue.shut_down()  # what waits is handed out, and then the end is told

    async def serve() -> None:
        with contextlib.suppress(ShutDownError):
            while True:
                async with queue.taken() as key:
                    await reconcile(desk, key, leadership)

    started = time.monotonic()
    await asyncio.gather(*(serve() for _ in range(workers)))
    return INTENTS / (time.monotonic() - started)


async def transactions_per_s(bench: Bench, users: list[str], workers: int) -> float:
    """Return transactions that set their user and read one row, per second."""
    left = list(range(INTENTS))

    async def serve() -> None:
        while left:
            async with bench.work(users[left.pop() % len(users)]) as context:
                await context.database.execute(select(node_sets.c.name))

    started = time.monotonic()
    await asyncio.gather(*(serve() for _ in range(workers)))
    return INTENTS / (time.monotonic() - started)


async def reconcile_table(bench: Bench) -> None:
    """Print how many intents are applied in a second, by so many workers."""
    users = await bench.add_users(INTENTS)
    print("\n| intents applied | per second | plain transactions | ratio of cost |")
    print("|---|--:|--:|--:|")
    for workers in (1, 4, 16):
        rate = await reconciled_per_s(bench, users, workers)
        plain = await transactions_per_s(bench, users, workers)
        print(
            f"| workers: {workers} | {rate:,.0f} | {plain:,.0f} | {plain / rate:.1f} |"
        )


async def scale_at_once(context: UserExecutionContext) -> None:
    """Scale by one statement, as the service does."""
    await scale_node_set(context, "web", by=1)
    await scale_node_set(context, "web", by=-1)


async def scale_by_version(context: UserExecutionContext) -> None:
    """Read, compute, and write if the version is as it was read."""
    for by in (1, -1):
        seen = await find_node_set(context, "web")
        assert seen is not None  # noqa: S101  # it was added with its user
        await set_replicas(context, "web", seen=seen, replicas=seen.replicas + by)


async def contended_per_s(
    bench: Bench,
    users: list[str],
    scale: Callable[[UserExecutionContext], Awaitable[None]],
    scales: int = SCALES,
) -> tuple[float, int]:
    """Let the workers scale the node sets of these users, so many times together.

    Returns:
        Scalings per second, and how many had to be done again.
    """
    left, again = list(range(scales // 2)), 0

    async def serve() -> None:
        nonlocal again
        while left:
            user_id = users[left.pop() % len(users)]
            while True:
                try:
                    async with bench.work(user_id) as context:
                        await scale(context)
                except ConflictError:
                    again += 1
                else:
                    break

    started = time.monotonic()
    await asyncio.gather(*(serve() for _ in range(WORKERS)))
    return scales / (time.monotonic() - started), again


async def contention_table(bench: Bench) -> None:
    """Print how fast one number is changed by fifty workers."""
    many, one = await bench.add_users(WORKERS), await bench.add_users(1)
    spread, _ = await contended_per_s(bench, many, scale_at_once)
    print(
        f"\n| {WORKERS} workers scale | per second | again | a row for each | ratio |"
    )
    print("|---|--:|--:|--:|--:|")
    for name, scale, scales in (
        ("one row, one statement", scale_at_once, SCALES),
        ("one row, by version", scale_by_version, WORKERS),
    ):
        rate, again = await contended_per_s(bench, one, scale, scales)
        print(
            f"| {name} | {rate:,.0f} | {again} | {spread:,.0f} | {spread / rate:.1f} |"
        )


# -- takeover ---------------------------------------------------------------------------


def election_of(kind: str, name: str, bench: Bench) -> Election:
    """Return an election of a kind."""
    if kind == "postgres":
        return PostgresElection(bench.engine, name, LEASE_S)
    return RedisElection(bench.engine, Lease(bench.redis, name, LEASE_S))


async def stand(kind: str, name: str) -> None:
    """Stand for election until this process is killed; tell of each term."""
    urls = os.environ["DATABASE_URL"], os.environ["REDIS_URL"]
    async with connected(*urls, connections=8) as bench:
        controllers = Controllers(
            election_of(kind, name, bench),
            sessions=bench.sessions,
            planner=PhrasePlanner(),
        )
        await controllers.start(bench.context)
        told: Leadership | None = None
        while True:
            leadership = controllers.leadership
            if leadership is not None and leadership != told:
                os.write(1, f"{leadership.epoch}\n".encode())
                told = leadership
            await asyncio.sleep(0.005)


async def takeover_s(database_url: str, redis_url: str, kind: str, how: int) -> float:
    """Return how long nobody leads after the leader got a signal, seconds."""
    name = f"bench-{uuid4().hex}"
    both = [
        await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "benchmarks.app_control", "--stand", kind, name],
            env=os.environ | {"DATABASE_URL": database_url, "REDIS_URL": redis_url},
            stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(2)
    ]
    listening = [asyncio.create_task(_line(process)) for process in both]
    try:
        async with asyncio.timeout(LIMIT_S):
            done, _ = await asyncio.wait(listening, return_when="FIRST_COMPLETED")
            leader = listening.index(next(iter(done)))
            # The other one has to stand before it can take over.
            await asyncio.sleep(LEASE_S)
            both[leader].send_signal(how)
            started = time.monotonic()
            await listening[1 - leader]
            return time.monotonic() - started
    finally:
        for process in both:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        for task in listening:
            task.cancel()
        await asyncio.gather(*listening, return_exceptions=True)


async def _line(process: asyncio.subprocess.Process) -> bytes:
    if process.stdout is None:
        raise RuntimeError
    return await process.stdout.readline()


async def takeover_table(database_url: str, redis_url: str) -> None:
    """Print how long nobody leads."""
    print(f"\n| lease of {LEASE_S:.0f} s | leader is | target | nobody leads for |")
    print("|---|---|--:|--:|")
    for kind in ("postgres", "redis"):
        for how, name in ((signal.SIGKILL, "killed"), (signal.SIGSTOP, "stopped")):
            taken_s = await takeover_s(database_url, redis_url, kind, how)
            print(f"| {kind} | {name} | < {TARGET_S:.0f} s | {taken_s:.2f} s |")


async def on_services(database_url: str, redis_url: str) -> None:
    """Print what needs Postgres and Redis."""
    await migrate(database_url)
    async with connected(database_url, redis_url, connections=WORKERS) as bench:
        async with bench.engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
        await reconcile_table(bench)
        await contention_table(bench)
    await takeover_table(database_url, redis_url)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--stand", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stand:
        asyncio.run(stand(*given.stand))
        return
    queue_table(given.rounds)
    logging.getLogger("app").setLevel(logging.ERROR)
    with running_services() as services:
        url = "postgresql+asyncpg://" + str(services.database_url).partition("://")[2]
        asyncio.run(on_services(url, str(services.redis_url)))


if __name__ == "__main__":
    main()
