"""D17: commit order differs from the order of numbers.

alice                           bob
await outbox.publish()
number, self.next_id = self.next_id, self.next_id + 1
await external("COMMIT")
                                await outbox.publish()
                                number, self.next_id = self.next_id, self.next_id + 1
                                await external("COMMIT")
                                self.visible.append(number)
                                outbox.poll()
                                self.read += sorted(number for number in self.visible...
                                self.seen = max([self.seen, *self.read])
self.visible.append(number)
outbox.poll()
self.read += sorted(number for number in self.visible if number > self.seen)
self.seen = max([self.seen, *self.read])
-> an event was skipped for ever
"""

import asyncio

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Outbox:
    """Rows get their number at INSERT and become visible at COMMIT."""

    def __init__(self) -> None:
        self.next_id = 1
        self.visible: list[int] = []
        self.read: list[int] = []
        self.seen = 0
        self.lock = asyncio.Lock()

    async def publish(self) -> None:
        number, self.next_id = self.next_id, self.next_id + 1
        await external("COMMIT")
        self.visible.append(number)

    def poll(self) -> None:
        """Read what is newer than the newest that was read."""
        self.read += sorted(number for number in self.visible if number > self.seen)
        self.seen = max([self.seen, *self.read])


class _SerialOutbox(_Outbox):
    async def publish(self) -> None:
        async with self.lock:  # pg_advisory_xact_lock
            await super().publish()


async def _publish(outbox: _Outbox, user: int) -> None:  # noqa: ARG001  # any user
    await outbox.publish()
    outbox.poll()


def _all_delivered(outbox: _Outbox) -> None:
    assert outbox.read == [1, 2], "an event was skipped for ever"


PATTERN = Pattern(
    id="D17",
    title="commit order differs from the order of numbers",
    mechanism=(
        "A poller asks for numbers above the last one; a row that commits late with a "
        "smaller number is never read."
    ),
    fix="Take a lock until the commit.",
    areas=(Area.DATABASE_SESSION,),
    detectors=("explorer", "checkers"),
    source="https://www.postgresql.org/docs/current/functions-sequence.html",
    vulnerable=visits(_Outbox, _publish, _all_delivered),
    safe=visits(_SerialOutbox, _publish, _all_delivered),
    module=__name__,
    hosted=Hosted(shown=lambda outbox, _: outbox.read),
)
