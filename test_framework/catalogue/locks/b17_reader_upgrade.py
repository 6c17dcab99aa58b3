"""B17: two readers upgrade to writers.

alice                           bob
                                await settings.ensure()
                                await self.read()
                                async with self.changed:
                                await self.changed.wait_for(lambda: not self.is_writing)
                                self.readers += 1
                                await external("SELECT")
await settings.ensure()
await self.read()
async with self.changed:
await self.changed.wait_for(lambda: not self.is_writing)
self.readers += 1
await external("SELECT")
                                await self.write(as_reader=True)
                                async with self.changed:
                                await self.changed.wait_for(lambda: not self.is_writi...
await self.write(as_reader=True)
async with self.changed:
await self.changed.wait_for(lambda: not self.is_writing and self.readers == as_reader)
-> Deadlock: nothing can go; main, alice, bob wait for ever.
"""

import asyncio

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _SharedLock:
    """Many readers or one writer."""

    def __init__(self) -> None:
        self.readers = 0
        self.is_writing = False
        self.changed = asyncio.Condition()

    async def read(self) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: not self.is_writing)
            self.readers += 1

    async def end_reading(self) -> None:
        async with self.changed:
            self.readers -= 1
            self.changed.notify_all()

    async def write(self, *, as_reader: bool) -> None:
        async with self.changed:
            await self.changed.wait_for(
                lambda: not self.is_writing and self.readers == as_reader
            )
            self.is_writing = True

    async def end_writing(self) -> None:
        async with self.changed:
            self.is_writing = False
            self.changed.notify_all()


class _Settings(_SharedLock):
    """Reads, and writes when the value is missing."""

    async def ensure(self) -> None:
        await self.read()
        await external("SELECT")
        await self.write(as_reader=True)
        await external("INSERT")
        await self.end_writing()
        await self.end_reading()


class _RelockingSettings(_Settings):
    async def ensure(self) -> None:
        await self.read()
        await external("SELECT")
        await self.end_reading()
        await self.write(as_reader=False)
        await external("INSERT ... ON CONFLICT DO NOTHING")
        await self.end_writing()


async def _ensure(settings: _Settings, user: int) -> None:  # noqa: ARG001  # any user
    await settings.ensure()


PATTERN = Pattern(
    id="B17",
    title="two readers upgrade to writers",
    mechanism="Each waits to write until the other stops reading.",
    fix=("Let go of the read lock first, take the write lock, and look again."),
    areas=(Area.ENGINE_REGISTRY,),
    detectors=("explorer", "locks", "timing"),
    source="https://pkg.go.dev/sync#RWMutex",
    vulnerable=visits(_Settings, _ensure),
    safe=visits(_RelockingSettings, _ensure),
    kind="deadlock",
    module=__name__,
    hosted=Hosted(),
)
