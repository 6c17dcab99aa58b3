"""X08: await in finally without shield.

alice
request = asyncio.create_task(uploads.upload(NAMES[user]))
await asyncio.wait({request})
self.files.add(name)
await external("scan for viruses")
await self.clean_up(name)
await self.remove(name)
await external("DELETE file")
<- cancelled
await asyncio.gather(*uploads.removals)
-> the file stays for the next tenant
"""

import asyncio

from test_framework.catalogue.pattern import Area, Needs, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Uploads:
    """Removes its temporary file at the end, on a file server."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        self.removals: set[asyncio.Task[None]] = set()

    async def remove(self, name: str) -> None:
        await external("DELETE file")
        self.files.discard(name)

    async def clean_up(self, name: str) -> None:
        await self.remove(name)

    async def upload(self, name: str) -> None:
        self.files.add(name)
        try:
            await external("scan for viruses")
        finally:
            await self.clean_up(name)


class _ShieldedUploads(_Uploads):
    async def clean_up(self, name: str) -> None:
        removal = asyncio.create_task(self.remove(name))
        self.removals.add(removal)
        await asyncio.shield(removal)


async def _upload(uploads: _Uploads, user: int) -> None:
    request = asyncio.create_task(uploads.upload(NAMES[user]))
    await asyncio.wait({request})
    await asyncio.gather(*uploads.removals)
    assert NAMES[user] not in uploads.files, "the file stays for the next tenant"


PATTERN = Pattern(
    id="X08",
    title="await in finally without shield",
    mechanism=(
        "The clean-up is awaited, and a cancellation hits it like any other await."
    ),
    fix="Run it as a task of its own and shield it.",
    areas=(Area.DATABASE_SESSION,),
    detectors=("explorer",),
    source="https://github.com/sqlalchemy/sqlalchemy/issues/6652",
    vulnerable=visits(_Uploads, _upload),
    safe=visits(_ShieldedUploads, _upload),
    needs=Needs(cancel="user*/upload*"),
    module=__name__,
)
