"""B15: lock taken again by its holder.

alice                           bob
await engines.replace(NAMES[user])
async with self.lock:
await self.remove(user)
async with self.lock:
                                await engines.replace(NAMES[user])
                                async with self.lock:
-> Deadlock: alice -> alice; nothing can go.
"""

import asyncio

from test_framework.catalogue.pattern import ANY_ORDER, Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Engines:
    """A registry of engines; one is replaced by removing and adding."""

    def __init__(self) -> None:
        self.engines = {"alice": "old"}
        self.lock = asyncio.Lock()

    async def remove(self, user: str) -> None:
        async with self.lock:
            await external("stop the engine")
            self.engines.pop(user, None)

    async def replace(self, user: str) -> None:
        async with self.lock:
            await self.remove(user)
            self.engines[user] = "new"


class _PartedEngines(_Engines):
    async def remove_locked(self, user: str) -> None:
        await external("stop the engine")
        self.engines.pop(user, None)

    async def replace(self, user: str) -> None:
        async with self.lock:
            await self.remove_locked(user)
            self.engines[user] = "new"


async def _replace(engines: _Engines, user: int) -> None:
    await engines.replace(NAMES[user])


PATTERN = Pattern(
    id="B15",
    title="lock taken again by its holder",
    mechanism=(
        "A helper takes the lock that its caller holds already, and asyncio locks do "
        "not know their holders."
    ),
    fix=(
        "Part the helper into one that locks and one that expects the lock to be held."
    ),
    areas=(Area.ENGINE_REGISTRY,),
    detectors=("explorer", "locks"),
    source="https://docs.python.org/3/library/asyncio-sync.html#asyncio.Lock",
    vulnerable=visits(_Engines, _replace),
    safe=visits(_PartedEngines, _replace),
    module=__name__,
    needs=ANY_ORDER,
    kind="deadlock",
    hosted=Hosted(),
)
