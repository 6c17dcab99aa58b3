"""L02: agent engine keeps the socket of the last run.

alice                           bob
socket: list[str] = []
await bridge.start(NAMES[user], socket)
self.socket = socket
await external("call the model")
                                socket: list[str] = []
                                await bridge.start(NAMES[user], socket)
                                self.socket = socket
                                await external("call the model")
self.socket.append(f"answer for {user}")
await asyncio.sleep(0)
for event in socket:
                                self.socket.append(f"answer for {user}")
                                await asyncio.sleep(0)
                                for event in socket:
-> the answer went elsewhere
"""

import asyncio

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Bridge:
    """An agent engine that sends events to the socket of the run."""

    def __init__(self) -> None:
        self.socket: list[str] = []

    async def start(self, user: str, socket: list[str]) -> None:
        self.socket = socket
        await external("call the model")
        self.socket.append(f"answer for {user}")


class _PerRunBridge(_Bridge):
    async def start(self, user: str, socket: list[str]) -> None:
        await external("call the model")
        socket.append(f"answer for {user}")


async def _ask(bridge: _Bridge, user: int) -> list[str]:
    socket: list[str] = []
    await bridge.start(NAMES[user], socket)
    await asyncio.sleep(0)
    for event in socket:
        assert event == f"answer for {NAMES[user]}", f"{NAMES[user]} got {event}"
    assert socket, "the answer went elsewhere"
    return socket


PATTERN = Pattern(
    id="L02",
    title="agent engine keeps the socket of the last run",
    mechanism=(
        "The socket of a run is set on the shared engine, so answers go to whoever "
        "started last."
    ),
    fix="Pass it through the run.",
    areas=(Area.AGENT_STATE, Area.WEBSOCKET, Area.ENGINE_REGISTRY),
    detectors=("explorer", "access", "swarm"),
    source="https://cwe.mitre.org/data/definitions/488.html",
    vulnerable=visits(_Bridge, _ask),
    safe=visits(_PerRunBridge, _ask),
    module=__name__,
    hosted=Hosted(),
)
