"""P06: cache-miss stampede.

alice                           bob
                                await summaries.get("minutes")
                                if key not in self.known:
                                self.known[key] = await self.summarise(key)
                                self.calls += 1
                                await external("call the model")
await summaries.get("minutes")
if key not in self.known:
self.known[key] = await self.summarise(key)
self.calls += 1
await external("call the model")
                                return f"summary {self.calls} of {key}"
                                return self.known[key]
return f"summary {self.calls} of {key}"
return self.known[key]
-> paid more than once
"""

import asyncio

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Summaries:
    """Summaries of documents, made by a model that is paid per call."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self.calls = 0
        self.running: dict[str, asyncio.Task[str]] = {}

    async def summarise(self, key: str) -> str:
        self.calls += 1
        await external("call the model")
        return f"summary {self.calls} of {key}"

    async def get(self, key: str) -> str:
        if key not in self.known:
            self.known[key] = await self.summarise(key)
        return self.known[key]


class _SingleFlightSummaries(_Summaries):
    async def get(self, key: str) -> str:
        if key not in self.running:
            self.running[key] = asyncio.create_task(self.summarise(key))
        return await asyncio.shield(self.running[key])


async def _read_summary(summaries: _Summaries, user: int) -> None:  # noqa: ARG001  # any user
    await summaries.get("minutes")


def _made_once(summaries: _Summaries) -> None:
    assert summaries.calls == 1, "paid more than once"


PATTERN = Pattern(
    id="P06",
    title="cache-miss stampede",
    mechanism="All who miss at once compute at once, and the last one wins.",
    fix="Keep the task that computes, and let all await it.",
    areas=(Area.AGENT_STATE, Area.ENGINE_REGISTRY),
    detectors=("explorer", "access", "timing"),
    source="https://cwe.mitre.org/data/definitions/362.html",
    vulnerable=visits(_Summaries, _read_summary, _made_once),
    safe=visits(_SingleFlightSummaries, _read_summary, _made_once),
    module=__name__,
    hosted=Hosted(shown=lambda summaries, _: summaries.calls),
)
