"""Redis goes away, comes back without its data, or falls silent: no event is lost.

A hundred followers stay, and each is owed every event that was appended, once, in order;
so is one that resumes from a cursor of before. Each test has a Redis of its own.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from app.cache import connect
from app.realtime import Event, EventLog, Hub, events, follow
from test_framework.services import Services, running_services

pytestmark = [pytest.mark.integration, pytest.mark.slow]
USERS = 100
EACH = 5


@pytest.fixture
def services() -> Iterator[Services]:
    """A Redis that may be restarted."""
    with running_services(("redis",), environ={}) as running:
        yield running


@contextlib.asynccontextmanager
async def _hub(url: str, beat_s: float | None = None) -> AsyncIterator[Hub]:
    async with connect(url, connections=1, timeout_s=None) as subscriber:
        hub = Hub(subscriber, beat_s=beat_s)
        await hub.start(lambda _: None)
        try:
            yield hub
        finally:
            await hub.close()


async def _append(log: EventLog, user_id: str, count: int = EACH) -> list[int]:
    return [
        await log.append(user_id, "x", run_id=user_id, thread_id="t", data={})
        for _ in range(count)
    ]


async def _collect(
    hub: Hub, log: EventLog, user_id: str, into: list[Event], *, after: int = 0
) -> None:
    """Follow a user until as many events have come as are ever appended."""
    following = follow(hub, log, user_id, after=after, poll_s=None)
    async with contextlib.aclosing(following):
        async for batch in following:
            into.extend(batch)
            if len(into) >= 2 * EACH:
                return


async def _lose_data(services: Services, make_log: type[EventLog]) -> None:
    """Let a hundred follow while Redis comes back empty; check what they were sent."""
    url = str(services.redis_url)
    users = [str(uuid4()) for _ in range(USERS)]
    async with connect(url, connections=20) as redis, _hub(url) as hub:
        log = make_log(redis)
        seen: dict[str, list[Event]] = {user: [] for user in users}
        following = [
            asyncio.create_task(_collect(hub, log, user, seen[user])) for user in users
        ]
        before = await asyncio.gather(*(_append(log, user) for user in users))
        async with asyncio.timeout(30):
            while min(map(len, seen.values())) < EACH:  # noqa: ASYNC110  # a count has no event
                await asyncio.sleep(0.01)
        await asyncio.to_thread(services.restart, "redis", keep=False)
        after = await asyncio.gather(*(_append(log, user) for user in users))
        done, late = await asyncio.wait(following, timeout=10)
        for task in late:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
        assert not late, f"{len(late)} followers wait for events that are there"
        assert len(done) == USERS
        for user, first, second in zip(users, before, after, strict=True):
            assert [event.seq for event in seen[user]] == [*first, *second]
            assert sorted({*first, *second}) == [*first, *second]
            # Whoever was away meanwhile gets what came since, and nothing else.
            resumed = await log.read(user, after=first[-1])
            assert [event.seq for event in resumed] == second


async def test_lost_data_loses_no_follower(services: Services) -> None:
    """Redis comes back empty: all go on, above every number that was given before."""
    await _lose_data(services, EventLog)


class _CountingLog(EventLog):
    """Counts from one, in every Redis anew."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis)
        begin = events._APPEND.index("local now")
        end = events._APPEND.index("local seq")
        self._append = redis.register_script(
            events._APPEND[:begin] + events._APPEND[end:]
        )


@pytest.mark.long
@pytest.mark.power
async def test_numbers_that_go_back_are_caught(services: Services) -> None:
    """A log that counts in Redis alone is silent to all who followed it before."""
    with pytest.raises(AssertionError, match="wait for events"):
        await _lose_data(services, _CountingLog)


async def test_followers_outlive_an_outage(services: Services) -> None:
    """A hundred that read while Redis is out of reach go on once it is there again."""
    line = Line(str(services.redis_url))
    await line.open()
    users = [str(uuid4()) for _ in range(USERS)]
    seen: dict[str, list[Event]] = {user: [] for user in users}
    async with (
        connect(str(services.redis_url), connections=20) as redis,
        connect(line.url, connections=20) as far,
        _hub(str(services.redis_url)) as hub,
    ):
        log, far_log = EventLog(redis), EventLog(far)
        following = [
            asyncio.create_task(_collect(hub, far_log, user, seen[user]))
            for user in users
        ]
        await asyncio.gather(*(_append(log, user) for user in users))
        await line.close()
        # Wakes all of them, who find that they cannot read.
        await asyncio.gather(*(_append(log, user) for user in users))
        await asyncio.sleep(1.5)
        await line.open()
        await asyncio.wait(following, timeout=20)
        await asyncio.gather(*following)
        await line.close()
        wanted = [event.seq for event in await log.read(users[0], after=0)]

    assert {len(got) for got in seen.values()} == {2 * EACH}
    assert [event.seq for event in seen[users[0]]] == wanted


async def test_number_jumps_when_the_server_was_started_anew(
    services: Services,
) -> None:
    """Kept data does not tell how much of it is missing, so numbers jump once."""
    async with connect(str(services.redis_url), connections=4) as redis:
        log, user_id = EventLog(redis), str(uuid4())
        first = await _append(log, user_id, 3)
        await redis.save()
        await asyncio.to_thread(services.restart, "redis")
        second = await _append(log, user_id, 3)

    assert [b - a for a, b in itertools.pairwise(first)] == [1, 1]
    assert second[0] > first[-1] + 1
    assert [b - a for a, b in itertools.pairwise(second)] == [1, 1]


class Line:
    """A TCP line to Redis that opens late, or falls silent without closing."""

    def __init__(self, url: str) -> None:
        """Lead to the server of a URL."""
        parts = urlsplit(url)
        self._host, self._port = str(parts.hostname), int(parts.port or 6379)
        self._parts = parts
        self._is_silent: set[object] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Where the line begins."""
        user = self._parts.netloc.rpartition("@")[0]
        return f"redis://{user}@127.0.0.1:{self.port}/0"

    async def reserve(self) -> None:
        """Choose a port on which nobody listens."""
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()

    async def open(self) -> None:
        """Begin to carry."""
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def fall_silent(self) -> None:
        """Carry nothing on the connections that there are, and do not close them."""
        self._is_silent.update(self._writers)

    async def close(self) -> None:
        """Hang up."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.close()
        await asyncio.sleep(0)

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        self._writers += [writer, far_writer]
        with contextlib.suppress(OSError):
            await asyncio.gather(
                self._pass(reader, far_writer), self._pass(far_reader, writer)
            )

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(65_536):
            if writer not in self._is_silent:
                writer.write(data)
        writer.close()


async def _hears(hub: Hub, log: EventLog, within_s: float) -> bool:
    """Return whether a follower that trusts in wake-ups hears of an event."""
    user_id, seen = str(uuid4()), list[Event]()
    following = asyncio.create_task(_collect(hub, log, user_id, seen))
    await asyncio.sleep(0.05)
    await _append(log, user_id, 2 * EACH)
    done, _ = await asyncio.wait({following}, timeout=within_s)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    return bool(done)


async def test_hub_that_began_without_redis_hears_later(services: Services) -> None:
    """A hub whose first connections fail subscribes to all once Redis is there."""
    line = Line(str(services.redis_url))
    await line.reserve()
    async with connect(str(services.redis_url), connections=4) as redis:
        async with _hub(line.url) as hub:
            log, user_id, seen = EventLog(redis), str(uuid4()), list[Event]()
            following = asyncio.create_task(_collect(hub, log, user_id, seen))
            await asyncio.sleep(0.5)
            await line.open()
            await asyncio.sleep(0)
            await _append(log, user_id, 2 * EACH)

            await asyncio.wait_for(following, 20)
            assert await _hears(hub, log, 20)
        await line.close()


async def _fall_silent(services: Services, beat_s: float | None) -> bool:
    line = Line(str(services.redis_url))
    await line.open()
    async with connect(str(services.redis_url), connections=4) as redis:
        async with _hub(line.url, beat_s) as hub:
            log = EventLog(redis)
            assert await _hears(hub, log, 20)
            line.fall_silent()
            hears = await _hears(hub, log, 20 if beat_s else 1)
        await line.close()
    return hears


async def test_hub_notices_a_silent_connection(services: Services) -> None:
    """A connection that neither carries nor closes is given up for a new one."""
    assert await _fall_silent(services, beat_s=0.1)


@pytest.mark.power
async def test_hub_without_a_beat_is_caught(services: Services) -> None:
    """A hub that waits for the network to tell it waits for ever."""
    assert not await _fall_silent(services, beat_s=None)
