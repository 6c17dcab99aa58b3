"""WebSocket connections: a hundred sockets, each with its own user's events only.

Every socket is served by the service's own endpoint, hub, follower and event log;
Redis and the client's end of the wire live in memory. Interleavings come from
counted turns of the loop, never from time. Beside each sound test stands a twin with
the mistake, which the same checking function finds.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self, cast

import pytest
from starlette.types import Message
from starlette.websockets import WebSocket

from app.api.frontier import RECORD, RequestRecord
from app.api.websocket import watch_events
from app.realtime import Event, EventLog, Hub
from app.realtime.hub import RUN_CONTROL
from app.security import AccessTokens
from tests.unit.app.fakes.redis import MemoryRedis
from tests.unit.app.parts import NoDatabase, OpenLogins, many_sockets, ring_of

if TYPE_CHECKING:
    from redis.asyncio import Redis

USERS = 100
EVENTS = 20
_PATIENCE_TURNS = 2_000
"""Turns of the loop without a new frame after which nothing more is expected."""


@dataclass(eq=False)
class Socket:
    """One client: what it was sent, and the task that serves it."""

    user_id: str
    frames: list[dict[str, Any]] = field(default_factory=list)
    serving: "asyncio.Task[None] | None" = None
    _inbox: "asyncio.Queue[Message]" = field(default_factory=asyncio.Queue)

    async def receive(self) -> Message:
        """Give the service what the client does."""
        return await self._inbox.get()

    async def send(self, message: Message) -> None:
        """Take what the service sends, after a turn of the loop."""
        await asyncio.sleep(0)
        if message["type"] == "websocket.send":
            self.frames.append(json.loads(message["text"]))

    @property
    def events(self) -> list[dict[str, Any]]:
        """The frames that are events of the user's log."""
        return [frame for frame in self.frames if "seq" in frame]

    def connect(self) -> None:
        """Ask for the connection."""
        self._inbox.put_nowait({"type": "websocket.connect"})

    async def leave(self) -> None:
        """Disconnect, and wait until the service has noticed."""
        self._inbox.put_nowait({"type": "websocket.disconnect", "code": 1001})
        if self.serving is not None:
            await self.serving


class Office:
    """The realtime half of one process."""

    def __init__(self, *, hub: type[Hub] = Hub, log: type[EventLog] = EventLog) -> None:
        """Make a process over a Redis of its own."""
        self.redis = MemoryRedis()
        client = cast("Redis", self.redis)
        self.hub, self.log = hub(client, beat_s=None), log(client)
        self.counted = many_sockets()
        self._tokens = AccessTokens(ring_of("k"), lifetime_s=600)
        self.sockets: list[Socket] = []

    async def __aenter__(self) -> Self:
        """Start the hub."""
        await self.hub.start(lambda _: None)
        await self.settle()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let every client leave and stop."""
        for socket in self.sockets:
            if socket.serving is not None and not socket.serving.done():
                await socket.leave()
        await self.hub.close()

    def connect(self, user_id: str, *, after: int | None = None) -> Socket:
        """Begin to serve a socket of a user with a real token."""
        socket = Socket(user_id)
        token = self._tokens.issue(user_id, "login")
        parts = SimpleNamespace(
            access_tokens=self._tokens,
            sessions=NoDatabase(),
            refresh_tokens=OpenLogins(),
            events=self.log,
            hub=self.hub,
            sockets=self.counted,
        )
        websocket = WebSocket(
            {
                "type": "websocket",
                "app": SimpleNamespace(state=SimpleNamespace(parts=parts)),
                "query_string": b"",
                "headers": [(b"authorization", f"Bearer {token}".encode())],
                RECORD: RequestRecord("r"),
            },
            socket.receive,
            socket.send,
        )
        socket.connect()
        socket.serving = asyncio.create_task(
            watch_events(websocket, after), name=f"socket of {user_id}"
        )
        self.sockets.append(socket)
        return socket

    async def emit(self, user_id: str, count: int = EVENTS) -> None:
        """Append numbered events of a user, each naming its owner."""
        for number in range(count):
            await self.log.append(
                user_id,
                "agent.thinking",
                run_id="r",
                thread_id="t",
                data={"owner": user_id, "number": number},
            )

    async def settle(self) -> None:
        """Give the loop turns until no socket is sent anything any more."""
        quiet = sent = 0
        while quiet < _PATIENCE_TURNS / (1 + len(self.sockets)) + 20:
            await asyncio.sleep(0)
            now = sum(len(socket.frames) for socket in self.sockets)
            quiet, sent = (quiet + 1, sent) if now == sent else (0, now)


def assert_events_are_own(sockets: Iterable[Socket], *, count: int = EVENTS) -> None:
    """Check that each socket was sent its user's events, all, once, in order."""
    for socket in sockets:
        owners = {frame["data"]["owner"] for frame in socket.events}
        foreign = owners - {socket.user_id}
        assert not foreign, f"{socket.user_id} was sent events of {foreign}"
        numbers = [frame["seq"] for frame in socket.events]
        assert len(numbers) == len(set(numbers)), f"{socket.user_id}: twice, {numbers}"
        assert numbers == sorted(numbers), f"{socket.user_id}: out of order, {numbers}"
        assert len(numbers) == count, f"{socket.user_id} got {len(numbers)} of {count}"


async def _everybody_receives(office: Office, *, sockets_each: int = 1) -> list[Socket]:
    """Connect all users, let two emitters of each work at one time, and settle."""
    users = [f"user-{number:03d}" for number in range(USERS)]
    sockets = [office.connect(user) for user in users for _ in range(sockets_each)]
    await office.settle()
    assert [socket.frames[0]["user_id"] for socket in sockets] == [
        user for user in users for _ in range(sockets_each)
    ]
    await asyncio.gather(*(office.emit(user, EVENTS // 2) for user in [*users, *users]))
    await office.settle()
    return sockets


@pytest.mark.parametrize("sockets_each", [1, 2])
async def test_each_socket_gets_own_events(sockets_each: int) -> None:
    """A hundred users with one or two sockets get their events whole, once, in order."""
    async with Office() as office:
        sockets = await _everybody_receives(office, sockets_each=sockets_each)

        assert len(sockets) == USERS * sockets_each
        assert_events_are_own(sockets)


class _LastUserLog(EventLog):
    """Keeps the user it works for in itself across an await."""

    _user_id = ""

    async def read(self, user_id: str, *, after: int, limit: int = 200) -> list[Event]:
        self._user_id = user_id
        await asyncio.sleep(0)
        return await super().read(self._user_id, after=after, limit=limit)


class _LastSocketHub(Hub):
    """Keeps one listener a user, the last that came."""

    @contextlib.asynccontextmanager
    async def following(self, user_id: str) -> AsyncIterator[asyncio.Event]:
        async with super().following(user_id) as wake:
            listeners = self._listeners[f"u:{user_id}:wake"]
            kept = max(listeners, key=id)
            listeners.intersection_update({kept})
            yield wake


class _OverlappingLog(EventLog):
    """Reads one event too early, "to be sure none is lost"."""

    async def read(self, user_id: str, *, after: int, limit: int = 200) -> list[Event]:
        batch = await super().read(user_id, after=after, limit=limit)
        if batch and after:
            return await super().read(user_id, after=after - 1, limit=limit)
        return batch


class _UnorderedLog(EventLog):
    """Hands a batch on newest first, but for the one that the cursor is taken from."""

    async def read(self, user_id: str, *, after: int, limit: int = 200) -> list[Event]:
        batch = await super().read(user_id, after=after, limit=limit)
        return [*reversed(batch[:-1]), *batch[-1:]]


@pytest.mark.power
@pytest.mark.parametrize(
    ("hub", "log", "words"),
    [
        (Hub, _LastUserLog, "was sent events of"),
        (Hub, _OverlappingLog, "twice"),
        (Hub, _UnorderedLog, "out of order"),
        (_LastSocketHub, EventLog, "got 0 of 20"),
    ],
    ids=["misrouted", "duplicated", "reordered", "lost"],
)
async def test_wrong_delivery_is_caught(
    hub: type[Hub], log: type[EventLog], words: str
) -> None:
    """Misrouted, duplicated, reordered and lost events are each seen as such."""
    async with Office(hub=hub, log=log) as office:
        sockets = await _everybody_receives(office, sockets_each=2)

        with pytest.raises(AssertionError, match=words):
            assert_events_are_own(sockets)


async def test_resumed_sockets_miss_nothing() -> None:
    """A hundred sockets that drop and resume at any turn get each event once."""
    async with Office() as office:

        async def drop_and_resume(number: int) -> Socket:
            user_id = f"user-{number:03d}"
            socket = office.connect(user_id, after=0)
            emitting = asyncio.create_task(office.emit(user_id))
            for _ in range(10 + number):
                await asyncio.sleep(0)
            await socket.leave()
            last = socket.events[-1]["seq"] if socket.events else 0
            again = office.connect(user_id, after=last)
            await emitting
            again.frames[:0] = socket.events
            return again

        resumed = await asyncio.gather(*map(drop_and_resume, range(USERS)))
        await office.settle()

        assert_events_are_own(resumed)


@pytest.mark.power
async def test_resuming_at_the_end_is_caught() -> None:
    """A client that resumes from now on instead of its number is seen to miss some."""
    async with Office() as office:
        socket = office.connect("user-000", after=0)
        await office.settle()
        await socket.leave()
        await office.emit("user-000")
        again = office.connect("user-000")
        await office.settle()

        with pytest.raises(AssertionError, match="got 0 of 20"):
            assert_events_are_own([again])


async def _leave_while_another_comes(office: Office, turns: int) -> Socket:
    """Let a user's socket leave, and another come some turns later."""
    user_id = f"user-{turns:03d}"
    first = office.connect(user_id)
    await office.settle()
    leaving = asyncio.create_task(first.leave())
    for _ in range(turns):
        await asyncio.sleep(0)
    staying = office.connect(user_id)
    await leaving
    await office.settle()
    return staying


def assert_followed(office: Office, users: Iterable[str]) -> None:
    """Check that exactly these users' channels are subscribed, in hub and Redis."""
    kinds = ("wake", "sessions")
    wanted = {RUN_CONTROL, *(f"u:{user}:{kind}" for user in users for kind in kinds)}
    subscribed = office.redis.subscribed()
    assert subscribed == wanted, f"lacks {wanted - subscribed}, has {subscribed}"
    assert office.hub.channels == wanted


LONGEST_FAREWELL_TURNS = 40
"""More turns of the loop than leaving takes."""


async def test_leaving_at_each_turn_spares_newcomer() -> None:
    """Whenever a socket leaves while another comes, the newcomer is subscribed."""
    async with Office() as office:
        for turns in range(LONGEST_FAREWELL_TURNS):
            staying = await _leave_while_another_comes(office, turns)
            assert_followed(office, [staying.user_id])

            await office.emit(staying.user_id)
            await office.settle()
            assert_events_are_own([staying])
            await staying.leave()


class _UnlockedHub(Hub):
    """Decides what to do before the await that does it, without a lock."""

    async def _settle(self, channel: str) -> None:
        is_wanted = channel in self._listeners
        if self._pubsub is None or is_wanted == (channel in self._subscribed):
            return
        for _ in range(3):  # some other round trip, such as writing a log
            await asyncio.sleep(0)
        if is_wanted:
            await self._pubsub.subscribe(channel)
            self._subscribed.add(channel)
        else:
            await self._pubsub.unsubscribe(channel)
            self._subscribed.discard(channel)


@pytest.mark.power
async def test_unlocked_subscribing_is_caught() -> None:
    """A hub that decides before it awaits loses the newcomer at some turn."""
    lost_at = []
    async with Office(hub=_UnlockedHub) as office:
        for turns in range(LONGEST_FAREWELL_TURNS):
            staying = await _leave_while_another_comes(office, turns)
            try:
                assert_followed(office, [staying.user_id])
            except AssertionError:
                lost_at.append(turns)
            await staying.leave()

    assert lost_at


async def _come_and_go(office: Office) -> None:
    """Let a hundred clients disconnect, each some turns later than the one before."""
    sockets = [office.connect(f"user-{number:03d}") for number in range(USERS)]
    for socket in sockets:
        await asyncio.sleep(0)
        await socket.leave()
    later = [office.connect(f"user-{number:03d}") for number in range(USERS)]
    await office.settle()
    await asyncio.gather(*(socket.leave() for socket in later))


def assert_nobody_is_left(office: Office) -> None:
    """Check that no subscription and no task of a socket is left."""
    assert_followed(office, [])
    names = {task.get_name() for task in asyncio.all_tasks()}
    left = [name for name in names if name.startswith("socket")]
    assert not left, f"tasks are left: {left}"


async def test_departed_sockets_leave_nothing() -> None:
    """After two hundred disconnects at any turn no subscription and no task is left."""
    async with Office() as office:
        tasks_before = asyncio.all_tasks()
        await _come_and_go(office)

        assert_nobody_is_left(office)
        assert asyncio.all_tasks() == tasks_before


async def test_disconnect_at_each_turn_leaves_nothing() -> None:
    """At whichever await of its serving a client disconnects, nothing is left."""
    async with Office() as office:
        await office.emit("user-000")
        for turns in range(80):
            socket = office.connect("user-000", after=0)
            for _ in range(turns):
                await asyncio.sleep(0)
            await socket.leave()
            assert_nobody_is_left(office)


async def test_killed_serving_at_each_turn_leaves_nothing() -> None:
    """At whichever await the serving task is cancelled, nothing is left."""
    async with Office() as office:
        await office.emit("user-000")
        for turns in range(80):
            socket = office.connect("user-000", after=0)
            for _ in range(turns):
                await asyncio.sleep(0)
            assert socket.serving is not None
            socket.serving.cancel()
            await asyncio.gather(socket.serving, return_exceptions=True)
            assert_nobody_is_left(office)


class _ForgetfulHub(Hub):
    """Gives its listener back only when nothing goes wrong."""

    def __init__(self, redis: "Redis", *, beat_s: float | None) -> None:
        super().__init__(redis, beat_s=beat_s)
        self.followed: list[contextlib.AsyncExitStack] = []

    @contextlib.asynccontextmanager
    async def following(self, user_id: str) -> AsyncIterator[asyncio.Event]:
        stack = contextlib.AsyncExitStack()
        self.followed.append(stack)
        wake = await stack.enter_async_context(super().following(user_id))
        yield wake
        await stack.aclose()


@pytest.mark.power
async def test_left_subscriptions_are_caught() -> None:
    """A hub that cleans up only after a happy end is seen to keep subscriptions."""
    async with Office(hub=_ForgetfulHub) as office:
        await _come_and_go(office)

        with pytest.raises(AssertionError, match="has"):
            assert_nobody_is_left(office)
        assert isinstance(office.hub, _ForgetfulHub)
        for stack in office.hub.followed:
            await stack.aclose()


@pytest.mark.power
def test_wrong_deliveries_are_told_apart() -> None:
    """The checking function names each way to go wrong by what it is."""
    frames = [{"seq": n, "data": {"owner": "ada"}} for n in range(1, 4)]
    wrong = {
        "events of": [{"seq": 1, "data": {"owner": "bob"}}],
        "twice": [frames[0], frames[0]],
        "out of order": frames[::-1],
        "got 2 of 3": frames[:2],
    }
    for words, sent in wrong.items():
        with pytest.raises(AssertionError, match=words):
            assert_events_are_own([Socket("ada", sent)], count=3)
