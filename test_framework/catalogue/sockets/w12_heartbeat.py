"""W12: ping timeout closes the connection that came after.

alice                           bob
socket = heartbeats.connect("alice")
socket = self.sockets[user] = Socket(user)
return socket
if user == 0:
await heartbeats.ping(socket)
await external("no pong")
                                socket = heartbeats.connect("alice")
                                socket = self.sockets[user] = Socket(user)
                                return socket
                                if user == 0:
                                await external("first message")
self.sockets[socket.user].is_open = False
return socket.is_open
-> closed for the silence of the connection before it
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.sockets import Socket
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Heartbeats:
    """Closes the connection of a user who did not answer a ping in time."""

    def __init__(self) -> None:
        self.sockets: dict[str, Socket] = {}

    def connect(self, user: str) -> Socket:
        socket = self.sockets[user] = Socket(user)
        return socket

    async def ping(self, socket: Socket) -> None:
        await external("no pong")
        self.sockets[socket.user].is_open = False


class _ExactHeartbeats(_Heartbeats):
    async def ping(self, socket: Socket) -> None:
        await external("no pong")
        socket.is_open = False


async def _ping_or_return(heartbeats: _Heartbeats, user: int) -> bool:
    socket = heartbeats.connect("alice")
    if user == 0:
        await heartbeats.ping(socket)
    else:
        await external("first message")
        assert socket.is_open, "closed for the silence of the connection before it"
    return socket.is_open


PATTERN = Pattern(
    id="W12",
    title="ping timeout closes the connection that came after",
    mechanism="The timeout looks its user up by name and finds the new socket.",
    fix="Close the socket that was pinged.",
    areas=(Area.WEBSOCKET,),
    detectors=("explorer", "access"),
    source="https://cwe.mitre.org/data/definitions/672.html",
    vulnerable=visits(_Heartbeats, _ping_or_return),
    safe=visits(_ExactHeartbeats, _ping_or_return),
    module=__name__,
    hosted=Hosted(),
)
