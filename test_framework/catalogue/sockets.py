"""WebSocket registries: who is connected, and who is it that a name stands for."""

from test_framework.catalogue.pattern import Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Socket:
    """A connection of a user and what was sent over it."""

    def __init__(self, user: str) -> None:
        self.user = user
        self.frames: list[str] = []
        self.is_open = True

    async def send(self, frame: str) -> None:
        await external("send")
        self.frames.append(frame)


class _Registry:
    """The socket of each user, by name."""

    def __init__(self) -> None:
        self.sockets: dict[str, _Socket] = {}
        self.newest = _Socket("")

    def connect(self, user: str) -> _Socket:
        self.newest = self.sockets[user] = _Socket(user)
        return self.newest

    def disconnect(self, socket: _Socket) -> None:
        self.sockets.pop(socket.user, None)


class _ComparingRegistry(_Registry):
    def disconnect(self, socket: _Socket) -> None:
        if self.sockets.get(socket.user) is socket:
            del self.sockets[socket.user]


async def _come_and_go(registry: _Registry, user: int) -> None:  # noqa: ARG001  # one user, again
    socket = registry.connect("alice")
    await external("the connection ends")
    if registry.newest is socket:
        assert registry.sockets.get("alice") is socket, "connected, and gets nothing"
    registry.disconnect(socket)


RECONNECT = Pattern(
    id="W01",
    title="reconnect race in a registry",
    summary=(
        "The close of the old socket removes the new one, for both have the name of the "
        "user. Remove an entry only if it is one's own."
    ),
    source="https://github.com/Chetan0e/Verath/pull/231",
    vulnerable=visits(_Registry, _come_and_go),
    safe=visits(_ComparingRegistry, _come_and_go),
)


class _Rooms:
    """Members of rooms; a room is loaded when the first one enters."""

    def __init__(self) -> None:
        self.members: dict[str, set[str]] = {}

    async def enter(self, room: str, user: str) -> None:
        if room not in self.members:
            await external("load the room")
            self.members[room] = set()
        self.members[room].add(user)


class _KeepingRooms(_Rooms):
    async def enter(self, room: str, user: str) -> None:
        if room not in self.members:
            await external("load the room")
        self.members.setdefault(room, set()).add(user)


async def _enter(rooms: _Rooms, user: int) -> None:
    await rooms.enter("lobby", NAMES[user])


def _all_are_in(rooms: _Rooms) -> None:
    assert rooms.members["lobby"] == {"alice", "bob"}, "in the room, and hears nothing"


ROOM_LOST = Pattern(
    id="W02",
    title="room registration lost",
    summary=(
        "Two find no room, both make one, and the second throws the first away with its "
        "member. Use setdefault after the await."
    ),
    source="https://github.com/miguelgrinberg/python-socketio",
    vulnerable=visits(_Rooms, _enter, _all_are_in),
    safe=visits(_KeepingRooms, _enter, _all_are_in),
)


class _Channel:
    """A private channel; membership is looked at when somebody joins."""

    def __init__(self) -> None:
        self.members = {"carol"}
        self.socket = _Socket("carol")
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


STALE_AUTHORISATION = Pattern(
    id="W05",
    title="authorised only at the handshake",
    summary=(
        "A user is expelled while a message to the room is under way, and still gets "
        "it. Look at the membership where the message is sent."
    ),
    source="https://github.com/daytonaio/daytona/pull/5104",
    vulnerable=visits(_Channel, _publish_or_expel, _nothing_leaked),
    safe=visits(_AskingChannel, _publish_or_expel, _nothing_leaked),
)


class _Server:
    """A protocol server that remembers the transport of the client."""

    def __init__(self) -> None:
        self.transport = _Socket("")

    async def serve(self, socket: _Socket) -> None:
        self.transport = socket
        await external("run the tool")
        await self.transport.send(f"result for {socket.user}")


class _PerSessionServer(_Server):
    async def serve(self, socket: _Socket) -> None:
        await external("run the tool")
        await socket.send(f"result for {socket.user}")


async def _call_tool(server: _Server, user: int) -> None:
    socket = _Socket(NAMES[user])
    await server.serve(socket)
    assert socket.frames == [f"result for {NAMES[user]}"], (
        f"{NAMES[user]} got {socket.frames}"
    )


SHARED_TRANSPORT = Pattern(
    id="W08",
    title="answer routed over the transport that connected last",
    summary=(
        "One server object serves all sessions and keeps one transport. Make a server, "
        "or at least a transport, for each session."
    ),
    source="GHSA-345p-7cg4-v4c7",
    vulnerable=visits(_Server, _call_tool),
    safe=visits(_PerSessionServer, _call_tool),
)


class _Upstream:
    """A stream from a data source."""

    def __init__(self) -> None:
        self.is_open = True


class _Streams:
    """Relays one shared upstream; who leaves closes it."""

    def __init__(self) -> None:
        self.shared: _Upstream | None = None
        self.watchers = 0

    def open(self) -> _Upstream:
        if self.shared is None or not self.shared.is_open:
            self.shared = _Upstream()
        return self.shared

    def close(self, upstream: _Upstream) -> None:
        upstream.is_open = False

    async def watch(self) -> None:
        upstream = self.open()
        self.watchers += 1
        await external("next value")
        assert upstream.is_open, "cut off by the leaving of somebody else"
        self.watchers -= 1
        self.close(upstream)


class _CountingStreams(_Streams):
    def close(self, upstream: _Upstream) -> None:
        if not self.watchers:
            upstream.is_open = False


async def _watch_values(streams: _Streams, user: int) -> None:  # noqa: ARG001  # any user
    await streams.watch()


CLOSED_BY_OTHER = Pattern(
    id="W10",
    title="one close ends the stream of another",
    summary=(
        "The disconnect handler of one client closes an object that others use. Close "
        "it when the last one leaves."
    ),
    source="https://cwe.mitre.org/data/definitions/826.html",
    vulnerable=visits(_Streams, _watch_values),
    safe=visits(_CountingStreams, _watch_values),
)


class _Heartbeats:
    """Closes the connection of a user who did not answer a ping in time."""

    def __init__(self) -> None:
        self.sockets: dict[str, _Socket] = {}

    def connect(self, user: str) -> _Socket:
        socket = self.sockets[user] = _Socket(user)
        return socket

    async def ping(self, socket: _Socket) -> None:
        await external("no pong")
        self.sockets[socket.user].is_open = False


class _ExactHeartbeats(_Heartbeats):
    async def ping(self, socket: _Socket) -> None:
        await external("no pong")
        socket.is_open = False


async def _ping_or_return(heartbeats: _Heartbeats, user: int) -> None:
    socket = heartbeats.connect("alice")
    if user == 0:
        await heartbeats.ping(socket)
    else:
        await external("first message")
        assert socket.is_open, "closed for the silence of the connection before it"


HEARTBEAT = Pattern(
    id="W12",
    title="ping timeout closes the connection that came after",
    summary=(
        "The timeout looks its user up by name and finds the new socket. Close the "
        "socket that was pinged."
    ),
    source="https://cwe.mitre.org/data/definitions/672.html",
    vulnerable=visits(_Heartbeats, _ping_or_return),
    safe=visits(_ExactHeartbeats, _ping_or_return),
)


PATTERNS = (
    RECONNECT,
    ROOM_LOST,
    STALE_AUTHORISATION,
    SHARED_TRANSPORT,
    CLOSED_BY_OTHER,
    HEARTBEAT,
)
