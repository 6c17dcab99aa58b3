"""P09: iterating a live collection across awaits.

alice                           bob
                                await (broadcast.leave("carol") if user else broadcas...
                                await external("close")
await (broadcast.leave("carol") if user else broadcast.announce("hello"))
for socket in self.receivers().values():
return self.sockets
await socket.send(text)
await external("send")
                                del self.sockets[user]
self.frames.append(frame)
for socket in self.receivers().values():
<- RuntimeError
-> RuntimeError: dictionary changed size during iteration
"""

from test_framework.catalogue.events import Socket
from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Broadcast:
    """Sends to everybody who is there; people come and go."""

    def __init__(self) -> None:
        self.sockets = {name: Socket(name) for name in NAMES}

    def receivers(self) -> dict[str, Socket]:
        return self.sockets

    async def announce(self, text: str) -> None:
        for socket in self.receivers().values():
            await socket.send(text)

    async def leave(self, user: str) -> None:
        await external("close")
        del self.sockets[user]


class _CopyingBroadcast(_Broadcast):
    def receivers(self) -> dict[str, Socket]:
        return dict(self.sockets)


async def _announce_or_leave(broadcast: _Broadcast, user: int) -> None:
    await (broadcast.leave("carol") if user else broadcast.announce("hello"))


PATTERN = Pattern(
    id="P09",
    title="iterating a live collection across awaits",
    mechanism=(
        "Somebody leaves while a broadcast goes through the sockets; it raises, and the "
        "rest hear nothing."
    ),
    fix="Iterate over a copy.",
    areas=(Area.WEBSOCKET, Area.ENGINE_REGISTRY),
    detectors=("explorer", "access"),
    source="https://github.com/fastapi/fastapi/pull/1991",
    vulnerable=visits(_Broadcast, _announce_or_leave),
    safe=visits(_CopyingBroadcast, _announce_or_leave),
    kind="exception",
    module=__name__,
    hosted=Hosted(),
)
