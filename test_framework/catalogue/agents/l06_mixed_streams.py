"""L06: chunks of two streams interleave.

alice                           bob
name = NAMES[user]
got = await streaming.respond(name)
model = asyncio.create_task(self.generate(user))
tokens = [await self.queue_of(user).get() for _ in range(2)]
return self.queue
for number in range(2):
await external("next token")
                                name = NAMES[user]
                                got = await streaming.respond(name)
                                model = asyncio.create_task(self.generate(user))
                                tokens = [await self.queue_of(user).get() for _ in ra...
                                return self.queue
                                for number in range(2):
                                await external("next token")
                                self.queue_of(user).put_nowait(f"{user} {number}")
                                return self.queue
                                for number in range(2):
                                await external("next token")
return self.queue
self.queue_of(user).put_nowait(f"{user} {number}")
return self.queue
for number in range(2):
await external("next token")
                                return self.queue
                                self.queue_of(user).put_nowait(f"{user} {number}")
                                return self.queue
                                for number in range(2):
await model
self.queue_of(user).put_nowait(f"{user} {number}")
return self.queue
for number in range(2):
                                await model
                                return tokens
return tokens
-> alice got ['bob 0', 'bob 1']
"""

import asyncio

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Streaming:
    """Tokens of all streams come over one queue to the response that asks next."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[str] = asyncio.Queue()

    def queue_of(self, user: str) -> "asyncio.Queue[str]":  # noqa: ARG002  # of each in the twin
        return self.queue

    async def generate(self, user: str) -> None:
        for number in range(2):
            await external("next token")
            self.queue_of(user).put_nowait(f"{user} {number}")

    async def respond(self, user: str) -> list[str]:
        model = asyncio.create_task(self.generate(user))
        tokens = [await self.queue_of(user).get() for _ in range(2)]
        await model
        return tokens


class _QueuePerStream(_Streaming):
    def __init__(self) -> None:
        super().__init__()
        self.queues: dict[str, asyncio.Queue[str]] = {}

    def queue_of(self, user: str) -> "asyncio.Queue[str]":
        return self.queues.setdefault(user, asyncio.Queue())


async def _chat(streaming: _Streaming, user: int) -> list[str]:
    name = NAMES[user]
    got = await streaming.respond(name)
    assert got == [f"{name} 0", f"{name} 1"], f"{name} got {got}"
    return got


PATTERN = Pattern(
    id="L06",
    title="chunks of two streams interleave",
    mechanism=(
        "Two responses take tokens from one queue, so each shows words of the other."
    ),
    fix="Use a queue for each stream.",
    areas=(Area.AGENT_STATE, Area.WEBSOCKET),
    detectors=("explorer", "swarm", "checkers"),
    source="https://cwe.mitre.org/data/definitions/488.html",
    vulnerable=visits(_Streaming, _chat),
    safe=visits(_QueuePerStream, _chat),
    module=__name__,
    hosted=Hosted(),
)
