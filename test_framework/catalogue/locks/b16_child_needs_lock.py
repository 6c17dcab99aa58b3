"""B16: child awaited under the lock that it needs.

alice                           bob
await runs.run(NAMES[user])
async with self.lock:
self.log.append(f"run of {user}")
await asyncio.gather(self.call_tool("search"), self.call_tool("mail"))
await external("run the tool")
await external("run the tool")
async with self.lock:
async with self.lock:
                                await runs.run(NAMES[user])
                                async with self.lock:
-> Deadlock: alice -> alice/call_tool[0] -> alice; nothing can go.
"""

import asyncio

from test_framework.catalogue.pattern import ANY_ORDER, Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Runs:
    """A run calls its tools in parallel; each of them logs under the lock of the run."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.log: list[str] = []

    async def call_tool(self, name: str) -> None:
        await external("run the tool")
        async with self.lock:
            self.log.append(name)

    async def run(self, user: str) -> None:
        async with self.lock:
            self.log.append(f"run of {user}")
            await asyncio.gather(self.call_tool("search"), self.call_tool("mail"))


class _ReleasingRuns(_Runs):
    async def run(self, user: str) -> None:
        async with self.lock:
            self.log.append(f"run of {user}")
        await asyncio.gather(self.call_tool("search"), self.call_tool("mail"))


async def _run(runs: _Runs, user: int) -> None:
    await runs.run(NAMES[user])


PATTERN = Pattern(
    id="B16",
    title="child awaited under the lock that it needs",
    mechanism=(
        "A task holds a lock and awaits others that take it as well; neither side can "
        "go on."
    ),
    fix=("Let go of the lock before awaiting the others."),
    areas=(Area.AGENT_STATE, Area.ENGINE_REGISTRY),
    detectors=("explorer", "locks"),
    source="https://cwe.mitre.org/data/definitions/833.html",
    vulnerable=visits(_Runs, _run),
    safe=visits(_ReleasingRuns, _run),
    module=__name__,
    needs=ANY_ORDER,
    kind="deadlock",
    hosted=Hosted(),
)
