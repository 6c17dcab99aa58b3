"""What is thought to be one's own, or one version, or complete, and is not."""

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import SimpleNamespace

from tests.unit.detect.access.twins.pair import Pair

MIXED = "shared-contents-mixed"
TORN = "shared-read-torn"


class Pads:
    """A scratchpad for each context, as is thought."""

    def __init__(self) -> None:
        self.pad: ContextVar[list[int]] = ContextVar("pad", default=[])  # noqa: B039  # the bug

    async def think(self, user: int) -> list[int]:
        pad = self.pad.get()
        pad.append(user)
        await asyncio.sleep(0)
        return list(pad)


async def think_on_default(pads: Pads, user: int) -> None:
    await pads.think(user)


async def think_on_own(pads: Pads, user: int) -> None:
    pads.pad.set([])
    await pads.think(user)


class Classes:
    """Makes an agent for each run."""

    def __init__(self) -> None:
        class Shared:
            tools: list[int] = []  # noqa: RUF012  # the bug

        class Own:
            tools: list[int] = []  # noqa: RUF012  # the bug, mended in the constructor

            def __init__(self) -> None:
                self.tools = []

        self.shared, self.own = Shared, Own

    async def with_shared(self, user: int) -> list[int]:
        agent = self.shared()
        agent.tools.append(user)
        await asyncio.sleep(0)
        return list(agent.tools)

    async def with_own(self, user: int) -> list[int]:
        agent = self.own()
        agent.tools.append(user)
        await asyncio.sleep(0)
        return list(agent.tools)


@dataclass
class Pipeline:
    """Commands that are sent together."""

    queued: list[str] = field(default_factory=list)
    sent: list[list[str]] = field(default_factory=list)

    async def load(self, user: int) -> list[str]:
        queued = self.queued
        queued.append(f"name of {user}")
        await asyncio.sleep(0)
        queued.append(f"mail of {user}")
        taken = list(queued)
        queued.clear()
        return taken

    async def flush(self, user: int) -> None:
        """Send whatever is there: nobody takes it for an answer."""
        self.queued.append(f"event of {user}")
        await asyncio.sleep(0)
        self.queued.append(f"another of {user}")
        self.sent.append(list(self.queued))
        self.queued.clear()


async def load_on_one(pipeline: Pipeline, user: int) -> None:
    await pipeline.load(user)


async def load_on_own(_: Pipeline, user: int) -> None:
    await Pipeline().load(user)


async def flush_all(pipeline: Pipeline, user: int) -> None:
    await pipeline.flush(user)


@dataclass
class Settings:
    """Address and key, which an operator replaces together; and a switch."""

    current: tuple[str, str] = ("a", "key of a")
    seals: bool = False
    stored: list[tuple[str, bool]] = field(default_factory=list)

    async def in_halves(self) -> tuple[str, str]:
        address, _ = self.current
        await wait()
        _, key = self.current
        return address, key

    async def as_change(self) -> tuple[str, str]:
        before, _ = self.current
        await wait()
        after, _ = self.current
        return before, after

    async def label(self, text: str) -> None:
        body = f"sealed {text}" if self.seals else text
        await wait()
        self.stored.append((body, self.seals))

    async def label_once(self, text: str) -> None:
        seals = self.seals
        body = f"sealed {text}" if seals else text
        await wait()
        self.stored.append((body, seals))


async def wait() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def call_halves(settings: Settings, user: int) -> None:
    if user == 1:
        await asyncio.sleep(0)
        settings.current = ("b", "key of b")
    else:
        await settings.in_halves()


async def tell_change(settings: Settings, user: int) -> None:
    if user == 1:
        await asyncio.sleep(0)
        settings.current = ("b", "key of b")
    else:
        await settings.as_change()


async def label_by_two(settings: Settings, user: int) -> None:
    if user == 1:
        await asyncio.sleep(0)
        settings.seals = True
    else:
        await settings.label("diary")


async def label_by_one(settings: Settings, user: int) -> None:
    if user == 1:
        await asyncio.sleep(0)
        settings.seals = True
    else:
        await settings.label_once("diary")


class Profile:
    """Two attributes that belong together, and two that follow each other."""

    def __init__(self) -> None:
        self.name, self.address = "alice", "alice street"
        self.state: str = "new"
        self.result: int | None = None

    async def move(self, owner: str) -> None:
        self.name = owner
        await wait()
        self.address = f"{owner} street"

    async def move_at_once(self, owner: str) -> None:
        await wait()
        self.name, self.address = owner, f"{owner} street"

    async def work(self, user: int) -> None:
        self.state = "busy"
        await wait()
        self.result = user

    def label(self) -> tuple[str, str]:
        return self.name, self.address

    def progress(self) -> tuple[str, int | None]:
        return self.state, self.result


async def ship_while_moving(profile: Profile, user: int) -> None:
    if user == 1:
        await profile.move("bob")
    else:
        await asyncio.sleep(0)
        profile.label()


async def ship_before_or_after(profile: Profile, user: int) -> None:
    if user == 1:
        await profile.move_at_once("bob")
    else:
        await asyncio.sleep(0)
        profile.label()


async def ask_for_progress(profile: Profile, user: int) -> None:
    if user == 1:
        await profile.work(user)
    else:
        await asyncio.sleep(0)
        profile.progress()


class Rooms:
    """Rooms that are made when somebody first asks for them."""

    def __init__(self) -> None:
        self.open: dict[str, SimpleNamespace] = {}

    async def room(self) -> SimpleNamespace:
        room = self.open.get("a")
        if room is None:
            room = self.open["a"] = SimpleNamespace(is_private=False)
            await wait()
            room.is_private = True
        return room

    async def room_when_ready(self) -> SimpleNamespace:
        room = self.open.get("a")
        if room is None:
            ready = asyncio.Event()
            room = self.open["a"] = SimpleNamespace(is_private=False, ready=ready)
            await wait()
            room.is_private = True
            ready.set()
        else:
            await room.ready.wait()
        return room

    async def start(self) -> None:
        room = self.open["a"] = SimpleNamespace(is_private=False)
        await wait()
        room.is_private = True


async def enter(rooms: Rooms, _: int) -> None:
    room = await rooms.room()
    assert room.is_private in {True, False}


async def enter_when_ready(rooms: Rooms, _: int) -> None:
    room = await rooms.room_when_ready()
    assert room.is_private


async def poll(rooms: Rooms, user: int) -> None:
    if user == 1:
        await rooms.start()
        return
    await asyncio.sleep(0)
    room = rooms.open.get("a")
    assert room is not None
    assert not room.is_private


@dataclass
class Flight:
    """Some seats are left."""

    free: list[str]
    passengers: dict[int, str] = field(default_factory=dict)

    async def book(self, user: int) -> None:
        if not self.free:
            return
        seat = self.free[0]
        await asyncio.sleep(0)
        self.passengers[user] = seat
        self.free = [one for one in self.free if one != seat]


def with_one_seat() -> Flight:
    return Flight(["1A"])


async def book(flight: Flight, user: int) -> None:
    await flight.book(user)


async def book_where_left(flight: Flight, user: int) -> None:
    # Others take theirs meanwhile, and enough is left: what was asked still holds.
    flight.free = [*flight.free, "2A", "2B", "2C"]
    await flight.book(user)


PAIRS = {
    "default of a context variable": Pair(Pads, think_on_default, think_on_own, MIXED),
    "list in a class body": Pair(Classes, Classes.with_shared, Classes.with_own, MIXED),
    "pipeline of two": Pair(Pipeline, load_on_one, load_on_own, MIXED),
    "pipeline that is flushed": Pair(Pipeline, load_on_one, flush_all, MIXED),
    "tuple read in halves": Pair(Settings, call_halves, tell_change, TORN),
    "flag that chooses and labels": Pair(Settings, label_by_two, label_by_one, TORN),
    "name and address": Pair(Profile, ship_while_moving, ship_before_or_after, TORN),
    "state and result": Pair(Profile, ship_while_moving, ask_for_progress, TORN),
    "half-built room": Pair(Rooms, enter, enter_when_ready, TORN),
    "room that is asked about": Pair(Rooms, enter, poll, TORN),
    "last seat": Pair(with_one_seat, book, book_where_left, "shared-update-lost"),
}
