"""X14: lock held by a cancelled task.

alice                      bob
await ledger.book()
await self.lock.acquire()
await external("INSERT")
<- cancelled
                           await ledger.book()
                           await self.lock.acquire()
-> Deadlock: nothing can go; main, bob wait for ever.
"""

import asyncio

from test_framework.catalogue.pattern import CANCELLED_USERS, Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Ledger:
    """Books under a lock."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()

    async def book(self) -> None:
        await self.lock.acquire()
        await external("INSERT")
        self.lock.release()


class _ScopedLedger(_Ledger):
    async def book(self) -> None:
        async with self.lock:
            await external("INSERT")


async def _book(ledger: _Ledger, user: int) -> None:  # noqa: ARG001  # any user
    await ledger.book()


PATTERN = Pattern(
    id="X14",
    title="lock held by a cancelled task",
    mechanism=(
        "A task is cancelled between acquire and release, and nobody gets the lock "
        "again."
    ),
    fix="Use async with.",
    areas=(Area.DATABASE_SESSION,),
    detectors=("explorer", "locks"),
    source="https://github.com/python-trio/trio/issues/182",
    vulnerable=visits(_Ledger, _book),
    safe=visits(_ScopedLedger, _book),
    needs=CANCELLED_USERS,
    kind="deadlock",
    module=__name__,
    hosted=Hosted(),
)
