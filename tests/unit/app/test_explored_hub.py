"""The hub under every order: each follower hears of its user's events, none is left.

Followers come and leave, the connection to Redis breaks, and events are appended, at any
instant. There is no poll that would find an event later: a lost wake-up is a deadlock.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Self, cast

import pytest

from app.realtime import EventLog, Hub, follow
from app.realtime.events import wake_channel
from app.realtime.hub import RUN_CONTROL
from test_framework.explore import Conclusion, Report, Scenario, explore, external
from tests.unit.app.exploring import assert_found
from tests.unit.app.fakes.redis import MemoryRedis

if TYPE_CHECKING:
    from redis.asyncio import Redis


class _Line:
    """A hub over a Redis of its own.

    Attributes:
        redis: The Redis.
        hub: The hub.
    """

    def __init__(self, hub: type[Hub]) -> None:
        self.redis = MemoryRedis()
        client = cast("Redis", self.redis)
        self.hub, self._log = hub(client, beat_s=None), EventLog(client)
        self._cancelled: list[str] = []

    async def __aenter__(self) -> Self:
        await self.hub.start(self._cancelled.append)
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        if kind is None:
            # Those who were cancelled left it to a task that goes on without them.
            if settling := [t for t in asyncio.all_tasks() if "_settle" in repr(t)]:
                await asyncio.wait(settling)
            self._check()
        await self.hub.close()
        if kind is None:
            assert not self.redis.subscribed(), "a subscription outlived the hub"

    async def append(self, user_id: str) -> None:
        """Append an event of a user."""
        await self._log.append(user_id, "x", run_id=user_id, thread_id="t", data={})

    async def hear(self, user_id: str) -> None:
        """Follow a user until an event has come, and leave."""
        events = follow(self.hub, self._log, user_id, after=0, poll_s=None)
        async with contextlib.aclosing(events):
            async for batch in events:
                if batch:
                    owners = {event.run_id for event in batch}
                    assert owners == {user_id}, f"{user_id} heard of {owners}"
                    break

    async def look(self, user_id: str) -> None:
        """Follow a user until it has caught up, and leave."""
        events = follow(self.hub, self._log, user_id, after=0, poll_s=None)
        async with contextlib.aclosing(events):
            await anext(events)

    def _check(self) -> None:
        assert self.hub.channels == {RUN_CONTROL}, f"followed: {self.hub.channels}"
        surplus = self.redis.subscribed() - {RUN_CONTROL}
        assert not surplus, f"subscribed, and nobody follows: {surplus}"


def _explored(
    *users: Callable[[_Line], Coroutine[Any, Any, None]],
    hub: type[Hub] = Hub,
    cancel: str = "",
    schedules: int = 600,
) -> Report:
    async def act(line: _Line, number: int) -> None:
        await users[number](line)

    return explore(
        Scenario(lambda: _Line(hub), act, users=len(users)),
        fidelity="await",
        cancel=cancel,
        schedules=schedules,
        budget="90s",
        seed=1,
    )


async def _ada_hears(line: _Line) -> None:
    await line.hear("ada")


async def _ada_looks(line: _Line) -> None:
    await line.look("ada")


async def _ada_writes(line: _Line) -> None:
    await external("something happens")
    await line.append("ada")


async def _bob_lives(line: _Line) -> None:
    await line.append("bob")
    await line.hear("bob")


async def _redis_restarts(line: _Line) -> None:
    await external("restart")
    line.redis.break_connections()


# -- followers who come and leave -----------------------------------------------------


def _come_and_leave(hub: type[Hub] = Hub, *, schedules: int = 600) -> Report:
    """Let one socket of ada leave, or be cancelled, while another one stays."""
    return _explored(
        _ada_looks,
        _ada_hears,
        _ada_writes,
        hub=hub,
        cancel="user[0]",
        schedules=schedules,
    )


@pytest.mark.slow
def test_leaving_follower_takes_nothing_from_another() -> None:
    """Wherever a socket leaves, the user's other one is woken, and none is left."""
    report = _come_and_leave()

    assert report.witness is None, report.text()


class _UnlockedHub(Hub):
    """Looks at what is wanted, and subscribes, without a lock."""

    async def _settle(self, channel: str) -> None:
        is_wanted = channel in self._listeners
        if self._pubsub is None or is_wanted == (channel in self._subscribed):
            return
        if is_wanted:
            await self._pubsub.subscribe(channel)
            self._subscribed.add(channel)
        else:
            await self._pubsub.unsubscribe(channel)
            self._subscribed.discard(channel)


class _UnshieldedHub(Hub):
    """Settles in the task of the socket, which may be cancelled meanwhile."""

    @contextlib.asynccontextmanager
    async def following(self, user_id: str) -> Any:  # noqa: ANN401  # as the one it stands for
        wake = asyncio.Event()
        channel = wake_channel(user_id)

        def listener(_: bytes | None) -> None:
            wake.set()

        self._listeners[channel].add(listener)
        try:
            await self._settle(channel)
            yield wake
        finally:
            self._listeners[channel].discard(listener)
            if not self._listeners[channel]:
                del self._listeners[channel]
            await self._settle(channel)


@pytest.mark.power
@pytest.mark.parametrize("hub", [_UnlockedHub, _UnshieldedHub])
def test_careless_settling_is_found(hub: type[Hub]) -> None:
    """Without lock a subscription is lost that is wanted, without shield one is left.

    Of ten seeds the slowest took 1,700 runs.
    """
    report = _come_and_leave(hub, schedules=20_000)

    assert report.conclusion is Conclusion.FOUND, report.text()


# -- messages that cannot be read -----------------------------------------------------


async def _nonsense_comes(line: _Line) -> None:
    await line.redis.publish(RUN_CONTROL, b"\xff no text")


@pytest.mark.slow
def test_unreadable_message_deafens_nobody() -> None:
    """A cancellation that is no text takes the wake-ups from no user."""
    report = _explored(_ada_hears, _ada_writes, _nonsense_comes)

    assert report.witness is None, report.text()


class _FragileHub(Hub):
    """Stops reading for good at the first message that a listener cannot take."""

    async def _read_forever(self) -> None:
        async with self._redis.pubsub() as pubsub:
            await self._subscribe_all(pubsub)
            async for message in pubsub.listen():
                self._dispatch(message)


@pytest.mark.power
def test_reader_that_dies_is_found() -> None:
    """A hub whose reader dies of one message leaves all users without wake-ups."""
    report = _explored(_ada_hears, _ada_writes, _nonsense_comes, hub=_FragileHub)

    assert_found(report, "deadlock")


# -- connections that break -----------------------------------------------------------


def _restart(hub: type[Hub] = Hub) -> Report:
    """Break the connection while ada waits for an event and bob comes and leaves."""
    return _explored(_ada_hears, _ada_writes, _redis_restarts, _bob_lives, hub=hub)


@pytest.mark.slow
def test_broken_connection_delays_no_event() -> None:
    """Whenever Redis hangs up, every event is heard of without waiting for the poll."""
    report = _restart()

    assert report.witness is None, report.text()


class _DeafHub(Hub):
    """Does not look at what came before its subscription was confirmed."""

    def _dispatch(self, message: dict[str, object]) -> None:
        if message["type"] == "message":
            super()._dispatch(message)


@pytest.mark.power
def test_event_before_confirmation_is_missed_and_found() -> None:
    """A hub that trusts messages alone leaves an event to the poll."""
    assert_found(_restart(_DeafHub), "deadlock")
