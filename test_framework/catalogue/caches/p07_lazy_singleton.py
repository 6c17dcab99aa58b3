"""P07: lazy singleton without lock.

alice                           bob
                                (await pools.get()).data[NAMES[user]] = "draft"
                                if self.pool is None:
                                self.pool = await self.connect()
                                await external("connect")
(await pools.get()).data[NAMES[user]] = "draft"
if self.pool is None:
self.pool = await self.connect()
await external("connect")
                                self.made += 1
                                return Store()
                                return self.pool
                                await external("the next request of the same user")
self.made += 1
return Store()
return self.pool
await external("the next request of the same user")
                                assert NAMES[user] in (await pools.get()).data, "the ...
                                if self.pool is None:
                                return self.pool
assert NAMES[user] in (await pools.get()).data, "the draft went to another pool"
if self.pool is None:
return self.pool
return NAMES[user] in (await pools.get()).data
if self.pool is None:
return self.pool
-> the draft went to another pool
"""

import asyncio

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, Store, visits
from test_framework.explore import external


class _Pools:
    """The connection pool is made when the first request needs it."""

    def __init__(self) -> None:
        self.pool: Store | None = None
        self.made = 0
        self.lock = asyncio.Lock()

    async def connect(self) -> Store:
        await external("connect")
        self.made += 1
        return Store()

    async def get(self) -> Store:
        if self.pool is None:
            self.pool = await self.connect()
        return self.pool


class _LockedPools(_Pools):
    async def get(self) -> Store:
        async with self.lock:
            return await super().get()


async def _write_and_read(pools: _Pools, user: int) -> bool:
    (await pools.get()).data[NAMES[user]] = "draft"
    await external("the next request of the same user")
    assert NAMES[user] in (await pools.get()).data, "the draft went to another pool"
    return NAMES[user] in (await pools.get()).data


PATTERN = Pattern(
    id="P07",
    title="lazy singleton without lock",
    mechanism=(
        "Two first requests see None and make two clients; one leaks, with what was "
        "written to it."
    ),
    fix="Look again under a lock, or make it at start.",
    areas=(Area.DATABASE_SESSION, Area.ENGINE_REGISTRY),
    detectors=("explorer", "access"),
    source="https://cwe.mitre.org/data/definitions/609.html",
    vulnerable=visits(_Pools, _write_and_read),
    safe=visits(_LockedPools, _write_and_read),
    module=__name__,
    hosted=Hosted(),
)
