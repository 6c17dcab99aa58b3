"""B14: lock order inversion.

alice                           bob
                                await (documents.reindex() if user else documents.ren...
                                async with self.index:
                                await external("read the index")
await (documents.reindex() if user else documents.rename())
async with self.folder:
await external("rename")
                                async with self.folder:
async with self.index:
-> Deadlock: alice -> bob -> alice; nothing can go.
"""

import asyncio

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Documents:
    """Locks the folder and the index, in the order in which it comes to them."""

    def __init__(self) -> None:
        self.folder, self.index = asyncio.Lock(), asyncio.Lock()

    async def rename(self) -> None:
        async with self.folder:
            await external("rename")
            async with self.index:
                await external("update the index")

    async def reindex(self) -> None:
        async with self.index:
            await external("read the index")
            async with self.folder:
                await external("list the folder")


class _OrderedDocuments(_Documents):
    async def reindex(self) -> None:
        async with self.folder, self.index:
            await external("read the index")
            await external("list the folder")


async def _rename_or_reindex(documents: _Documents, user: int) -> None:
    await (documents.reindex() if user else documents.rename())


PATTERN = Pattern(
    id="B14",
    title="lock order inversion",
    mechanism="Two operations take the same two locks in opposite order.",
    fix="Take them in one order everywhere.",
    areas=(Area.ENGINE_REGISTRY,),
    detectors=("explorer", "locks"),
    source="https://docs.kernel.org/locking/lockdep-design.html",
    vulnerable=visits(_Documents, _rename_or_reindex),
    safe=visits(_OrderedDocuments, _rename_or_reindex),
    kind="deadlock",
    module=__name__,
    hosted=Hosted(),
)
