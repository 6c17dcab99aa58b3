"""P04: augmented assignment across await.

alice                           bob
                                await invoice.add(user)
                                self.total += await self.price(user)
                                await external("ask the price list")
await invoice.add(user)
self.total += await self.price(user)
await external("ask the price list")
                                return 100 + user
return 100 + user
-> 100 billed, of 100 and 101
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Invoice:
    """A monthly invoice to which usage is added."""

    def __init__(self) -> None:
        self.total = 0

    async def price(self, user: int) -> int:
        await external("ask the price list")
        return 100 + user

    async def add(self, user: int) -> None:
        self.total += await self.price(user)  # loads total before it awaits


class _LateInvoice(_Invoice):
    async def add(self, user: int) -> None:
        price = await self.price(user)
        self.total += price


async def _use(invoice: _Invoice, user: int) -> None:
    await invoice.add(user)


def _all_billed(invoice: _Invoice) -> None:
    assert invoice.total == 201, f"{invoice.total} billed, of 100 and 101"


PATTERN = Pattern(
    id="P04",
    title="augmented assignment across await",
    mechanism=(
        "In ``total += await price()`` the old total is loaded first, so what others "
        "add meanwhile is lost."
    ),
    fix="Await first, then add.",
    areas=(Area.AGENT_STATE,),
    detectors=("explorer", "access"),
    source="https://github.com/eslint/eslint/issues/11899",
    vulnerable=visits(_Invoice, _use, _all_billed),
    safe=visits(_LateInvoice, _use, _all_billed),
    module=__name__,
    hosted=Hosted(shown=lambda invoice, _: invoice.total),
)
