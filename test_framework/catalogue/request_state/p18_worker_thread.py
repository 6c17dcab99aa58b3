"""P18: thread reads what the loop still changes.

alice                bob                  thread
                     got = await exports.export(NAMES[user])
                     self.request["user"] = user
                     await external("a thread is free")
got = await exports.export(NAMES[user])
self.request["user"] = user
await external("a thread is free")
                     loop = asyncio.get_running_loop()
                     with ThreadPoolExecutor(1) as threads:
                     return await loop.run_in_executor(threads, self.render, self.req...
loop = asyncio.get_running_loop()
with ThreadPoolExecutor(1) as threads:
return await loop.run_in_executor(threads, self.render, self.request)
                                          return f"export of {request['user']}"
                                          return f"export of {request['user']}"
return got
-> bob got the export of alice
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Exports:
    """Renders in a thread from the request that the service handles now."""

    def __init__(self) -> None:
        self.request = {"user": ""}

    def render(self, request: dict[str, str]) -> str:
        return f"export of {request['user']}"

    async def export(self, user: str) -> str:
        self.request["user"] = user
        await external("a thread is free")
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as threads:
            return await loop.run_in_executor(threads, self.render, self.request)


class _CopyingExports(_Exports):
    async def export(self, user: str) -> str:
        request = {"user": user}
        await external("a thread is free")
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as threads:
            return await loop.run_in_executor(threads, self.render, request)


async def _export(exports: _Exports, user: int) -> str:
    got = await exports.export(NAMES[user])
    assert got == f"export of {NAMES[user]}", f"{NAMES[user]} got the {got}"
    return got


PATTERN = Pattern(
    id="P18",
    title="thread reads what the loop still changes",
    mechanism=(
        "A background thread is handed an object that the event loop goes on using; by "
        "the time it reads, it is about another user."
    ),
    fix="Copy in what the thread needs, and copy out what it made.",
    areas=(Area.AGENT_STATE, Area.USER_CONTEXT),
    detectors=("explorer", "access", "swarm"),
    source="https://github.blog/2021-03-18-how-we-found-and-fixed-a-rare-race-condition-in-our-session-handling/",
    vulnerable=visits(_Exports, _export),
    safe=visits(_CopyingExports, _export),
    module=__name__,
    hosted=Hosted(),
)
