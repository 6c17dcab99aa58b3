"""X04: slot of an HTTP pool leaks.

alice                           bob
await pool.fetch(NAMES[user])
await self.take(user)
async with self.freed:
await self.freed.wait_for(lambda: not self.slots)
self.slots.append(user)
await external("connect")
<- cancelled
                                await pool.fetch(NAMES[user])
                                await self.take(user)
                                async with self.freed:
                                await self.freed.wait_for(lambda: not self.slots)
-> Deadlock: nothing can go; main, bob wait for ever.
"""

import asyncio

from test_framework.catalogue.pattern import CANCELLED_USERS, Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _HttpPool:
    """Allows one connection; a slot is taken before it connects."""

    def __init__(self) -> None:
        self.slots: list[str] = []
        self.freed = asyncio.Condition()

    async def take(self, user: str) -> None:
        async with self.freed:
            await self.freed.wait_for(lambda: not self.slots)
            self.slots.append(user)

    async def free(self, user: str) -> None:
        self.slots.remove(user)
        async with self.freed:
            self.freed.notify()

    async def fetch(self, user: str) -> None:
        await self.take(user)
        await external("connect")
        try:
            await external("GET /")
        finally:
            await self.free(user)


class _CarefulHttpPool(_HttpPool):
    async def fetch(self, user: str) -> None:
        await self.take(user)
        try:
            await external("connect")
            await external("GET /")
        finally:
            await self.free(user)


async def _fetch(pool: _HttpPool, user: int) -> None:
    await pool.fetch(NAMES[user])


PATTERN = Pattern(
    id="X04",
    title="slot of an HTTP pool leaks",
    mechanism=(
        "A request that is cancelled while it connects has taken a slot and never frees "
        "it; later all time out."
    ),
    fix="Begin the try before the first await.",
    areas=(Area.DATABASE_SESSION,),
    detectors=("explorer", "locks"),
    source="https://github.com/encode/httpcore/issues/658",
    vulnerable=visits(_HttpPool, _fetch),
    safe=visits(_CarefulHttpPool, _fetch),
    needs=CANCELLED_USERS,
    kind="deadlock",
    module=__name__,
    hosted=Hosted(),
)
