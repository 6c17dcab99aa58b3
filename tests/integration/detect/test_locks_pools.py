"""Pools and leases that tasks take from each other, on real servers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg
import pytest
from redis.asyncio import BlockingConnectionPool, Redis
from sqlalchemy.ext.asyncio import create_async_engine

from test_framework.detect.locks import DeadlockWatcher
from tests.integration.detect.told import until_told

# No watcher of the plugin around: two would patch the same methods.
pytestmark = [pytest.mark.integration, pytest.mark.detect()]

Take = Callable[[], AbstractAsyncContextManager[Any]]
"""Takes a connection from a pool of two, for the length of a block."""


@asynccontextmanager
async def sqlalchemy_pool(database_url: str) -> AsyncIterator[Take]:
    """Two connections of SQLAlchemy."""
    url = database_url.replace("postgresql://", "postgresql+asyncpg://")
    engine = create_async_engine(url, pool_size=1, max_overflow=1)
    try:
        yield engine.connect
    finally:
        await engine.dispose()


@asynccontextmanager
async def asyncpg_pool(database_url: str) -> AsyncIterator[Take]:
    """Two connections of asyncpg."""
    async with asyncpg.create_pool(database_url, min_size=1, max_size=2) as pool:
        yield pool.acquire


@asynccontextmanager
async def redis_pool(redis_url: str) -> AsyncIterator[Take]:
    """Two connections of redis-py."""
    pool: Any = BlockingConnectionPool.from_url(redis_url, max_connections=2)

    @asynccontextmanager
    async def take() -> AsyncIterator[Any]:
        connection = await pool.get_connection()
        try:
            yield connection
        finally:
            await pool.release(connection)

    try:
        yield take
    finally:
        await pool.disconnect()


POOLS = {"sqlalchemy": sqlalchemy_pool, "asyncpg": asyncpg_pool, "redis": redis_pool}


@pytest.fixture(params=POOLS)
async def take(
    request: pytest.FixtureRequest, database_url: str, redis_url: str
) -> AsyncIterator[Take]:
    """Give a way to take a connection from a pool of two, for each kind."""
    url = redis_url if request.param == "redis" else database_url
    async with POOLS[request.param](url) as taking:
        yield taking


@pytest.fixture
def watcher() -> Any:  # noqa: ANN401  # a generator
    """Watch for the length of a test."""
    watcher = DeadlockWatcher()
    watcher.start()
    yield watcher
    watcher.stop()


@pytest.mark.power
async def test_pool_exhausted_by_its_holders_is_told(
    watcher: DeadlockWatcher, take: Take
) -> None:
    """Two tasks have both connections, and each asks for another one."""
    both = asyncio.Barrier(2)

    async def nest() -> None:
        async with take():
            await both.wait()
            async with take():
                pass

    alarm = await until_told(watcher, asyncio.gather(nest(), nest()), "deadlock")

    assert "wait for each other" in alarm.claim
    assert "test_locks_pools.py" in alarm.site


async def test_pool_that_tasks_wait_for_is_quiet(
    watcher: DeadlockWatcher, take: Take
) -> None:
    """Six tasks share two connections, one each, under a lock taken first."""
    locks = [asyncio.Lock(), asyncio.Lock(), asyncio.Lock()]

    async def work(number: int) -> None:
        async with locks[number % 3], take():
            await asyncio.sleep(0)

    await asyncio.gather(*(work(number) for number in range(6)))

    assert watcher.alarms() == []
    assert watcher.coverage().facts["pools"] == 1


@pytest.mark.power
async def test_second_connection_is_predicted(
    watcher: DeadlockWatcher, take: Take
) -> None:
    """One task alone takes both connections: two of its kind would hang."""
    async with take(), take():
        pass

    assert [alarm.rule for alarm in watcher.alarms()] == ["permit-nested"]


@pytest.mark.power
async def test_lock_and_pool_crosswise_are_predicted(
    watcher: DeadlockWatcher, take: Take
) -> None:
    """A lock is taken under a connection here, and a connection under the lock there."""
    lock = asyncio.Lock()

    async def lock_first() -> None:
        async with lock, take():
            pass

    async def connection_first() -> None:
        async with take(), lock:
            pass

    await asyncio.create_task(lock_first())
    await asyncio.create_task(connection_first())

    assert [alarm.rule for alarm in watcher.alarms()] == ["lock-order-inversion"]


def _slow_waits(watcher: DeadlockWatcher) -> list[str]:
    return [
        "\n".join(alarm.evidence)
        for alarm in watcher.alarms()
        if alarm.rule == "lock-held-across-await"
    ]


@pytest.mark.power
async def test_connection_held_across_a_slow_await_is_told(database_url: str) -> None:
    """Who keeps a connection while he awaits something else makes others wait."""
    watcher = DeadlockWatcher(slow_wait_s=0)
    watcher.start()

    async def work(take: Take) -> None:
        async with take():
            await asyncio.sleep(0.02)

    try:
        async with asyncpg_pool(database_url) as take:
            await asyncio.gather(*(work(take) for _ in range(4)))
    finally:
        watcher.stop()

    evidence = _slow_waits(watcher)[0]
    assert "and stood at tests/integration/detect/test_locks_pools.py" in evidence


async def test_connection_held_across_its_query_is_quiet(database_url: str) -> None:
    """Who has a connection and waits for the answer of the server uses it."""
    watcher = DeadlockWatcher(slow_wait_s=0)
    watcher.start()

    async def work(take: Take) -> None:
        async with take() as connection:
            await connection.execute("SELECT pg_sleep(0.02)")

    try:
        async with asyncpg_pool(database_url) as take:
            await asyncio.gather(*(work(take) for _ in range(4)))
    finally:
        watcher.stop()

    assert _slow_waits(watcher) == []
    assert watcher.coverage().facts["waits"] >= 2


@pytest.mark.power
async def test_leases_taken_crosswise_are_told(
    watcher: DeadlockWatcher, redis_url: str
) -> None:
    """Two tasks take two leases of Redis in opposite orders."""
    both = asyncio.Barrier(2)

    async with Redis.from_url(redis_url) as client:

        async def nest(first: str, second: str) -> None:
            # It is over when the leases run out.
            async with client.lock(first, timeout=0.5, sleep=0.02):
                await both.wait()
                async with client.lock(second, timeout=0.5, sleep=0.02):
                    pass

        alarm = await until_told(
            watcher,
            asyncio.gather(nest("lease:a", "lease:b"), nest("lease:b", "lease:a")),
            "deadlock",
            ends_itself=True,
        )
        assert "'lease:a'" in "".join(alarm.evidence)


async def test_leases_taken_in_order_are_quiet(
    watcher: DeadlockWatcher, redis_url: str
) -> None:
    """Two tasks take two leases of Redis in one order, and one after its time."""
    async with Redis.from_url(redis_url) as client:

        async def nest() -> None:
            async with AsyncExitStack() as stack:
                for name in ("lease:c", "lease:d"):
                    lease = client.lock(name, timeout=30, sleep=0.01)
                    await stack.enter_async_context(lease)

        await asyncio.gather(nest(), nest())

        brief = client.lock("lease:e", timeout=0.01)
        await brief.acquire()
        await asyncio.sleep(0.02)
        async with client.lock("lease:e", timeout=30, sleep=0.01):
            pass

    assert watcher.alarms() == []
    assert watcher.coverage().facts["leases"] == 3
