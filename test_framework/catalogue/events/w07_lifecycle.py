"""W07: lifecycle events out of order.

alice                alice, task 2        alice, task 3
await runs.run()
for event in ("started", "completed"):
await self.emit(event)
self.sending.append(asyncio.create_task(self.send(event)))
for event in ("started", "completed"):
await self.emit(event)
self.sending.append(asyncio.create_task(self.send(event)))
for event in ("started", "completed"):
await asyncio.gather(*self.sending)
                     await external("send")
                                          await external("send")
                                          self.events.append(event)
                     self.events.append(event)
-> completed, then started
"""

import asyncio

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Runs:
    """Tells a client how its run goes; each event is sent by a task of its own."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.sending: list[asyncio.Task[None]] = []

    async def send(self, event: str) -> None:
        await external("send")
        self.events.append(event)

    async def emit(self, event: str) -> None:
        self.sending.append(asyncio.create_task(self.send(event)))

    async def run(self) -> None:
        for event in ("started", "completed"):
            await self.emit(event)
        await asyncio.gather(*self.sending)


class _OrderedRuns(_Runs):
    async def emit(self, event: str) -> None:
        await self.send(event)


async def _run(runs: _Runs, user: int) -> list[str]:  # noqa: ARG001  # one user
    await runs.run()
    assert runs.events == ["started", "completed"], "completed, then started"
    return runs.events


PATTERN = Pattern(
    id="W07",
    title="lifecycle events out of order",
    mechanism=(
        "Each event is sent by a task of its own, so 'completed' may overtake "
        "'started'."
    ),
    fix="Send them from one place, one after the other.",
    areas=(Area.WEBSOCKET,),
    detectors=("explorer", "checkers"),
    source="https://cwe.mitre.org/data/definitions/696.html",
    vulnerable=visits(_Runs, _run, users=1),
    safe=visits(_OrderedRuns, _run, users=1),
    module=__name__,
    hosted=Hosted(),
)
