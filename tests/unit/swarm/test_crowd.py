"""Bursts and crowds: members meet, and nobody waits for one who is gone."""

import asyncio

from test_framework.clients.wire import Exchange, Wire
from test_framework.core import BurstRecord, History, MonotonicClock
from test_framework.swarm.crowd import Burst, Crowd


def make_burst(expected: int, history: History | None = None) -> Burst:
    """Return a burst that records into ``history``."""
    return Burst(
        "b#1",
        expected,
        shape="s",
        clock=MonotonicClock(),
        history=history or History(),
    )


def exchange() -> Exchange:
    """Return an exchange on a wire that leads nowhere."""
    return Exchange(Wire(), is_head_request=False)


async def test_burst_goes_when_all_have_come() -> None:
    """The last member releases everybody, and the burst is recorded once."""
    history = History()
    burst = make_burst(3, history)
    first = [asyncio.create_task(burst.pass_through(exchange(), n)) for n in (1, 2)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in first)

    await burst.pass_through(exchange(), 3)
    await asyncio.gather(*first)

    (record,) = history.of(BurstRecord)
    assert record.ops == (1, 2, 3)


async def test_excused_member_is_not_waited_for() -> None:
    """A member that ends without sending lets the others go."""
    burst = make_burst(2)
    waiting = asyncio.create_task(burst.pass_through(exchange(), 1))
    await asyncio.sleep(0)

    burst.excuse()
    await asyncio.sleep(0)

    await asyncio.wait_for(waiting, 1)


async def test_late_member_goes_at_once() -> None:
    """Who comes after the release is not held."""
    burst = make_burst(1)
    await burst.pass_through(exchange(), 1)
    late = exchange()

    await burst.pass_through(late, 2)

    assert late.sent_ns > 0


async def test_crowd_opens_when_all_have_arrived() -> None:
    """Members who meet by one name share one burst."""
    crowd = Crowd(3, lambda _, size: make_burst(size))
    early = [asyncio.create_task(crowd.meet("x")) for _ in range(2)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in early)

    last = await crowd.meet("x")

    assert [await task for task in early] == [last, last]


async def test_crowd_does_not_wait_for_who_left() -> None:
    """A member that has ended is not expected."""
    crowd = Crowd(2, lambda _, size: make_burst(size))
    early = asyncio.create_task(crowd.meet("x"))
    await asyncio.sleep(0)

    crowd.leave()

    assert isinstance(await asyncio.wait_for(early, 1), Burst)


async def test_cancelled_member_is_excused_from_the_burst() -> None:
    """A member that is cancelled at the meeting does not hold the burst back."""
    crowd = Crowd(2, lambda _, size: make_burst(size))
    cancelled = asyncio.create_task(crowd.meet("x"))
    await asyncio.sleep(0)
    cancelled.cancel()

    burst = await crowd.meet("x")

    await asyncio.wait_for(burst.pass_through(exchange(), 1), 1)


async def test_members_at_different_names_do_not_lock_each_other() -> None:
    """Some go by a meeting the others skip: it opens when nobody else can come."""
    crowd = Crowd(3, lambda _, size: make_burst(size))
    detour = asyncio.create_task(crowd.meet("detour"))
    await asyncio.sleep(0)
    direct = [asyncio.create_task(crowd.meet("end")) for _ in range(2)]
    await asyncio.wait_for(detour, 1)
    assert not any(task.done() for task in direct)

    last = await asyncio.wait_for(crowd.meet("end"), 1)

    assert [await task for task in direct] == [last, last]
