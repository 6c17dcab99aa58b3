"""W05: authorised only at the handshake.

alice                           bob
await (channel.expel("carol") if user else channel.publish("salaries"))
for user in tuple(self.members):
await external("serialise for the client")
                                await (channel.expel("carol") if user else channel.pu...
                                await external("DELETE member")
                                self.members.discard(user)
if self.may_receive(user):
return True
self.deliver(user, text)
self.socket.frames.append(text)
if user not in self.members:
self.leaks.append(text)
for user in tuple(self.members):
-> sent to somebody who was expelled
"""

from test_framework.catalogue.pattern import Area, Pattern
from test_framework.catalogue.sockets import Socket
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Channel:
    """A private channel; membership is looked at when somebody joins."""

    def __init__(self) -> None:
        self.members = {"carol"}
        self.socket = Socket("carol")
        self.leaks: list[str] = []

    def may_receive(self, user: str) -> bool:  # noqa: ARG002  # looked at by the twin
        return True

    async def publish(self, text: str) -> None:
        for user in tuple(self.members):
            await external("serialise for the client")
            if self.may_receive(user):
                self.deliver(user, text)

    def deliver(self, user: str, text: str) -> None:
        self.socket.frames.append(text)
        if user not in self.members:
            self.leaks.append(text)

    async def expel(self, user: str) -> None:
        await external("DELETE member")
        self.members.discard(user)


class _AskingChannel(_Channel):
    def may_receive(self, user: str) -> bool:
        return user in self.members


async def _publish_or_expel(channel: _Channel, user: int) -> None:
    await (channel.expel("carol") if user else channel.publish("salaries"))


def _nothing_leaked(channel: _Channel) -> None:
    assert not channel.leaks, "sent to somebody who was expelled"


PATTERN = Pattern(
    id="W05",
    title="authorised only at the handshake",
    mechanism=(
        "A user is expelled while a message to the room is under way, and still gets "
        "it."
    ),
    fix="Look at the membership where the message is sent.",
    areas=(Area.WEBSOCKET,),
    detectors=("explorer",),
    source="https://github.com/daytonaio/daytona/pull/5104",
    vulnerable=visits(_Channel, _publish_or_expel, _nothing_leaked),
    safe=visits(_AskingChannel, _publish_or_expel, _nothing_leaked),
    module=__name__,
    beyond={
        "swarm": "who is expelled while an event is under way may get it by right",
        "checkers": "who is expelled while an event is under way may get it by right",
    },
)
