"""D12: row-lock order deadlock.

alice                           bob
                                await transfers.transfer(NAMES[user], NAMES[1 - user])
                                first, second = self.order(source, target)
                                return source, target
                                async with self.rows[first]:
                                await external("SELECT FOR UPDATE")
await transfers.transfer(NAMES[user], NAMES[1 - user])
first, second = self.order(source, target)
return source, target
async with self.rows[first]:
await external("SELECT FOR UPDATE")
                                async with self.rows[second]:
async with self.rows[second]:
-> Deadlock: alice -> bob -> alice; nothing can go.
"""

import asyncio

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Transfers:
    """A transfer locks two rows until it commits."""

    def __init__(self) -> None:
        self.rows = {name: asyncio.Lock() for name in NAMES}

    def order(self, source: str, target: str) -> tuple[str, str]:
        return source, target

    async def transfer(self, source: str, target: str) -> None:
        first, second = self.order(source, target)
        async with self.rows[first]:
            await external("SELECT FOR UPDATE")
            async with self.rows[second]:
                await external("COMMIT")


class _SortedTransfers(_Transfers):
    def order(self, source: str, target: str) -> tuple[str, str]:
        return min(source, target), max(source, target)


async def _swap_money(transfers: _Transfers, user: int) -> None:
    await transfers.transfer(NAMES[user], NAMES[1 - user])


PATTERN = Pattern(
    id="D12",
    title="row-lock order deadlock",
    mechanism=("One transfer locks alice and then bob, another bob and then alice."),
    fix="Lock in the order of the keys.",
    areas=(Area.DATABASE_SESSION,),
    detectors=("explorer", "locks", "checkers"),
    source="https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-DEADLOCKS",
    vulnerable=visits(_Transfers, _swap_money),
    safe=visits(_SortedTransfers, _swap_money),
    kind="deadlock",
    module=__name__,
    hosted=Hosted(),
)
