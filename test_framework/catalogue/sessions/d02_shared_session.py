"""D02: one session for the whole application.

alice                           bob
                                if await orders.order(NAMES[user], is_valid=user == 0):
                                session = self.begin()
                                return self.session
                                session.added.append(f"order of {user}")
                                await external("check the stock")
if await orders.order(NAMES[user], is_valid=user == 0):
session = self.begin()
return self.session
session.added.append(f"order of {user}")
await external("check the stock")
                                if not is_valid:
                                session.rollback()
                                self.added.clear()
                                return False
if not is_valid:
await session.commit()
await external("COMMIT")
self.table += self.added
self.added.clear()
return True
-> confirmed, and not stored
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Session:
    """A unit of work: what is added is written by commit and dropped by rollback."""

    def __init__(self, table: list[str]) -> None:
        self.table = table
        self.added: list[str] = []

    async def commit(self) -> None:
        await external("COMMIT")
        self.table += self.added
        self.added.clear()

    def rollback(self) -> None:
        self.added.clear()


class _Orders:
    """Has one session for the whole application."""

    def __init__(self) -> None:
        self.table: list[str] = []
        self.session = _Session(self.table)

    def begin(self) -> _Session:
        return self.session

    async def order(self, user: str, *, is_valid: bool) -> bool:
        session = self.begin()
        session.added.append(f"order of {user}")
        await external("check the stock")
        if not is_valid:
            session.rollback()
            return False
        await session.commit()
        return True


class _PerRequestOrders(_Orders):
    def begin(self) -> _Session:
        return _Session(self.table)


async def _order(orders: _Orders, user: int) -> None:
    if await orders.order(NAMES[user], is_valid=user == 0):
        assert f"order of {NAMES[user]}" in orders.table, "confirmed, and not stored"


def _is_stored(orders: _Orders, user: int) -> bool:
    return f"order of {NAMES[user]}" in orders.table


def _only_valid_orders(orders: _Orders) -> None:
    assert "order of bob" not in orders.table, "the rejected order was stored"


PATTERN = Pattern(
    id="D02",
    title="one session for the whole application",
    mechanism=(
        "A rollback of one user drops what another has added, or a commit writes what "
        "it would have dropped."
    ),
    fix="Make a session for each request.",
    areas=(Area.DATABASE_SESSION,),
    detectors=("explorer", "swarm", "checkers"),
    source="https://github.com/openrelik/openrelik-server/issues/111",
    vulnerable=visits(_Orders, _order, _only_valid_orders),
    safe=visits(_PerRequestOrders, _order, _only_valid_orders),
    module=__name__,
    hosted=Hosted(shown=_is_stored),
)
