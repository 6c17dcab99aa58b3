"""X11: client leaves in the middle of a stream.

alice
await streams.respond(NAMES[user])
async for _ in self.tokens(user):
self.running.add(user)
for token in ("a", "b"):
await external("next token")
<- cancelled
-> the model goes on, at the cost of a user who left
"""

import contextlib
from collections.abc import AsyncGenerator

from test_framework.catalogue.pattern import CANCELLED_USERS, Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Streams:
    """Streams tokens of a model to a client, and bills them at the end."""

    def __init__(self) -> None:
        self.running: set[str] = set()

    async def tokens(self, user: str) -> AsyncGenerator[str, None]:
        self.running.add(user)
        for token in ("a", "b"):
            await external("next token")
            yield token
        self.running.discard(user)

    async def respond(self, user: str) -> None:
        async for _ in self.tokens(user):
            await external("write to the socket")


class _ClosingStreams(_Streams):
    async def tokens(self, user: str) -> AsyncGenerator[str, None]:
        self.running.add(user)
        try:
            for token in ("a", "b"):
                await external("next token")
                yield token
        finally:
            self.running.discard(user)

    async def respond(self, user: str) -> None:
        async with contextlib.aclosing(self.tokens(user)) as tokens:
            async for _ in tokens:
                await external("write to the socket")


async def _stream(streams: _Streams, user: int) -> None:
    await streams.respond(NAMES[user])


def _nothing_runs(streams: _Streams) -> None:
    assert not streams.running, "the model goes on, at the cost of a user who left"


PATTERN = Pattern(
    id="X11",
    title="client leaves in the middle of a stream",
    mechanism=(
        "The generator of tokens is left where it stands when the response is "
        "cancelled."
    ),
    fix="Clean up in finally, and close it with aclosing.",
    areas=(Area.AGENT_STATE, Area.WEBSOCKET),
    detectors=("explorer",),
    source="https://github.com/Arize-ai/openinference/issues/1769",
    vulnerable=visits(_Streams, _stream, _nothing_runs),
    safe=visits(_ClosingStreams, _stream, _nothing_runs),
    needs=CANCELLED_USERS,
    module=__name__,
    hosted=Hosted(shown=lambda streams, user: NAMES[user] in streams.running),
)
