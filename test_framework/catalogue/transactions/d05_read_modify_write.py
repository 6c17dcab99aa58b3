"""D05: lost update under READ COMMITTED.

alice                           bob
                                await accounts.pay_in(10 + user)
                                row = await self.table.get("alice")
await accounts.pay_in(10 + user)
row = await self.table.get("alice")
                                await self.table.set("alice", replace(row, balance=ro...
await self.table.set("alice", replace(row, balance=row.balance + amount))
-> 110, of 100 and 10 and 11
"""

from dataclasses import dataclass, replace

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import Store, visits


@dataclass(frozen=True)
class _Row:
    balance: int
    version: int = 0


class _Accounts:
    """An account as an ORM sees it: select the row, change the object, write it back."""

    def __init__(self) -> None:
        self.table = Store(alice=_Row(100))

    async def pay_in(self, amount: int) -> None:
        row = await self.table.get("alice")
        await self.table.set("alice", replace(row, balance=row.balance + amount))

    def balance(self) -> int:
        return int(self.table.data["alice"].balance)


class _VersionedAccounts(_Accounts):
    async def pay_in(self, amount: int) -> None:
        while True:
            row = await self.table.get("alice")
            paid = _Row(row.balance + amount, row.version + 1)
            # UPDATE ... WHERE version = row.version
            if await self.table.swap("alice", row, paid):
                return


async def _pay_in(accounts: _Accounts, user: int) -> None:
    await accounts.pay_in(10 + user)


def _both_paid_in(accounts: _Accounts) -> None:
    assert accounts.balance() == 121, f"{accounts.balance()}, of 100 and 10 and 11"


PATTERN = Pattern(
    id="D05",
    title="lost update under READ COMMITTED",
    mechanism=(
        "Two transactions read a row and write back what they made of it; the database "
        "lets the second win."
    ),
    fix="Write under the version that was read.",
    areas=(Area.DATABASE_SESSION,),
    detectors=("explorer", "checkers"),
    source="https://doi.org/10.1145/3514221.3526120",
    vulnerable=visits(_Accounts, _pay_in, _both_paid_in),
    safe=visits(_VersionedAccounts, _pay_in, _both_paid_in),
    module=__name__,
    hosted=Hosted(shown=lambda accounts, _: accounts.balance()),
)
