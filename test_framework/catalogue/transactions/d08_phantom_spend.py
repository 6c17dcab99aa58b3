"""D08: phantom over-spend.

alice                           bob
                                await card.spend(30 + user)
                                await external("SELECT sum(amount)")
await card.spend(30 + user)
await external("SELECT sum(amount)")
                                if 50 - sum(self.uses) >= amount:
                                await external("INSERT use")
if 50 - sum(self.uses) >= amount:
await external("INSERT use")
                                self.uses.append(amount)
self.uses.append(amount)
-> 61 spent of 50
"""

import asyncio

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _GiftCard:
    """The balance of a card is the sum of its uses."""

    def __init__(self) -> None:
        self.uses: list[int] = []
        self.row_lock = asyncio.Lock()

    async def spend(self, amount: int) -> None:
        await external("SELECT sum(amount)")
        if 50 - sum(self.uses) >= amount:
            await external("INSERT use")
            self.uses.append(amount)


class _LockedGiftCard(_GiftCard):
    async def spend(self, amount: int) -> None:
        async with self.row_lock:  # SELECT card FOR UPDATE
            await super().spend(amount)


async def _spend(card: _GiftCard, user: int) -> None:
    await card.spend(30 + user)


def _not_overspent(card: _GiftCard) -> None:
    assert sum(card.uses) <= 50, f"{sum(card.uses)} spent of 50"


PATTERN = Pattern(
    id="D08",
    title="phantom over-spend",
    mechanism=(
        "The sum of rows allows a purchase, and by the time of the INSERT there is one "
        "more row."
    ),
    fix="Lock the parent row first.",
    areas=(Area.DATABASE_SESSION,),
    detectors=("explorer", "checkers"),
    source="https://doi.org/10.1145/3035918.3064037",
    vulnerable=visits(_GiftCard, _spend, _not_overspent),
    safe=visits(_LockedGiftCard, _spend, _not_overspent),
    module=__name__,
    hosted=Hosted(shown=lambda card, _: sum(card.uses) <= 50),
)
