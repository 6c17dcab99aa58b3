"""W02: room registration lost.

alice                           bob
                                await rooms.enter("lobby", NAMES[user])
                                if room not in self.members:
                                await external("load the room")
await rooms.enter("lobby", NAMES[user])
if room not in self.members:
await external("load the room")
                                self.members[room] = set()
                                self.members[room].add(user)
self.members[room] = set()
self.members[room].add(user)
-> in the room, and hears nothing
"""

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


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


PATTERN = Pattern(
    id="W02",
    title="room registration lost",
    mechanism=(
        "Two find no room, both make one, and the second throws the first away with its "
        "member."
    ),
    fix="Use setdefault after the await.",
    areas=(Area.WEBSOCKET,),
    detectors=("explorer", "access"),
    source="https://github.com/miguelgrinberg/python-socketio",
    vulnerable=visits(_Rooms, _enter, _all_are_in),
    safe=visits(_KeepingRooms, _enter, _all_are_in),
    module=__name__,
    hosted=Hosted(shown=lambda rooms, user: NAMES[user] in rooms.members["lobby"]),
)
