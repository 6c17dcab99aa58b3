"""X06: lost wake-up.

alice                           bob
await limiter.acquire()
if self.is_free:
self.is_free = False
await external("call the model")
                                await limiter.acquire()
                                if self.is_free:
                                waiter: asyncio.Future[None] = asyncio.get_running_lo...
                                self.waiters.append(waiter)
                                await self.wait(waiter)
                                await waiter
limiter.release()
while self.waiters:
waiter = self.waiters.popleft()
if not waiter.done():
waiter.set_result(None)
                                <- cancelled
-> nobody gets the slot again
"""

import asyncio
from collections import deque

from test_framework.catalogue.pattern import CANCELLED_USERS, Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Limiter:
    """Hands its one slot to the waiter that came first."""

    def __init__(self) -> None:
        self.is_free = True
        self.waiters: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> None:
        if self.is_free:
            self.is_free = False
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        await self.wait(waiter)

    async def wait(self, waiter: "asyncio.Future[None]") -> None:
        await waiter

    def release(self) -> None:
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self.is_free = True


class _PassingLimiter(_Limiter):
    async def wait(self, waiter: "asyncio.Future[None]") -> None:
        try:
            await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():  # chosen, and cancelled before it could go on
                self.release()
            raise


async def _call_model(limiter: _Limiter, user: int) -> None:  # noqa: ARG001  # any user
    await limiter.acquire()
    try:
        await external("call the model")
    finally:
        limiter.release()


def _slot_is_there(limiter: _Limiter) -> None:
    assert limiter.is_free, "nobody gets the slot again"


PATTERN = Pattern(
    id="X06",
    title="lost wake-up",
    mechanism=(
        "A waiter is chosen and cancelled in the same tick, and the slot goes down with "
        "it."
    ),
    fix="Who is cancelled after being chosen wakes the next.",
    areas=(Area.AGENT_STATE,),
    detectors=("explorer", "locks"),
    source="https://github.com/python/cpython/pull/1031",
    vulnerable=visits(_Limiter, _call_model, _slot_is_there, gap_s=0),
    safe=visits(_PassingLimiter, _call_model, _slot_is_there, gap_s=0),
    needs=CANCELLED_USERS,
    module=__name__,
    hosted=Hosted(shown=lambda limiter, _: limiter.is_free),
)
