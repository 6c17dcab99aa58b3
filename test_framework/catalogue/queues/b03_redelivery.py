"""B03: message handled again after it was delivered again.

alice                           bob
async with payments.lease:
await payments.consume()
for message in list(self.unacknowledged):
await self.pay(message)
await external("UPDATE balance")
self.paid.append(message)
await external("ACK")
<- cancelled
                                async with payments.lease:
                                await payments.consume()
                                for message in list(self.unacknowledged):
                                await self.pay(message)
                                await external("UPDATE balance")
                                self.paid.append(message)
                                await external("ACK")
                                self.unacknowledged.remove(message)
                                for message in list(self.unacknowledged):
-> paid 2 times
"""

import asyncio

from test_framework.catalogue.pattern import CANCELLED_USERS, Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Payments:
    """A queue that delivers until somebody acknowledges."""

    def __init__(self) -> None:
        self.unacknowledged = ["invoice 7"]
        self.paid: list[str] = []
        self.lease = asyncio.Lock()  # one consumer at a time

    async def pay(self, message: str) -> None:
        await external("UPDATE balance")
        self.paid.append(message)

    async def consume(self) -> None:
        for message in list(self.unacknowledged):
            await self.pay(message)
            await external("ACK")
            self.unacknowledged.remove(message)


class _IdempotentPayments(_Payments):
    async def pay(self, message: str) -> None:
        await external("INSERT id ON CONFLICT DO NOTHING; UPDATE balance")
        if message not in self.paid:
            self.paid.append(message)


async def _consume(payments: _Payments, user: int) -> None:  # noqa: ARG001  # any consumer
    async with payments.lease:
        await payments.consume()


def _paid_once(payments: _Payments) -> None:
    assert len(payments.paid) <= 1, f"paid {len(payments.paid)} times"


PATTERN = Pattern(
    id="B03",
    title="message handled again after it was delivered again",
    mechanism=(
        "A handler is cancelled after its effect and before its acknowledgement, so "
        "the queue delivers the message to another one, who repeats the effect."
    ),
    fix=("Store the id of a message together with its effect, and look for it first."),
    areas=(Area.DATABASE_SESSION, Area.AGENT_STATE),
    detectors=("explorer", "checkers"),
    source="https://www.rabbitmq.com/docs/reliability#consumer-side",
    vulnerable=visits(_Payments, _consume, _paid_once),
    safe=visits(_IdempotentPayments, _consume, _paid_once),
    module=__name__,
    needs=CANCELLED_USERS,
    hosted=Hosted(shown=lambda payments, _: payments.paid),
)
