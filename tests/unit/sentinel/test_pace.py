"""Requests leave in waves: together, and no faster than the rate."""

import asyncio
import itertools

import httpx
import pytest

from test_framework.sentinel.pace import DRAIN_S, GATHER_S, Pace
from tests.unit.sentinel.virtual import VirtualTime

REQUEST = httpx.Request("GET", "http://notes/")
ANSWER = httpx.Response(200)


class Turns(VirtualTime):
    """Time that passes when everybody waits, so that others act meanwhile."""

    async def sleep(self, seconds: float) -> None:
        """Let others come first."""
        for _ in range(20):
            await asyncio.sleep(0)
        await super().sleep(seconds)


async def send(pace: Pace, time: VirtualTime, users: int, requests: int) -> list[float]:
    """Let users send requests one after the other; return when each left."""
    left: list[float] = []

    async def user() -> None:
        for _ in range(requests):
            await pace.before(REQUEST)
            left.append(time.now_s())
            await pace.after(ANSWER)

    await asyncio.gather(*(user() for _ in range(users)))
    return left


async def test_users_leave_together() -> None:
    """Five users with four requests each make four waves of five."""
    time = Turns()

    left = await send(Pace(10, time), time, users=5, requests=4)

    assert [len(list(wave)) for _, wave in itertools.groupby(left)] == [5, 5, 5, 5]


@pytest.mark.parametrize("rate", [1.0, 10.0, 100.0])
async def test_mean_rate_is_kept(rate: float) -> None:
    """A hundred requests take as long as the rate says, less the last wave."""
    time = Turns()

    left = await send(Pace(rate, time), time, users=5, requests=20)

    assert left[-1] - left[0] == pytest.approx((100 - 5) / rate)


async def test_cancelled_first_lets_the_others_go() -> None:
    """When the first of a wave is cancelled, those who wait for it go on."""
    time = Turns()
    pace = Pace(10, time)
    first = asyncio.create_task(pace.before(REQUEST))
    await asyncio.sleep(0)
    second = asyncio.create_task(pace.before(REQUEST))
    await asyncio.sleep(0)

    first.cancel()
    done, _ = await asyncio.wait({first, second}, timeout=5)

    assert done == {first, second}
    assert not second.cancelled()


async def test_drained_pace_lets_nothing_leave() -> None:
    """What has not left when the watch stops stays back."""
    time = Turns()
    pace = Pace(10, time)
    await pace.drain()

    late = asyncio.create_task(pace.before(REQUEST))
    for _ in range(100):
        await asyncio.sleep(0)

    assert not late.done()
    late.cancel()
    await asyncio.gather(late, return_exceptions=True)


async def test_draining_waits_for_answers() -> None:
    """Draining ends with the last answer under way, and after a while without it."""
    time = Turns()
    pace = Pace(1000, time)
    await pace.before(REQUEST)
    await pace.before(REQUEST)
    await pace.after(ANSWER)

    draining = asyncio.create_task(pace.drain())
    for _ in range(100):
        await asyncio.sleep(0)
    waited = not draining.done()
    await pace.after(ANSWER)
    await draining

    assert waited
    assert time.now_s() < DRAIN_S

    await Pace(10, time).drain()


async def test_lost_answer_does_not_hold_the_drain_for_ever() -> None:
    """An answer that never comes is given up after a few seconds."""
    time = Turns()
    pace = Pace(1000, time)
    await pace.before(REQUEST)

    await pace.drain()

    assert DRAIN_S <= time.now_s() <= DRAIN_S + 1 + GATHER_S
