"""B10: semaphore released without being acquired.

alice                bob                  carol
return await downloads.download()
await self.slots.acquire()
return await self.run()
self.running += 1
running = self.running
await external("GET file")
                     return await downloads.download()
                     await self.slots.acquire()
                     <- cancelled
                     self.slots.release()
                     <- cancelled
                                          return await downloads.download()
                                          await self.slots.acquire()
                                          return await self.run()
                                          self.running += 1
                                          running = self.running
                                          self.slots.release()
self.running -= 1
return running
self.slots.release()
-> more downloads at a time than allowed
"""

import asyncio

from test_framework.catalogue.pattern import CANCELLED_USERS, Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Downloads:
    """One download at a time."""

    def __init__(self) -> None:
        self.slots = asyncio.Semaphore(1)
        self.running = 0

    async def run(self) -> int:
        self.running += 1
        running = self.running
        assert running == 1, "more downloads at a time than allowed"
        try:
            await external("GET file")
        finally:
            self.running -= 1
        return running

    async def download(self) -> int:
        try:
            await self.slots.acquire()
            return await self.run()
        finally:
            self.slots.release()


class _BalancedDownloads(_Downloads):
    async def download(self) -> int:
        await self.slots.acquire()
        try:
            return await self.run()
        finally:
            self.slots.release()


async def _download(downloads: _Downloads, user: int) -> int:  # noqa: ARG001  # any user
    return await downloads.download()


PATTERN = Pattern(
    id="B10",
    title="semaphore released without being acquired",
    mechanism=(
        "The acquire stands inside of the try, so who is cancelled while waiting "
        "releases what another holds."
    ),
    fix="Acquire before the try, or use async with.",
    areas=(Area.AGENT_STATE,),
    detectors=("explorer", "locks"),
    source="https://docs.python.org/3/library/asyncio-sync.html#asyncio.BoundedSemaphore",
    vulnerable=visits(_Downloads, _download, users=3, gap_s=0),
    safe=visits(_BalancedDownloads, _download, users=3, gap_s=0),
    needs=CANCELLED_USERS,
    module=__name__,
    hosted=Hosted(),
)
