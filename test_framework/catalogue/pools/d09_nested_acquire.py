"""D09: second connection while holding one.

alice                     bob
                          await nested.handle()
                          async with self.pool:
                          await external("UPDATE")
await nested.handle()
async with self.pool:
await external("UPDATE")
                          await self.audit()
                          async with self.pool:
await self.audit()
async with self.pool:
-> Deadlock: bob -> bob; nothing can go.
"""

import asyncio

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Nested:
    """A pool of two; the audit helper takes a connection of its own."""

    def __init__(self) -> None:
        self.pool = asyncio.Semaphore(2)

    async def audit(self) -> None:
        async with self.pool:
            await external("INSERT audit")

    async def handle(self) -> None:
        async with self.pool:
            await external("UPDATE")
            await self.audit()


class _OneConnection(_Nested):
    async def audit(self) -> None:
        await external("INSERT audit")


async def _handle(nested: _Nested, user: int) -> None:  # noqa: ARG001  # any user
    await nested.handle()


PATTERN = Pattern(
    id="D09",
    title="second connection while holding one",
    mechanism=(
        "As many requests as the pool has connections hold one each and wait for a "
        "second."
    ),
    fix="Use one connection for a request, and hand it to helpers.",
    areas=(Area.DATABASE_SESSION,),
    detectors=("explorer", "locks", "timing"),
    source="https://github.com/fastapi/fastapi/issues/3205",
    vulnerable=visits(_Nested, _handle),
    safe=visits(_OneConnection, _handle),
    kind="deadlock",
    module=__name__,
    hosted=Hosted(),
)
