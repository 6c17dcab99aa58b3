"""The fakes of the unit tests keep the contract of what they stand for."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import cast
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from app.cache import connect as connect_redis
from app.realtime import EventLog, Hub, follow
from app.settings import Settings
from tests.unit.app.fakes.redis import MemoryRedis

pytestmark = [pytest.mark.integration]

Connect = Callable[[Settings], AbstractAsyncContextManager[Redis]]


@contextlib.asynccontextmanager
async def _in_memory(_: Settings) -> AsyncIterator[Redis]:
    yield cast("Redis", MemoryRedis())


@contextlib.asynccontextmanager
async def _real(settings: Settings) -> AsyncIterator[Redis]:
    # As the service connects for its hub. With a timeout redis-py sends through
    # asyncio.wait_for, which in Python 3.11 forgets cancellations (gh-86296): once in
    # two hundred times the hub could not be closed.
    url = settings.redis_url.get_secret_value()
    async with connect_redis(url, connections=4, timeout_s=None) as redis:
        yield redis


both = pytest.mark.parametrize(
    "connect", [_in_memory, _real], ids=["in memory", "real"]
)


async def _append(log: EventLog, user_id: str, count: int) -> list[int]:
    return [
        await log.append(user_id, "x", run_id="r", thread_id="t", data={"n": number})
        for number in range(count)
    ]


@both
async def test_log_is_numbered_and_read_after(
    connect: Connect, settings: Settings
) -> None:
    """Events are numbered one by one per user; reading begins after the cursor."""
    async with connect(settings) as redis:
        log, ada, bob = EventLog(redis), str(uuid4()), str(uuid4())
        empty = (await log.end(ada), await log.read(ada, after=0))

        of_ada, of_bob = await asyncio.gather(
            _append(log, ada, 5), _append(log, bob, 2)
        )
        base = await log.base(ada)
        read = await log.read(ada, after=base + 2, limit=2)

        assert empty == (0, [])
        assert of_ada == list(range(base + 1, base + 6))
        assert of_bob[1] == of_bob[0] + 1
        assert [event.seq for event in read] == [base + 3, base + 4]
        assert await log.end(ada) == base + 5


@both
async def test_last_event_of_a_run_is_appended_once(
    connect: Connect, settings: Settings
) -> None:
    """Of all who tell that a run has ended, the first is heard."""
    async with connect(settings) as redis:
        log, ada = EventLog(redis), str(uuid4())

        numbers = await asyncio.gather(
            *(
                log.append(ada, kind, run_id="r", thread_id="t", data={})
                for kind in ("run.completed", "run.failed", "run.cancelled")
            )
        )
        kinds = [event.kind for event in await log.read(ada, after=0)]

        assert len(set(numbers)) == 1
        assert len(kinds) == 1


@both
async def test_published_wakes_followers_only(
    connect: Connect, settings: Settings
) -> None:
    """A follower is woken by its user's events; one that has left is unsubscribed."""
    async with connect(settings) as redis:
        hub, log, ada = Hub(redis), EventLog(redis), str(uuid4())
        await hub.start(lambda _: None)
        try:
            events = follow(hub, log, ada, after=0)
            async with contextlib.aclosing(events), asyncio.timeout(4):
                while await anext(events) or not hub.channels:
                    pass
                appending = asyncio.create_task(_append(log, ada, 1))
                batch = await anext(events)
                while not batch:
                    batch = await anext(events)
                await appending

            assert len(batch) == 1
            assert f"u:{ada}:wake" not in hub.channels
        finally:
            await hub.close()


@both
async def test_broken_subscription_is_made_again(
    connect: Connect, settings: Settings
) -> None:
    """After the server hung up on all subscribers, followers hear of new events."""
    async with connect(settings) as redis:
        hub, log, ada = Hub(redis), EventLog(redis), str(uuid4())
        await hub.start(lambda _: None)
        try:
            events = follow(hub, log, ada, after=0, poll_s=None)
            async with contextlib.aclosing(events), asyncio.timeout(4):
                assert await anext(events) == []
                if connect is _real:
                    await redis.client_kill_filter(_type="pubsub")
                else:
                    cast("MemoryRedis", redis).break_connections()
                await _append(log, ada, 1)
                batch = await anext(events)
                while not batch:
                    batch = await anext(events)

            assert len(batch) == 1
        finally:
            await hub.close()
