"""Circles that go through Postgres: rows alone, a row and a lock, a row and a lease."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from test_framework.clients.deadlocks import ServiceDeadlockWatcher
from tests.integration.detect.told import until_told

# No watcher of the plugin around: two would patch the same methods.
pytestmark = [pytest.mark.integration, pytest.mark.detect()]

_TOUCH = "UPDATE deadlock_rows SET n = n + 1 WHERE id = $1"

_ANOTHER_SERVICE = f"""
import asyncio, contextlib, sys, asyncpg

async def update(first, second, both):
    connection = await asyncpg.connect(sys.argv[1])
    with contextlib.suppress(asyncpg.DeadlockDetectedError):
        async with connection.transaction():
            await connection.execute({_TOUCH!r}, first)
            await both.wait()
            await connection.execute({_TOUCH!r}, second)
    await connection.close()

async def main():
    both = asyncio.Barrier(2)
    await asyncio.gather(update(1, 2, both), update(2, 1, both))

asyncio.run(main())
"""


@pytest.fixture
def watcher(database_url: str) -> Iterator[ServiceDeadlockWatcher]:
    """Watch for the length of a test."""
    watcher = ServiceDeadlockWatcher(postgres_url=database_url)
    watcher.start()
    yield watcher
    watcher.stop()


@pytest.fixture
async def pool(
    watcher: ServiceDeadlockWatcher,  # noqa: ARG001  # the pool is made under the watch
    database_url: str,
) -> AsyncIterator[Any]:
    """Give a pool of four connections on a table of two rows."""
    async with asyncpg.create_pool(database_url, min_size=1, max_size=4) as pool:
        await pool.execute("CREATE TABLE deadlock_rows (id int PRIMARY KEY, n int)")
        await pool.execute("INSERT INTO deadlock_rows VALUES (1, 0), (2, 0)")
        try:
            yield pool
        finally:
            await pool.execute("DROP TABLE deadlock_rows")


@pytest.mark.power
async def test_rows_updated_crosswise_are_told(
    watcher: ServiceDeadlockWatcher, pool: asyncpg.Pool
) -> None:
    """Postgres fails one of two transactions, and both of their lines are told."""
    both = asyncio.Barrier(2)

    async def update(first: int, second: int) -> None:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(_TOUCH, first)
            await both.wait()
            await connection.execute(_TOUCH, second)

    # Whichever waits longest is failed, after the deadlock_timeout of the server.
    program = asyncio.gather(update(1, 2), update(2, 1))
    alarm = await until_told(watcher, program, "database-deadlock")

    assert alarm.level == "error"
    lines = [line for line in alarm.evidence if "connection.execute(_TOUCH, se" in line]
    assert len(lines) == 2
    assert "test_locks_postgres.py" in alarm.site


async def test_rows_updated_in_order_are_quiet(
    watcher: ServiceDeadlockWatcher, pool: asyncpg.Pool
) -> None:
    """Transactions that update rows in one order wait for each other and go on."""

    async def update() -> None:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(_TOUCH, 1)
            await connection.execute(_TOUCH, 2)

    await asyncio.gather(*(update() for _ in range(4)))

    assert watcher.alarms() == []
    assert "Postgres row and advisory locks" in watcher.coverage().watched


@pytest.mark.power
async def test_row_and_lock_crosswise_are_told(
    watcher: ServiceDeadlockWatcher, pool: asyncpg.Pool
) -> None:
    """One task has a row and waits for a lock, whose holder waits for the row."""
    lock, both = asyncio.Lock(), asyncio.Barrier(2)

    async def row_first() -> None:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(_TOUCH, 1)
            await both.wait()
            async with lock:
                pass

    async def lock_first() -> None:
        async with lock:
            await both.wait()
            await pool.execute(_TOUCH, 1)

    program = asyncio.gather(row_first(), lock_first())
    alarm = await until_told(watcher, program, "deadlock")

    told = "\n".join(alarm.evidence)
    assert "waits in Postgres" in told
    assert "waits for Lock" in told


@pytest.mark.power
async def test_row_and_lock_crosswise_are_told_through_sqlalchemy(
    watcher: ServiceDeadlockWatcher,
    pool: asyncpg.Pool,  # noqa: ARG001  # it makes the table
    database_url: str,
) -> None:
    """The same circle, with sessions that SQLAlchemy's pool gave out."""
    lock, both = asyncio.Lock(), asyncio.Barrier(2)
    engine = create_async_engine(
        database_url.replace("postgresql://", "postgresql+asyncpg://")
    )
    touch = text("UPDATE deadlock_rows SET n = n + 1 WHERE id = 1")

    async def row_first() -> None:
        async with engine.begin() as connection:
            await connection.execute(touch)
            await both.wait()
            async with lock:
                pass

    async def lock_first() -> None:
        async with lock:
            await both.wait()
            async with engine.begin() as connection:
                await connection.execute(touch)

    program = asyncio.gather(row_first(), lock_first())
    alarm = await until_told(watcher, program, "deadlock")
    await engine.dispose()

    assert "waits in Postgres" in "\n".join(alarm.evidence)


@pytest.mark.power
async def test_row_and_lease_crosswise_are_told(
    watcher: ServiceDeadlockWatcher, pool: asyncpg.Pool, redis_url: str
) -> None:
    """One task has a row and waits for a lease, whose holder waits for the row."""
    both = asyncio.Barrier(2)

    async with Redis.from_url(redis_url) as client:

        def lease() -> Any:  # noqa: ANN401  # redis has no type for it
            return client.lock("lease:row", timeout=1, sleep=0.02)

        async def row_first() -> None:
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute(_TOUCH, 1)
                await both.wait()
                async with lease():
                    pass

        async def lease_first() -> None:
            async with lease():
                await both.wait()
                await pool.execute(_TOUCH, 1)

        # It is over when the lease runs out.
        program = asyncio.gather(row_first(), lease_first())
        alarm = await until_told(watcher, program, "deadlock", ends_itself=True)

    told = "\n".join(alarm.evidence)
    assert "waits for Redis lease 'lease:row'" in told
    assert "waits in Postgres" in told


@pytest.mark.power
async def test_deadlock_that_another_process_met_is_counted(
    watcher: ServiceDeadlockWatcher,
    pool: asyncpg.Pool,  # noqa: ARG001  # it makes the table
    database_url: str,
) -> None:
    """Of a deadlock that no task here was in, Postgres itself tells the number."""
    assert watcher.alarms() == []

    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _ANOTHER_SERVICE, database_url
    )
    assert await child.wait() == 0
    async with asyncio.timeout(5):
        while not (alarms := watcher.alarms()):  # noqa: ASYNC110  # nobody sets an event when Postgres counts
            await asyncio.sleep(0.02)

    assert [(it.rule, it.level, it.count) for it in alarms] == [
        ("database-deadlock", "error", 1)
    ]
    assert "Postgres broke 1 deadlock that" in alarms[0].claim


async def test_row_and_lock_in_order_are_quiet(
    watcher: ServiceDeadlockWatcher, pool: asyncpg.Pool
) -> None:
    """The lock is always taken before the row."""
    lock = asyncio.Lock()

    async def work() -> None:
        async with lock, pool.acquire() as connection, connection.transaction():
            await connection.execute(_TOUCH, 1)

    running = asyncio.gather(*(work() for _ in range(4)))
    seen = watcher.alarms()
    await running

    assert [*seen, *watcher.alarms()] == []


async def test_server_that_does_not_answer_is_named(
    watcher: ServiceDeadlockWatcher, pool: asyncpg.Pool
) -> None:
    """Without Postgres the rest is still watched, and the coverage says what is not."""
    watcher._url = "postgresql://nobody:wrong@127.0.0.1:1/none"

    async def hold() -> None:
        async with pool.acquire(), pool.acquire():
            alarms = watcher.alarms()
        assert [alarm.rule for alarm in alarms] == ["permit-nested"]

    await hold()

    (sentence,) = [it for it in watcher.coverage().unwatched if "Postgres" in it]
    assert "does not tell who waits for whom" in sentence
    assert "wrong" not in sentence
