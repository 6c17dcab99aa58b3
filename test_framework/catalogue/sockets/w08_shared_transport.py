"""W08: answer routed over the transport that connected last.

alice                           bob
                                socket = Socket(NAMES[user])
                                await server.serve(socket)
                                self.transport = socket
                                await external("run the tool")
socket = Socket(NAMES[user])
await server.serve(socket)
self.transport = socket
await external("run the tool")
                                await self.transport.send(f"result for {socket.user}")
                                await external("send")
await self.transport.send(f"result for {socket.user}")
await external("send")
                                self.frames.append(frame)
self.frames.append(frame)
-> alice got ['result for bob', 'result for alice']
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.sockets import Socket
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Server:
    """A protocol server that remembers the transport of the client."""

    def __init__(self) -> None:
        self.transport = Socket("")

    async def serve(self, socket: Socket) -> None:
        self.transport = socket
        await external("run the tool")
        await self.transport.send(f"result for {socket.user}")


class _PerSessionServer(_Server):
    async def serve(self, socket: Socket) -> None:
        await external("run the tool")
        await socket.send(f"result for {socket.user}")


async def _call_tool(server: _Server, user: int) -> list[str]:
    socket = Socket(NAMES[user])
    await server.serve(socket)
    assert socket.frames == [f"result for {NAMES[user]}"], (
        f"{NAMES[user]} got {socket.frames}"
    )
    return socket.frames


PATTERN = Pattern(
    id="W08",
    title="answer routed over the transport that connected last",
    mechanism="One server object serves all sessions and keeps one transport.",
    fix="Make a server, or at least a transport, for each session.",
    areas=(Area.WEBSOCKET,),
    detectors=("explorer", "access", "swarm"),
    source="GHSA-345p-7cg4-v4c7",
    vulnerable=visits(_Server, _call_tool),
    safe=visits(_PerSessionServer, _call_tool),
    module=__name__,
    hosted=Hosted(),
)
