"""P03: lost update.

alice                           bob
                                await credit.spend(3)
                                left = self.left
                                await external("charge the card")
await credit.spend(3)
left = self.left
await external("charge the card")
                                self.left = left - amount
self.left = left - amount
-> 7 credits left, of 10 less two times 3
"""

import asyncio

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class Credits:
    """Credits of a team, shared by its members."""

    def __init__(self) -> None:
        self.left = 10
        self.lock = asyncio.Lock()

    async def spend(self, amount: int) -> None:
        """Charge a card, then count."""
        left = self.left
        await external("charge the card")
        self.left = left - amount


class LockedCredits(Credits):
    """Nobody reads between the read and the write of another."""

    async def spend(self, amount: int) -> None:
        """Charge a card and count, under the lock."""
        async with self.lock:
            await super().spend(amount)


async def spend_three(credit: Credits, user: int) -> None:  # noqa: ARG001  # all spend the same
    """Spend three of the ten credits."""
    await credit.spend(3)


def all_spent(credit: Credits) -> None:
    """Fail when one of two spendings was not counted."""
    assert credit.left == 4, f"{credit.left} credits left, of 10 less two times 3"


PATTERN = Pattern(
    id="P03",
    title="lost update",
    mechanism=(
        "A value is read, something is awaited, and a value made from the old one is "
        "written back over that of another request."
    ),
    fix="One lock around all three.",
    areas=(Area.AGENT_STATE,),
    detectors=("explorer", "access", "checkers"),
    source="https://doi.org/10.1109/ASE.2017.8115663",
    vulnerable=visits(Credits, spend_three, all_spent),
    safe=visits(LockedCredits, spend_three, all_spent),
    module=__name__,
    hosted=Hosted(shown=lambda credit, _: credit.left),
)
