"""C04: token reset in another context.

alice                           bob
await streams.respond(NAMES[user])
stream = self.stream(user)
async for _ in stream:
token = _span.set(f"span of {user}")
self.open.append(user)
await external("next token")
break
await self.close(stream)
with suppress(ValueError):
await asyncio.create_task(stream.aclose())
_span.reset(token)
<- ValueError
                                await streams.respond(NAMES[user])
                                stream = self.stream(user)
                                async for _ in stream:
                                token = _span.set(f"span of {user}")
                                self.open.append(user)
                                await external("next token")
                                break
                                await self.close(stream)
                                with suppress(ValueError):
                                await asyncio.create_task(stream.aclose())
                                _span.reset(token)
                                <- ValueError
-> the streams of ['alice', 'bob'] count as open for ever
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from contextvars import ContextVar

from test_framework.catalogue.pattern import ANY_ORDER, Area, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external

_span: ContextVar[str] = ContextVar("span", default="")


class _Streams:
    """Streams answers, each under a span; the client stops reading after a word."""

    def __init__(self) -> None:
        self.open: list[str] = []

    async def stream(self, user: str) -> AsyncGenerator[str]:
        token = _span.set(f"span of {user}")
        self.open.append(user)
        try:
            await external("next token")
            yield "hello"
        finally:
            _span.reset(token)
            self.open.remove(user)

    async def close(self, stream: AsyncGenerator[str]) -> None:
        with suppress(ValueError):  # created in a different Context
            await asyncio.create_task(stream.aclose())

    async def respond(self, user: str) -> None:
        stream = self.stream(user)
        async for _ in stream:
            break
        await self.close(stream)


class _OwnStreams(_Streams):
    async def close(self, stream: AsyncGenerator[str]) -> None:
        await stream.aclose()


async def _read_a_word(streams: _Streams, user: int) -> None:
    await streams.respond(NAMES[user])


def _all_closed(streams: _Streams) -> None:
    assert not streams.open, f"the streams of {streams.open} count as open for ever"


PATTERN = Pattern(
    id="C04",
    title="token reset in another context",
    mechanism=(
        "A stream sets a ContextVar and resets it in finally; when another task "
        "closes the stream, the reset raises and the rest of the clean-up is skipped."
    ),
    fix=(
        "Close the stream in the task that runs it, with aclosing, and yield outside "
        "of what must be reset."
    ),
    areas=(Area.USER_CONTEXT, Area.WEBSOCKET),
    detectors=("explorer", "leaks", "static"),
    source="https://github.com/Arize-ai/openinference/issues/1769",
    vulnerable=visits(_Streams, _read_a_word, _all_closed),
    safe=visits(_OwnStreams, _read_a_word, _all_closed),
    module=__name__,
    needs=ANY_ORDER,
)
