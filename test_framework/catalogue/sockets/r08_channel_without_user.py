"""R08: one channel for all users.

alice                           bob
                                name = NAMES[user]
                                got = events.listen(name)
                                got: list[str] = []
                                self.listeners.setdefault(self.channel(user), []).app...
                                return "events"
                                return got
                                await events.publish(name)
                                await external("PUBLISH")
name = NAMES[user]
got = events.listen(name)
got: list[str] = []
self.listeners.setdefault(self.channel(user), []).append(got)
return "events"
return got
await events.publish(name)
await external("PUBLISH")
                                for got in self.listeners.get(self.channel(user), []):
                                return "events"
                                got.append(f"event of {user}")
                                for got in self.listeners.get(self.channel(user), []):
                                got.append(f"event of {user}")
                                for got in self.listeners.get(self.channel(user), []):
                                await external("the page is closed")
for got in self.listeners.get(self.channel(user), []):
return "events"
got.append(f"event of {user}")
for got in self.listeners.get(self.channel(user), []):
got.append(f"event of {user}")
for got in self.listeners.get(self.channel(user), []):
await external("the page is closed")
-> alice got ['event of bob', 'event of alice']
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Events:
    """Sockets listen to channels."""

    def __init__(self) -> None:
        self.listeners: dict[str, list[list[str]]] = {}

    def channel(self, user: str) -> str:  # noqa: ARG002  # the twin uses it
        return "events"

    def listen(self, user: str) -> list[str]:
        got: list[str] = []
        self.listeners.setdefault(self.channel(user), []).append(got)
        return got

    async def publish(self, user: str) -> None:
        await external("PUBLISH")
        for got in self.listeners.get(self.channel(user), []):
            got.append(f"event of {user}")


class _OwnEvents(_Events):
    def channel(self, user: str) -> str:
        return f"events:{user}"


async def _listen(events: _Events, user: int) -> list[str]:
    name = NAMES[user]
    got = events.listen(name)
    await events.publish(name)
    await external("the page is closed")
    assert got == [f"event of {name}"], f"{name} got {got}"
    return got


PATTERN = Pattern(
    id="R08",
    title="one channel for all users",
    mechanism=(
        "Events of all users are published to one channel, and every socket that "
        "listens to it gets them."
    ),
    fix=("Use a channel for each user, and look at the owner on receipt."),
    areas=(Area.WEBSOCKET,),
    detectors=("explorer", "swarm"),
    source="https://redis.io/docs/latest/develop/pubsub/",
    vulnerable=visits(_Events, _listen),
    safe=visits(_OwnEvents, _listen),
    module=__name__,
    hosted=Hosted(),
)
