"""P14: lock too narrow.

alice                           bob
                                await credit.spend(3)
                                async with self.lock:
                                left = self.left
                                await external("charge the card")
await credit.spend(3)
async with self.lock:
left = self.left
await external("charge the card")
                                async with self.lock:
                                self.left = left - amount
async with self.lock:
self.left = left - amount
-> 7 credits left, of 10 less two times 3
"""

from test_framework.catalogue.atomicity.p03_lost_update import (
    Credits,
    LockedCredits,
    all_spent,
    spend_three,
)
from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _TwoLocksCredits(Credits):
    """Locks each access, and lets go in between."""

    async def spend(self, amount: int) -> None:
        async with self.lock:
            left = self.left
        await external("charge the card")
        async with self.lock:
            self.left = left - amount


PATTERN = Pattern(
    id="P14",
    title="lock too narrow",
    mechanism=(
        "Read and write are locked, each by itself, and the lock is free in between."
    ),
    fix="Make them one critical section.",
    areas=(Area.AGENT_STATE,),
    detectors=("explorer", "access"),
    source="https://cwe.mitre.org/data/definitions/667.html",
    vulnerable=visits(_TwoLocksCredits, spend_three, all_spent),
    safe=visits(LockedCredits, spend_three, all_spent),
    module=__name__,
    hosted=Hosted(shown=lambda credit, _: credit.left),
)
