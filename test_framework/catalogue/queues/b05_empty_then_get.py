"""B05: queue asked whether it is empty, then awaited.

alice                           bob
                                await exports.work()
                                while not self.jobs.empty():
                                await external("reserve memory")
await exports.work()
while not self.jobs.empty():
await external("reserve memory")
                                await self.jobs.get()
                                while not self.jobs.empty():
await self.jobs.get()
-> Deadlock: nothing can go; main, alice wait for ever.
"""

import asyncio
import contextlib

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Exports:
    """Two workers empty a queue of exports."""

    def __init__(self) -> None:
        self.jobs: asyncio.Queue[str] = asyncio.Queue()
        self.jobs.put_nowait("export of alice")

    async def work(self) -> None:
        while not self.jobs.empty():
            await external("reserve memory")
            await self.jobs.get()


class _PatientExports(_Exports):
    async def work(self) -> None:
        with contextlib.suppress(asyncio.QueueEmpty):
            while True:
                self.jobs.get_nowait()
                await external("reserve memory")


async def _empty_queue(exports: _Exports, user: int) -> None:  # noqa: ARG001  # any worker
    await exports.work()


PATTERN = Pattern(
    id="B05",
    title="queue asked whether it is empty, then awaited",
    mechanism=(
        "Two workers see the last job, one takes it, and the other waits for ever."
    ),
    fix="Take it with get_nowait, which asks and takes in one step.",
    areas=(Area.ENGINE_REGISTRY,),
    detectors=("explorer", "locks"),
    source="https://docs.python.org/3/library/asyncio-queue.html#asyncio.Queue.get_nowait",
    vulnerable=visits(_Exports, _empty_queue),
    safe=visits(_PatientExports, _empty_queue),
    kind="deadlock",
    module=__name__,
    hosted=Hosted(),
)
