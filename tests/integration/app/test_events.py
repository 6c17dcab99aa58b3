"""Events over real Redis and two instances: once, in order, to the right user."""

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from app.cache import connect as connect_redis
from app.realtime import EventLog, Hub, follow
from app.realtime.hub import RUN_CONTROL
from app.settings import Settings
from tests.integration.app.service import Member, Service, next_frames, serving

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@contextlib.asynccontextmanager
async def _two(settings: Settings) -> AsyncIterator[tuple[Service, Service]]:
    async with serving(settings) as first, serving(settings) as second:
        yield first, second


async def _emit(service: Service, user_id: str, count: int) -> None:
    for number in range(count):
        await service.parts.events.append(
            user_id,
            "agent.thinking",
            run_id="r",
            thread_id="t",
            data={"number": number, "owner": user_id},
        )


async def _ready(service: Service, member: Member) -> None:
    """Wait until a socket of the member has subscribed."""
    channel = f"u:{member.user_id}:wake"
    for _ in range(500):
        counted = dict(await service.parts.redis.pubsub_numsub(channel))
        if counted[channel.encode()]:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"nobody subscribed to {channel}")


async def _drain(connection: ClientConnection, into: list[str | bytes]) -> None:
    """Read until the connection is closed."""
    while True:
        into.append(await asyncio.wait_for(connection.recv(), 10))


async def _let_go(service: Service, member: Member) -> None:
    """Wait until no socket of the member is served."""
    for _ in range(500):
        if f"u:{member.user_id}:wake" not in service.parts.hub.channels:
            return
        await asyncio.sleep(0.01)
    pytest.fail("the socket is still served")


def assert_gapless(frames: list[dict[str, Any]]) -> None:
    """Check that the events are numbered one by one."""
    numbers = [frame["seq"] for frame in frames]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


async def test_two_instances_deliver_once_in_order(settings: Settings) -> None:
    """Two workers emit for ten users at once; each socket gets its own, gapless."""
    async with contextlib.AsyncExitStack() as stack:
        first, second = await stack.enter_async_context(_two(settings))
        members = [await stack.enter_async_context(first.member()) for _ in range(10)]
        sockets = [
            await stack.enter_async_context(service.socket(member))
            for member in members
            for service in (first, second)
        ]
        for connection in sockets:
            await next_frames(connection, until="ready")

        await asyncio.gather(
            *(
                _emit(service, member.user_id, 20)
                for member in members
                for service in (first, second)
            )
        )

        for index, connection in enumerate(sockets):
            frames = [json.loads(await connection.recv()) for _ in range(40)]
            assert_gapless(frames)
            owners = {frame["data"]["owner"] for frame in frames}
            assert owners == {members[index // 2].user_id}
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(connection.recv(), 0.05)


async def test_socket_resumes_where_it_left(settings: Settings) -> None:
    """After a disconnect the events in between come first, each once."""
    async with _two(settings) as (first, second), first.member() as ada:
        async with first.socket(ada) as connection:
            await next_frames(connection, until="ready")
            await _emit(first, ada.user_id, 3)
            seen = [json.loads(await connection.recv())["seq"] for _ in range(2)]
        await _emit(second, ada.user_id, 2)

        async with second.socket(ada, after=seen[-1]) as connection:
            frames = [json.loads(await connection.recv()) for _ in range(4)]

    assert frames[0]["type"] == "ready"
    assert frames[0]["after"] == seen[-1]
    assert [frame["seq"] - seen[-1] for frame in frames[1:]] == [1, 2, 3]


async def test_resume_before_kept_events_tells_gap(settings: Settings) -> None:
    """What is not kept any more is named as a gap, and the rest follows."""
    async with serving(settings) as service, service.member() as ada:
        await _emit(service, ada.user_id, 5)
        first = await service.parts.events.base(ada.user_id) + 1
        await service.parts.redis.xtrim(
            f"u:{ada.user_id}:events", maxlen=2, approximate=False
        )

        for after in (first, 0):
            async with service.socket(ada, after=after) as connection:
                frames = [json.loads(await connection.recv()) for _ in range(4)]

            begin = after or first - 1
            assert frames[1] == {"type": "gap", "after": begin, "until": first + 2}
            assert [frame["seq"] - first for frame in frames[2:]] == [3, 4]


async def test_beginning_is_no_gap(settings: Settings) -> None:
    """Whoever asks for everything is told of no gap before the first event."""
    async with serving(settings) as service, service.member() as ada:
        await _emit(service, ada.user_id, 2)
        async with service.socket(ada, after=0) as connection:
            frames = [json.loads(await connection.recv()) for _ in range(3)]

    assert [frame["type"] for frame in frames] == ["ready", *["agent.thinking"] * 2]


async def test_cursor_of_the_future_is_told_and_begins_anew(
    settings: Settings,
) -> None:
    """A number that no event can have does not silence the log for ever."""
    async with serving(settings) as service, service.member() as ada:
        await _emit(service, ada.user_id, 1)
        async with service.socket(ada, after=2**53) as connection:
            frames = [json.loads(await connection.recv()) for _ in range(3)]

    assert frames[1] == {"type": "gap", "after": 0, "until": 2**53}
    assert frames[2]["type"] == "agent.thinking"


@pytest.mark.parametrize("query", ["after=-1", "after=x", f"after={2**53 + 1}"])
async def test_cursor_that_is_none_is_refused(settings: Settings, query: str) -> None:
    """What is no number of an event opens no socket."""
    async with serving(settings) as service, service.member() as ada:
        url = service.base_url.replace("http", "ws", 1) + f"/ws?{query}"
        auth = {"authorization": f"Bearer {ada.access_token}"}
        with pytest.raises(InvalidStatus):
            async with connect(url, additional_headers=auth, proxy=None):
                pass


async def test_two_cursors_are_refused(settings: Settings) -> None:
    """Of two cursors none is taken: one of them would lose events or repeat them."""
    async with serving(settings) as service, service.member() as ada:
        url = service.base_url.replace("http", "ws", 1) + "/ws?after=1&after=2"
        auth = {"authorization": f"Bearer {ada.access_token}"}
        async with connect(url, additional_headers=auth, proxy=None) as connection:
            with pytest.raises(ConnectionClosed) as closed:
                await connection.recv()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


async def test_disconnect_leaves_no_subscription(settings: Settings) -> None:
    """When a user's last socket has gone, so have its subscription and its tasks."""
    async with serving(settings) as service, service.member() as ada:
        before = len(asyncio.all_tasks())
        channel = f"u:{ada.user_id}:wake"
        async with service.socket(ada), service.socket(ada):
            await _ready(service, ada)
        counted: dict[bytes | str, int] = {}
        for _ in range(500):
            # UNSUBSCRIBE goes over another connection, so Redis may see it later.
            counted = dict(await service.parts.redis.pubsub_numsub(channel))
            if len(asyncio.all_tasks()) <= before and not any(counted.values()):
                break
            await asyncio.sleep(0.01)

        assert len(asyncio.all_tasks()) <= before
        assert counted == {channel.encode(): 0}
        assert channel not in service.parts.hub.channels


async def test_leaving_socket_spares_staying_one(settings: Settings) -> None:
    """Sockets of one user come and go at one time; who stays keeps receiving."""
    async with (
        serving(settings) as service,
        service.member() as ada,
        service.socket(ada) as staying,
    ):
        await next_frames(staying, until="ready")

        async def come_and_go() -> None:
            async with service.socket(ada) as passing:
                await next_frames(passing, until="ready")

        await asyncio.gather(*(come_and_go() for _ in range(20)))
        await _emit(service, ada.user_id, 1)

        # Well under the poll of five seconds: the wake-up did it.
        frame = json.loads(await asyncio.wait_for(staying.recv(), 4))
        assert frame["type"] == "agent.thinking"


async def test_broken_subscription_is_repaired(settings: Settings) -> None:
    """When Redis drops the subscriber, events arrive after it has reconnected."""
    async with (
        serving(settings) as service,
        service.member() as ada,
        service.socket(ada) as connection,
    ):
        await next_frames(connection, until="ready")
        await _ready(service, ada)
        await service.parts.redis.client_kill_filter(_type="pubsub")
        await _emit(service, ada.user_id, 1)

        frame = json.loads(await asyncio.wait_for(connection.recv(), 4))
        assert frame["type"] == "agent.thinking"
        await _ready(service, ada)


async def test_followers_that_come_and_go_while_connections_break_leave_none_open(
    settings: Settings,
) -> None:
    """Whatever breaks meanwhile, the hub holds one connection and hears of events.

    With redis-py's own reconnecting, two tasks connected one subscription at a time,
    and the socket of the first was left open unread: 2 of 600 runs of less than this.
    """
    url = settings.redis_url.get_secret_value()
    async with (
        connect_redis(url, connections=4) as redis,
        connect_redis(url, connections=1, timeout_s=None) as subscriber,
    ):
        log, hub, user_id = EventLog(redis), Hub(subscriber), str(uuid.uuid4())
        await hub.start(lambda _: None)
        try:

            async def come_and_go(number: int) -> None:
                for _ in range(20):
                    async with hub.following(f"guest-{number}"):
                        await asyncio.sleep(0.001 * (number % 3))

            async def hang_up() -> None:
                for _ in range(10):
                    await redis.client_kill_filter(_type="pubsub")
                    await asyncio.sleep(0.01)

            await asyncio.gather(hang_up(), *(come_and_go(n) for n in range(8)))
            events = follow(hub, log, user_id, after=0, poll_s=None)
            async with contextlib.aclosing(events), asyncio.timeout(30):
                assert await anext(events) == []
                await log.append(user_id, "x", run_id="r", thread_id="t", data={})
                batch = await anext(events)
                while not batch:
                    batch = await anext(events)
            assert len(batch) == 1
            assert len(await redis.client_list(_type="pubsub")) == 1
            assert hub.channels == {RUN_CONTROL}
        finally:
            await hub.close()


async def test_lost_wake_up_is_repaired_by_poll(settings: Settings) -> None:
    """An event whose wake-up never came is read at the next poll."""
    async with Redis.from_url(settings.redis_url.get_secret_value()) as redis:
        log, hub = EventLog(redis), Hub(redis)  # a hub that was never started
        user_id = "00000000-0000-4000-8000-00000000dead"
        after = await log.end(user_id)
        events = follow(hub, log, user_id, after=after, poll_s=0.05)
        async with contextlib.aclosing(events):
            assert await anext(events) == []
            seq = await log.append(user_id, "x", run_id="r", thread_id="t", data={})

            assert [event.seq for event in await anext(events)] == [seq]


async def test_slow_consumer_is_closed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that does not read is let go, though its events are not all sent."""
    monkeypatch.setattr("app.api.websocket.SEND_WITHIN_S", 0.2)
    async with serving(settings) as service, service.member() as ada:
        url = service.base_url.replace("http", "ws", 1) + "/ws"
        auth = {"authorization": f"Bearer {ada.access_token}"}
        async with connect(
            url, additional_headers=auth, max_queue=1, compression=None, proxy=None
        ) as connection:
            await next_frames(connection, until="ready")
            await _ready(service, ada)
            # 24 MB, not compressed: more than all buffers between the two.
            large = {"x": "x" * 60_000}
            for _ in range(400):
                await service.parts.events.append(
                    ada.user_id, "x", run_id="r", thread_id="t", data=large
                )
            await _let_go(service, ada)

            received: list[str | bytes] = []
            with pytest.raises(ConnectionClosed) as closed:
                await _drain(connection, received)

    assert len(received) < 400
    # 1013, if the client began to read in time to see the close frame.
    assert closed.value.rcvd is None or closed.value.rcvd.code == 1013


async def test_token_in_first_message_is_enough(settings: Settings) -> None:
    """A browser, which cannot set headers, authenticates with its first message."""
    async with serving(settings) as service, service.member() as ada:
        stranger = Member(ada.http, ada.user_id, "", "", "")
        async with service.socket(stranger) as connection:
            await connection.send(
                json.dumps({"type": "authenticate", "token": ada.access_token})
            )
            (frame,) = await next_frames(connection, until="ready")

    assert frame["user_id"] == ada.user_id


@pytest.mark.parametrize("first", ["{}", "x", '{"type": "authenticate", "token": 1}'])
async def test_stranger_is_closed(settings: Settings, first: str) -> None:
    """A socket without a valid token is closed with 4401 and gets nothing."""
    async with serving(settings) as service, service.member() as ada:
        stranger = Member(ada.http, ada.user_id, "", "", "")
        async with service.socket(stranger) as connection:
            await connection.send(first)
            with pytest.raises(ConnectionClosed) as closed:
                await connection.recv()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4401


async def test_socket_ends_with_its_token(settings: Settings) -> None:
    """An open socket is closed with 4401 when its access token expires."""
    short = settings.model_copy(update={"access_token_s": 2})
    async with (
        serving(short) as service,
        service.member() as ada,
        service.socket(ada) as connection,
    ):
        await next_frames(connection, until="ready")
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(connection.recv(), 5)

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4401
