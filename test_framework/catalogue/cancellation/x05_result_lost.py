"""X05: timed wait loses what it waited for.

alice
await rooms.meet()
take = asyncio.create_task(self.free.get())
await self.wait(take)
await asyncio.wait({take}, timeout=60)
<- cancelled
-> the room is taken by nobody
"""

import asyncio

from test_framework.catalogue.pattern import CANCELLED_USERS, Area, Hosted, Pattern
from test_framework.catalogue.world import visits
from test_framework.explore import external


class _Rooms:
    """One meeting room; who waits longer than a minute gives up."""

    def __init__(self) -> None:
        self.free: asyncio.Queue[str] = asyncio.Queue()
        self.free.put_nowait("room 1")

    async def wait(self, take: "asyncio.Task[str]") -> None:
        # As wait_for did it until Python 3.12.
        await asyncio.wait({take}, timeout=60)

    async def meet(self) -> None:
        take = asyncio.create_task(self.free.get())
        await self.wait(take)
        if take.done():
            try:
                await external("meet")
            finally:
                self.free.put_nowait(take.result())
        else:
            take.cancel()


class _ReturningRooms(_Rooms):
    async def wait(self, take: "asyncio.Task[str]") -> None:
        try:
            await super().wait(take)
        except asyncio.CancelledError:
            if not take.cancel():
                self.free.put_nowait(take.result())
            raise


async def _meet(rooms: _Rooms, user: int) -> None:  # noqa: ARG001  # any user
    await rooms.meet()


def _room_is_free(rooms: _Rooms) -> None:
    assert rooms.free.qsize() == 1, "the room is taken by nobody"


PATTERN = Pattern(
    id="X05",
    title="timed wait loses what it waited for",
    mechanism=(
        "The wait is cancelled just as its result comes, and the resource belongs to "
        "nobody."
    ),
    fix="Give back what a task brings that is no longer awaited.",
    areas=(Area.AGENT_STATE,),
    detectors=("explorer",),
    source="https://github.com/python/cpython/issues/86296",
    vulnerable=visits(_Rooms, _meet, _room_is_free),
    safe=visits(_ReturningRooms, _meet, _room_is_free),
    needs=CANCELLED_USERS,
    module=__name__,
    hosted=Hosted(shown=lambda rooms, _: rooms.free.qsize()),
)
