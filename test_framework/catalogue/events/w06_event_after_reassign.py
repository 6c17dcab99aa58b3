"""W06: buffered event reaches the next owner.

alice                           bob
                                slot = slots.open(NAMES[user])
                                self.slots[0] = Socket(user)
                                return 0
                                socket = slots.slots[slot]
                                await slots.emit(slot, f"event of {NAMES[user]}")
                                self.buffers[slot].append(event)
                                await external("the socket is writable")
slot = slots.open(NAMES[user])
self.slots[0] = Socket(user)
return 0
socket = slots.slots[slot]
await slots.emit(slot, f"event of {NAMES[user]}")
self.buffers[slot].append(event)
await external("the socket is writable")
                                self.slots[slot].frames += self.buffers[slot]
                                self.buffers[slot].clear()
                                return socket.frames
self.slots[slot].frames += self.buffers[slot]
self.buffers[slot].clear()
return socket.frames
-> alice got event of bob
"""

from collections import deque

from test_framework.catalogue.events import Socket
from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Slots:
    """Connection slots with a buffer of unsent events, used again and again."""

    def __init__(self) -> None:
        self.slots = [Socket("")]
        self.buffers: list[deque[str]] = [deque()]

    def open(self, user: str) -> int:
        self.slots[0] = Socket(user)
        return 0

    async def emit(self, slot: int, event: str) -> None:
        self.buffers[slot].append(event)
        await external("the socket is writable")
        self.slots[slot].frames += self.buffers[slot]
        self.buffers[slot].clear()


class _FreshSlots(_Slots):
    """A new connection gets a new slot, with a buffer of its own."""

    def open(self, user: str) -> int:
        self.slots.append(Socket(user))
        self.buffers.append(deque())
        return len(self.slots) - 1


async def _emit(slots: _Slots, user: int) -> list[str]:
    slot = slots.open(NAMES[user])
    socket = slots.slots[slot]
    await slots.emit(slot, f"event of {NAMES[user]}")
    return socket.frames


def _events_reached_owners(slots: _Slots) -> None:
    for socket in slots.slots:
        for frame in socket.frames:
            assert frame == f"event of {socket.user}", f"{socket.user} got {frame}"


PATTERN = Pattern(
    id="W06",
    title="buffered event reaches the next owner",
    mechanism=(
        "Events that wait in the buffer of a slot are sent to whoever has the slot by "
        "then."
    ),
    fix="Bind the buffer to the connection.",
    areas=(Area.WEBSOCKET,),
    detectors=("explorer", "access", "swarm"),
    source="https://cwe.mitre.org/data/definitions/672.html",
    vulnerable=visits(_Slots, _emit, _events_reached_owners),
    safe=visits(_FreshSlots, _emit, _events_reached_owners),
    module=__name__,
    hosted=Hosted(),
)
