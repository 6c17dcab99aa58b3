"""L04: results of a batch reach the wrong callers.

alice                           bob
got = await batcher.ask(NAMES[user])
waiter: asyncio.Future[str] = asyncio.get_running_loop().create_future()
self.prompts.append(prompt)
self.waiters.append(waiter)
if len(self.prompts) == 2:
return await waiter
                                got = await batcher.ask(NAMES[user])
                                waiter: asyncio.Future[str] = asyncio.get_running_loo...
                                self.prompts.append(prompt)
                                self.waiters.append(waiter)
                                if len(self.prompts) == 2:
                                for waiting, answer in zip(self.waiters, await self.r...
                                await asyncio.gather(*(self.infer(prompt) for prompt ...
                                await external("the model answers")
                                await external("the model answers")
                                self.answers.append(f"answer to {prompt}")
                                return f"answer to {prompt}"
                                self.answers.append(f"answer to {prompt}")
                                return f"answer to {prompt}"
                                return self.answers
                                waiting.set_result(answer)
                                for waiting, answer in zip(self.waiters, await self.r...
                                waiting.set_result(answer)
                                for waiting, answer in zip(self.waiters, await self.r...
                                return await waiter
-> alice got answer to bob
"""

import asyncio

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Batcher:
    """Sends the prompts of two users together; the model answers as it gets ready."""

    def __init__(self) -> None:
        self.prompts: list[str] = []
        self.waiters: list[asyncio.Future[str]] = []
        self.answers: list[str] = []

    async def infer(self, prompt: str) -> str:
        await external("the model answers")
        self.answers.append(f"answer to {prompt}")
        return f"answer to {prompt}"

    async def run(self, prompts: list[str]) -> list[str]:
        await asyncio.gather(*(self.infer(prompt) for prompt in prompts))
        return self.answers

    async def ask(self, prompt: str) -> str:
        waiter: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.prompts.append(prompt)
        self.waiters.append(waiter)
        if len(self.prompts) == 2:
            for waiting, answer in zip(
                self.waiters, await self.run(self.prompts), strict=True
            ):
                waiting.set_result(answer)
        return await waiter


class _IdBatcher(_Batcher):
    async def run(self, prompts: list[str]) -> list[str]:
        return list(await asyncio.gather(*(self.infer(prompt) for prompt in prompts)))


async def _ask(batcher: _Batcher, user: int) -> str:
    got = await batcher.ask(NAMES[user])
    assert got == f"answer to {NAMES[user]}", f"{NAMES[user]} got {got}"
    return got


PATTERN = Pattern(
    id="L04",
    title="results of a batch reach the wrong callers",
    mechanism=(
        "Answers are collected as they come and zipped to the callers as they asked."
    ),
    fix="Match them by the prompt that they answer.",
    areas=(Area.AGENT_STATE,),
    detectors=("explorer", "swarm"),
    source="https://github.com/inferencerlabs/inferencer-feedback/issues/127",
    vulnerable=visits(_Batcher, _ask),
    safe=visits(_IdBatcher, _ask),
    module=__name__,
    hosted=Hosted(),
)
