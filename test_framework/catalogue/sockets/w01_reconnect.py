"""W01: reconnect race in a registry.

alice                           bob
                                socket = registry.connect("alice")
                                self.newest = self.sockets[user] = Socket(user)
                                return self.newest
                                await external("the connection ends")
socket = registry.connect("alice")
self.newest = self.sockets[user] = Socket(user)
return self.newest
await external("the connection ends")
                                is_reached = (registry.newest is not socket or regist...
                                registry.disconnect(socket)
                                self.sockets.pop(socket.user, None)
                                return is_reached
is_reached = (registry.newest is not socket or registry.sockets.get("alice") is socket)
-> connected, and gets nothing
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.sockets import Socket
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Registry:
    """The socket of each user, by name."""

    def __init__(self) -> None:
        self.sockets: dict[str, Socket] = {}
        self.newest = Socket("")

    def connect(self, user: str) -> Socket:
        self.newest = self.sockets[user] = Socket(user)
        return self.newest

    def disconnect(self, socket: Socket) -> None:
        self.sockets.pop(socket.user, None)


class _ComparingRegistry(_Registry):
    def disconnect(self, socket: Socket) -> None:
        if self.sockets.get(socket.user) is socket:
            del self.sockets[socket.user]


async def _come_and_go(registry: _Registry, user: int) -> bool:  # noqa: ARG001  # one user, again
    socket = registry.connect("alice")
    await external("the connection ends")
    is_reached = (
        registry.newest is not socket or registry.sockets.get("alice") is socket
    )
    assert is_reached, "connected, and gets nothing"
    registry.disconnect(socket)
    return is_reached


PATTERN = Pattern(
    id="W01",
    title="reconnect race in a registry",
    mechanism=(
        "The close of the old socket removes the new one, for both have the name of the "
        "user."
    ),
    fix="Remove an entry only if it is one's own.",
    areas=(Area.WEBSOCKET, Area.ENGINE_REGISTRY),
    detectors=("explorer", "access", "checkers"),
    source="https://github.com/Chetan0e/Verath/pull/231",
    vulnerable=visits(_Registry, _come_and_go),
    safe=visits(_ComparingRegistry, _come_and_go),
    module=__name__,
    hosted=Hosted(),
)
