"""L05: batch flushed by its timer and by its size.

alice                           bob
got = await embedder.embed(NAMES[user])
waiter: asyncio.Future[str] = asyncio.get_running_loop().create_future()
self.batch.append((text, waiter))
if len(self.batch) < 2:
await asyncio.wait({waiter}, timeout=1)
if not waiter.done():
await self.flush()
batch = list(self.batch)
await external("POST /embeddings")
                                got = await embedder.embed(NAMES[user])
                                waiter: asyncio.Future[str] = asyncio.get_running_loo...
                                self.batch.append((text, waiter))
                                if len(self.batch) < 2:
                                if not waiter.done():
                                await self.flush()
                                batch = list(self.batch)
                                await external("POST /embeddings")
for text, waiter in batch:
waiter.set_result(f"vector of {text}")
for text, waiter in batch:
self.batch.clear()
return await waiter
return got
                                for text, waiter in batch:
                                waiter.set_result(f"vector of {text}")
                                <- InvalidStateError
-> InvalidStateError: invalid state
"""

import asyncio

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Embedder:
    """Batches texts: the second text or a timer sends the batch."""

    def __init__(self) -> None:
        self.batch: list[tuple[str, asyncio.Future[str]]] = []

    async def flush(self) -> None:
        batch = list(self.batch)
        await external("POST /embeddings")
        for text, waiter in batch:
            waiter.set_result(f"vector of {text}")
        self.batch.clear()

    async def embed(self, text: str) -> str:
        waiter: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.batch.append((text, waiter))
        if len(self.batch) < 2:
            await asyncio.wait({waiter}, timeout=1)
        if not waiter.done():
            await self.flush()
        return await waiter


class _SwappingEmbedder(_Embedder):
    async def flush(self) -> None:
        batch, self.batch = self.batch, []
        await external("POST /embeddings")
        for text, waiter in batch:
            waiter.set_result(f"vector of {text}")


async def _embed(embedder: _Embedder, user: int) -> str:
    got = await embedder.embed(NAMES[user])
    assert got == f"vector of {NAMES[user]}", f"{NAMES[user]} got {got}"
    return got


PATTERN = Pattern(
    id="L05",
    title="batch flushed by its timer and by its size",
    mechanism=(
        "A batch that is being sent still takes texts and is sent again; one flush "
        "answers what the other will answer."
    ),
    fix="Swap the list before the await.",
    areas=(Area.AGENT_STATE,),
    detectors=(
        "explorer",
        "access",
        "checkers",
    ),
    source="https://cwe.mitre.org/data/definitions/362.html",
    vulnerable=visits(_Embedder, _embed),
    safe=visits(_SwappingEmbedder, _embed),
    kind="exception",
    module=__name__,
    hosted=Hosted(),
    beyond={"swarm": "who is wronged gets an error, and nothing of anybody else"},
)
