"""P15: wrong lock.

alice                           bob
                                await credit.spend(3)
                                lock = asyncio.Lock()
                                async with lock:
                                await super().spend(amount)
                                left = self.left
                                await external("charge the card")
await credit.spend(3)
lock = asyncio.Lock()
async with lock:
await super().spend(amount)
left = self.left
await external("charge the card")
                                self.left = left - amount
self.left = left - amount
-> 7 credits left, of 10 less two times 3
"""

import asyncio

from test_framework.catalogue.atomicity.p03_lost_update import (
    Credits,
    LockedCredits,
    all_spent,
    spend_three,
)
from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import visits


class _PerCallLockCredits(Credits):
    """Locks with a lock that nobody else has."""

    async def spend(self, amount: int) -> None:
        lock = asyncio.Lock()
        async with lock:
            await super().spend(amount)


PATTERN = Pattern(
    id="P15",
    title="wrong lock",
    mechanism=(
        "The lock is made in the handler, or one for each user, while what it guards is "
        "shared by all."
    ),
    fix="Keep one lock beside the thing it guards.",
    areas=(Area.AGENT_STATE, Area.ENGINE_REGISTRY),
    detectors=("explorer", "access"),
    source="https://cwe.mitre.org/data/definitions/821.html",
    vulnerable=visits(_PerCallLockCredits, spend_three, all_spent),
    safe=visits(LockedCredits, spend_three, all_spent),
    module=__name__,
    hosted=Hosted(shown=lambda credit, _: credit.left),
)
