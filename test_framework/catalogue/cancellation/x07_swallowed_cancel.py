"""X07: swallowed CancelledError.

alice                           bob
name = NAMES[user]
feed = asyncio.create_task(feeds.serve(name))
await asyncio.wait({feed}, timeout=5)
for _ in range(2):
await self.poll()
await external("fetch news")
sent = feeds.sent.count(name)
feed.cancel()
await asyncio.wait({feed})
<- cancelled
self.sent.append(user)
for _ in range(2):
await self.poll()
await external("fetch news")
self.sent.append(user)
for _ in range(2):
                                name = NAMES[user]
                                feed = asyncio.create_task(feeds.serve(name))
                                await asyncio.wait({feed}, timeout=5)
                                for _ in range(2):
                                await self.poll()
                                await external("fetch news")
                                self.sent.append(user)
                                for _ in range(2):
                                await self.poll()
                                await external("fetch news")
                                self.sent.append(user)
                                for _ in range(2):
                                sent = feeds.sent.count(name)
                                feed.cancel()
                                await asyncio.wait({feed})
-> goes on for a client that has left
"""

import asyncio
import contextlib

from test_framework.catalogue.pattern import Area, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Feeds:
    """Sends news to sockets until they are closed."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    async def poll(self) -> None:
        try:
            await external("fetch news")
        except BaseException:  # noqa: BLE001  # the bug: cancellation is caught too
            return

    async def serve(self, user: str) -> None:
        for _ in range(2):
            await self.poll()
            self.sent.append(user)


class _RaisingFeeds(_Feeds):
    async def poll(self) -> None:
        with contextlib.suppress(Exception):
            await external("fetch news")


async def _follow(feeds: _Feeds, user: int) -> None:
    name = NAMES[user]
    feed = asyncio.create_task(feeds.serve(name))
    await asyncio.wait({feed}, timeout=5)  # then the client leaves
    sent = feeds.sent.count(name)
    feed.cancel()
    await asyncio.wait({feed})
    assert feeds.sent.count(name) == sent, "goes on for a client that has left"


PATTERN = Pattern(
    id="X07",
    title="swallowed CancelledError",
    mechanism=(
        "A broad except catches the cancellation, and the task goes on for a client "
        "that has left."
    ),
    fix="Catch Exception, which it is not.",
    areas=(Area.AGENT_STATE,),
    detectors=("explorer",),
    source="https://flake8-async.readthedocs.io/en/latest/rules.html#async103",
    vulnerable=visits(_Feeds, _follow),
    safe=visits(_RaisingFeeds, _follow),
    module=__name__,
)
