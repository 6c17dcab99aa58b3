"""O08: task outlives its connection.

alice
await connections.serve(NAMES[user])
beat = asyncio.create_task(self.heartbeat(user))
await external("the client says good-bye")
while True:
await asyncio.sleep(30)
<- cancelled
-> alice/heartbeat[0] was still running when the scenario ended; in the order of plai...
"""

import asyncio

from test_framework.catalogue.pattern import CANCELLED_USERS, Area, Pattern
from test_framework.catalogue.world import NAMES, Store, visits
from test_framework.explore import external


class _Connections:
    """Sends a heartbeat to each socket while it is open."""

    def __init__(self) -> None:
        self.store = Store()

    async def heartbeat(self, user: str) -> None:
        while True:
            await asyncio.sleep(30)
            self.store.data[user] = "online"

    async def serve(self, user: str) -> None:
        beat = asyncio.create_task(self.heartbeat(user))
        await external("the client says good-bye")
        beat.cancel()


class _OwningConnections(_Connections):
    async def serve(self, user: str) -> None:
        beat = asyncio.create_task(self.heartbeat(user))
        try:
            await external("the client says good-bye")
        finally:
            beat.cancel()


async def _serve(connections: _Connections, user: int) -> None:
    await connections.serve(NAMES[user])


PATTERN = Pattern(
    id="O08",
    title="task outlives its connection",
    mechanism=(
        "The handler of a socket is cancelled before it cancels its heartbeat, which "
        "says for ever that the user is online."
    ),
    fix="Cancel it in finally.",
    areas=(Area.WEBSOCKET,),
    detectors=("explorer", "leaks"),
    source="https://github.com/deepankarm/pyleak",
    vulnerable=visits(_Connections, _serve),
    safe=visits(_OwningConnections, _serve),
    needs=CANCELLED_USERS,
    kind="task-left",
    module=__name__,
)
