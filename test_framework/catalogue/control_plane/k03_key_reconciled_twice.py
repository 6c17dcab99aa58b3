"""K03: one key reconciled by two workers.

alice                           bob
                                await controller.handle("engine of acme")
                                missing = self.wanted - self.running
                                await external("start workers")
await controller.handle("engine of acme")
missing = self.wanted - self.running
await external("start workers")
                                self.running += missing
self.running += missing
-> 5 workers run, 3 are wanted
"""

import asyncio
from collections import defaultdict

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Controller:
    """Brings the number of workers of an engine to what is wanted."""

    def __init__(self) -> None:
        self.wanted = 3
        self.running = 1
        self.locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def handle(self, key: str) -> None:  # noqa: ARG002  # the twin locks it
        missing = self.wanted - self.running
        await external("start workers")
        self.running += missing


class _KeyedController(_Controller):
    async def handle(self, key: str) -> None:
        async with self.locks[key]:
            await super().handle(key)


async def _handle(controller: _Controller, user: int) -> None:  # noqa: ARG001  # two events
    await controller.handle("engine of acme")


def _as_wanted(controller: _Controller) -> None:
    assert controller.running == 3, f"{controller.running} workers run, 3 are wanted"


PATTERN = Pattern(
    id="K03",
    title="one key reconciled by two workers",
    mechanism=(
        "Two events about one object are handled at the same time, and each handler "
        "works from what it read at its start."
    ),
    fix=("Handle a key by one worker at a time."),
    areas=(Area.ENGINE_REGISTRY,),
    detectors=("explorer", "access"),
    source="https://pkg.go.dev/k8s.io/client-go/util/workqueue",
    vulnerable=visits(_Controller, _handle, _as_wanted),
    safe=visits(_KeyedController, _handle, _as_wanted),
    module=__name__,
    hosted=Hosted(shown=lambda controller, _: controller.running),
)
