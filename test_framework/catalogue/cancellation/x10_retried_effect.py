"""X10: timeout and retry repeat a side effect.

alice
await payments.pay(NAMES[user])
for _ in range(2):
with contextlib.suppress(TimeoutError):
async with asyncio.timeout(1):
await self.charge(f"payment of {user}")
await external("POST /charge")
self.book(key)
self.booked.append(key)
await external("the answer")
<- cancelled
<- TimeoutError
for _ in range(2):
with contextlib.suppress(TimeoutError):
async with asyncio.timeout(1):
await self.charge(f"payment of {user}")
await external("POST /charge")
self.book(key)
self.booked.append(key)
await external("the answer")
-> paid twice
"""

import asyncio
import contextlib

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Payments:
    """Tries a payment again when the bank does not answer within a second."""

    def __init__(self) -> None:
        self.booked: list[str] = []

    def book(self, key: str) -> None:
        self.booked.append(key)

    async def charge(self, key: str) -> None:
        await external("POST /charge")
        self.book(key)
        await external("the answer")

    async def pay(self, user: str) -> None:
        for _ in range(2):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self.charge(f"payment of {user}")
                    return


class _IdempotentPayments(_Payments):
    def book(self, key: str) -> None:
        if key not in self.booked:
            self.booked.append(key)


async def _pay(payments: _Payments, user: int) -> None:
    await payments.pay(NAMES[user])


def _paid_once(payments: _Payments) -> None:
    assert len(payments.booked) == len(set(payments.booked)), "paid twice"


PATTERN = Pattern(
    id="X10",
    title="timeout and retry repeat a side effect",
    mechanism=(
        "The first attempt has worked and only its answer is late; the retry pays "
        "again."
    ),
    fix="Send an idempotency key with both.",
    areas=(Area.AGENT_STATE,),
    detectors=("explorer", "checkers"),
    source="https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/",
    vulnerable=visits(_Payments, _pay, _paid_once),
    safe=visits(_IdempotentPayments, _pay, _paid_once),
    module=__name__,
    hosted=Hosted(
        shown=lambda payments, user: (
            payments.booked.count(f"payment of {NAMES[user]}") <= 1
        )
    ),
)
