"""X09: gather leaves siblings running.

alice                           bob
order = await checkout.buy()
connection = _Connection()
self.connections.append(connection)
order = asyncio.create_task(connection.execute("INSERT order"))
with contextlib.suppress(ConnectionError):
await self.both(order, asyncio.create_task(self.pay()))
await asyncio.gather(order, pay)
await external(statement)
await external("POST /charge")
raise ConnectionError("the bank says no")
<- ConnectionError
connection.is_given_back = True
return order
await asyncio.wait({order})
if self.is_given_back:
self.misuses.append(statement)
                                order = await checkout.buy()
                                connection = _Connection()
                                self.connections.append(connection)
                                order = asyncio.create_task(connection.execute("INSER...
                                with contextlib.suppress(ConnectionError):
                                await self.both(order, asyncio.create_task(self.pay()))
                                await asyncio.gather(order, pay)
                                await external(statement)
                                await external("POST /charge")
                                if self.is_given_back:
                                raise ConnectionError("the bank says no")
                                <- ConnectionError
                                connection.is_given_back = True
                                return order
                                await asyncio.wait({order})
-> ran on the connection of another user
"""

import asyncio
import contextlib

from test_framework.catalogue.pattern import Area, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Connection:
    """Belongs to a request until it is given back."""

    def __init__(self) -> None:
        self.is_given_back = False
        self.misuses: list[str] = []

    async def execute(self, statement: str) -> None:
        await external(statement)
        if self.is_given_back:
            self.misuses.append(statement)


class _Checkout:
    """Writes the order and pays for it at the same time."""

    def __init__(self) -> None:
        self.connections: list[_Connection] = []

    async def pay(self) -> None:
        await external("POST /charge")
        raise ConnectionError("the bank says no")

    async def both(self, order: asyncio.Task[None], pay: asyncio.Task[None]) -> None:
        await asyncio.gather(order, pay)

    async def buy(self) -> asyncio.Task[None]:
        connection = _Connection()
        self.connections.append(connection)
        order = asyncio.create_task(connection.execute("INSERT order"))
        with contextlib.suppress(ConnectionError):
            await self.both(order, asyncio.create_task(self.pay()))
        connection.is_given_back = True
        return order


class _JoiningCheckout(_Checkout):
    async def both(self, order: asyncio.Task[None], pay: asyncio.Task[None]) -> None:
        try:
            await asyncio.gather(order, pay)
        finally:
            order.cancel()
            await asyncio.wait({order})


async def _buy(checkout: _Checkout, user: int) -> None:  # noqa: ARG001  # any user
    order = await checkout.buy()
    await asyncio.wait({order})


def _none_used_late(checkout: _Checkout) -> None:
    for connection in checkout.connections:
        assert not connection.misuses, "ran on the connection of another user"


PATTERN = Pattern(
    id="X09",
    title="gather leaves siblings running",
    mechanism=(
        "One of two gathered statements fails, the connection is given back, and the "
        "other one goes on using it."
    ),
    fix="Use a TaskGroup, which waits for both.",
    areas=(Area.AGENT_STATE, Area.DATABASE_SESSION),
    detectors=("explorer",),
    source="https://github.com/sqlalchemy/sqlalchemy/issues/10092",
    vulnerable=visits(_Checkout, _buy, _none_used_late),
    safe=visits(_JoiningCheckout, _buy, _none_used_late),
    module=__name__,
)
