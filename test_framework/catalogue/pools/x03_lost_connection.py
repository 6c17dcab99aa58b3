"""X03: connection never returned.

alice                       bob
await pool.query()
await self.free.acquire()
await external("SELECT")
await self.give_back()
await self.reset()
await external("ROLLBACK")
<- cancelled
                            await pool.query()
                            await self.free.acquire()
-> Deadlock: nothing can go; main, bob wait for ever.
"""

import asyncio

from test_framework.catalogue.pattern import CANCELLED_USERS, Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _LeakyPool:
    """Has one connection; a check-in rolls back before it returns it."""

    def __init__(self) -> None:
        self.free = asyncio.Semaphore(1)

    async def reset(self) -> None:
        await external("ROLLBACK")

    async def give_back(self) -> None:
        await self.reset()
        self.free.release()

    async def query(self) -> None:
        await self.free.acquire()
        try:
            await external("SELECT")
        finally:
            await self.give_back()


class _TerminatingPool(_LeakyPool):
    async def give_back(self) -> None:
        try:
            await self.reset()
        finally:
            self.free.release()


async def _query(pool: _LeakyPool, user: int) -> None:  # noqa: ARG001  # any user
    await pool.query()


PATTERN = Pattern(
    id="X03",
    title="connection never returned",
    mechanism=(
        "A cancellation hits the rollback at check-in, the connection stays lent, and "
        "the next user waits for ever."
    ),
    fix="Give it back whatever the rollback does.",
    areas=(Area.DATABASE_SESSION,),
    detectors=("explorer", "locks"),
    source="https://github.com/sqlalchemy/sqlalchemy/issues/8145",
    vulnerable=visits(_LeakyPool, _query),
    safe=visits(_TerminatingPool, _query),
    needs=CANCELLED_USERS,
    kind="deadlock",
    module=__name__,
    hosted=Hosted(),
)
