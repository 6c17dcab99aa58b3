"""R12: event delivered by replay and again live.

alice                           bob
if user:
seen = await feed.follow()
live: list[int] = []
await external("SUBSCRIBE")
                                if user:
                                await external("a payment is booked")
self.listeners.append(live)
await external("XRANGE")
                                feed.publish()
                                number = len(self.log) + 1
                                self.log.append(number)
                                for queue in self.listeners:
                                queue.append(number)
                                for queue in self.listeners:
                                return None
return self.joined(list(self.log), live)
return missed + live
-> one payment is shown twice
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Feed:
    """Events are kept in a log and sent to those who listen."""

    def __init__(self) -> None:
        self.log: list[int] = []
        self.listeners: list[list[int]] = []

    def publish(self) -> None:
        number = len(self.log) + 1
        self.log.append(number)
        for queue in self.listeners:
            queue.append(number)

    def joined(self, missed: list[int], live: list[int]) -> list[int]:
        return missed + live

    async def follow(self) -> list[int]:
        live: list[int] = []
        await external("SUBSCRIBE")
        self.listeners.append(live)
        await external("XRANGE")
        return self.joined(list(self.log), live)


class _NumberedFeed(_Feed):
    def joined(self, missed: list[int], live: list[int]) -> list[int]:
        return missed + [number for number in live if number > len(missed)]


async def _publish_or_follow(feed: _Feed, user: int) -> list[int] | None:
    if user:
        await external("a payment is booked")
        feed.publish()
    else:
        seen = await feed.follow()
        assert len(set(seen)) == len(seen), "one payment is shown twice"
        return seen
    return None


PATTERN = Pattern(
    id="R12",
    title="event delivered by replay and again live",
    mechanism=(
        "A client subscribes and then loads what it has missed; an event that comes "
        "in between is in both, and is handled twice."
    ),
    fix=("Number the events, and drop those that were seen."),
    areas=(Area.WEBSOCKET,),
    detectors=("explorer", "checkers"),
    source="https://redis.io/docs/latest/develop/data-types/streams/",
    vulnerable=visits(_Feed, _publish_or_follow),
    safe=visits(_NumberedFeed, _publish_or_follow),
    module=__name__,
    hosted=Hosted(),
)
