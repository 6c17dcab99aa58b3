"""Events on their way to clients: buffered, broadcast, overtaken, missed."""

import asyncio
from collections import deque

from test_framework.catalogue.pattern import Pattern
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Socket:
    """A connection of a user and what was sent over it."""

    def __init__(self, user: str) -> None:
        self.user = user
        self.frames: list[str] = []

    async def send(self, frame: str) -> None:
        await external("send")
        self.frames.append(frame)


class _Broadcast:
    """Sends to everybody who is there; people come and go."""

    def __init__(self) -> None:
        self.sockets = {name: _Socket(name) for name in NAMES}

    def receivers(self) -> dict[str, _Socket]:
        return self.sockets

    async def announce(self, text: str) -> None:
        for socket in self.receivers().values():
            await socket.send(text)

    async def leave(self, user: str) -> None:
        await external("close")
        del self.sockets[user]


class _CopyingBroadcast(_Broadcast):
    def receivers(self) -> dict[str, _Socket]:
        return dict(self.sockets)


async def _announce_or_leave(broadcast: _Broadcast, user: int) -> None:
    await (broadcast.leave("carol") if user else broadcast.announce("hello"))


LIVE_ITERATION = Pattern(
    id="P09",
    title="iterating a live collection across awaits",
    summary=(
        "Somebody leaves while a broadcast goes through the sockets; it raises, and the "
        "rest hear nothing. Iterate over a copy."
    ),
    source="https://github.com/fastapi/fastapi/pull/1991",
    vulnerable=visits(_Broadcast, _announce_or_leave),
    safe=visits(_CopyingBroadcast, _announce_or_leave),
    kind="exception",
)


class _Framed:
    """Sends a message as two frames, which the reader joins."""

    def __init__(self) -> None:
        self.socket = _Socket("carol")
        self.lock = asyncio.Lock()

    async def send(self, user: str) -> None:
        await self.socket.send(f"from {user}: ")
        await self.socket.send(f"hello, I am {user}")

    def messages(self) -> list[str]:
        frames = self.socket.frames
        return [a + b for a, b in zip(frames[::2], frames[1::2], strict=True)]


class _LockedFramed(_Framed):
    async def send(self, user: str) -> None:
        async with self.lock:
            await super().send(user)


async def _greet(framed: _Framed, user: int) -> None:
    await framed.send(NAMES[user])


def _frames_fit(framed: _Framed) -> None:
    for message in framed.messages():
        sender, _, greeter = message.removeprefix("from ").partition(": hello, I am ")
        assert sender == greeter, "words of one user under the name of another"


INTERLEAVED_FRAMES = Pattern(
    id="W03",
    title="interleaved frames",
    summary=(
        "Two tasks write a message of several frames to one socket at once. Let one "
        "task write, or hold a lock for the whole message."
    ),
    source="https://datatracker.ietf.org/doc/html/rfc6455#section-5.4",
    vulnerable=visits(_Framed, _greet, _frames_fit),
    safe=visits(_LockedFramed, _greet, _frames_fit),
)


class _Slots:
    """Connection slots with a buffer of unsent events, used again and again."""

    def __init__(self) -> None:
        self.slots = [_Socket("")]
        self.buffers: list[deque[str]] = [deque()]

    def open(self, user: str) -> int:
        self.slots[0] = _Socket(user)
        return 0

    async def emit(self, slot: int, event: str) -> None:
        self.buffers[slot].append(event)
        await external("the socket is writable")
        self.slots[slot].frames += self.buffers[slot]
        self.buffers[slot].clear()


class _FreshSlots(_Slots):
    """A new connection gets a new slot, with a buffer of its own."""

    def open(self, user: str) -> int:
        self.slots.append(_Socket(user))
        self.buffers.append(deque())
        return len(self.slots) - 1


async def _emit(slots: _Slots, user: int) -> None:
    slot = slots.open(NAMES[user])
    await slots.emit(slot, f"event of {NAMES[user]}")


def _events_reached_owners(slots: _Slots) -> None:
    for socket in slots.slots:
        for frame in socket.frames:
            assert frame == f"event of {socket.user}", f"{socket.user} got {frame}"


EVENT_AFTER_REASSIGN = Pattern(
    id="W06",
    title="buffered event reaches the next owner",
    summary=(
        "Events that wait in the buffer of a slot are sent to whoever has the slot by "
        "then. Bind the buffer to the connection."
    ),
    source="https://cwe.mitre.org/data/definitions/672.html",
    vulnerable=visits(_Slots, _emit, _events_reached_owners),
    safe=visits(_FreshSlots, _emit, _events_reached_owners),
)


class _Runs:
    """Tells a client how its run goes; each event is sent by a task of its own."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.sending: list[asyncio.Task[None]] = []

    async def send(self, event: str) -> None:
        await external("send")
        self.events.append(event)

    async def emit(self, event: str) -> None:
        self.sending.append(asyncio.create_task(self.send(event)))

    async def run(self) -> None:
        for event in ("started", "completed"):
            await self.emit(event)
        await asyncio.gather(*self.sending)


class _OrderedRuns(_Runs):
    async def emit(self, event: str) -> None:
        await self.send(event)


async def _run(runs: _Runs, user: int) -> None:  # noqa: ARG001  # one user
    await runs.run()
    assert runs.events == ["started", "completed"], "completed, then started"


LIFECYCLE = Pattern(
    id="W07",
    title="lifecycle events out of order",
    summary=(
        "Each event is sent by a task of its own, so 'completed' may overtake "
        "'started'. Send them from one place, one after the other."
    ),
    source="https://cwe.mitre.org/data/definitions/696.html",
    vulnerable=visits(_Runs, _run, users=1),
    safe=visits(_OrderedRuns, _run, users=1),
)


class _Board:
    """A client loads the messages there are and subscribes to those that come."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.subscribers: list[list[str]] = []

    def post(self, message: str) -> None:
        self.messages.append(message)
        for queue in self.subscribers:
            queue.append(message)

    async def watch(self) -> list[str]:
        await external("SELECT messages")
        shown = list(self.messages)
        await external("SUBSCRIBE")
        self.subscribers.append(shown)
        return shown


class _SubscribingBoard(_Board):
    async def watch(self) -> list[str]:
        live: list[str] = []
        await external("SUBSCRIBE")
        self.subscribers.append(live)
        await external("SELECT messages")
        old = [message for message in self.messages if message not in live]
        live[:0] = old
        return live


async def _post_or_watch(board: _Board, user: int) -> None:
    if user:
        await external("INSERT message")
        board.post("you are invited")
    else:
        shown = await board.watch()
        await external("the user looks at it later")
        assert shown == board.messages, "a message that this user never sees"


SNAPSHOT_GAP = Pattern(
    id="W09",
    title="gap between snapshot and subscription",
    summary=(
        "A message that comes between loading and subscribing is in neither. Subscribe "
        "first, then load, and drop what is in both."
    ),
    source="https://redis.io/docs/latest/develop/pubsub/",
    vulnerable=visits(_Board, _post_or_watch),
    safe=visits(_SubscribingBoard, _post_or_watch),
)


PATTERNS = (
    LIVE_ITERATION,
    INTERLEAVED_FRAMES,
    EVENT_AFTER_REASSIGN,
    LIFECYCLE,
    SNAPSHOT_GAP,
)
