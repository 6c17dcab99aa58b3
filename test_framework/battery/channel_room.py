"""A channel under test and how its workers call it, in tasks, threads or processes."""

import asyncio
import contextlib
import queue
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from test_framework.battery.config import RaceTestConfig
from test_framework.battery.subject import settled
from test_framework.battery.worker import MAX_DELAY_BEFORE_CANCEL_S, Worker
from test_framework.check.channels import Promise, Receive

GAVE_UP = (TimeoutError, queue.Empty, queue.Full)
"""What a blocking call raises that was not answered in its time."""

PATIENCE = 0.4
"""Share of ``quiet_s`` after which a consumer gives up."""

_TICKS = 10
_DRAIN_S = 0.02
_SPARE = 1000
_LULL = 0.05
_LULL_S = 0.002


@dataclass(slots=True)
class Board:
    """What workers of one process tell each other, past the channel.

    Attributes:
        sent: Names of messages whose send has returned.
        received: Names of those that came.
        waiting: The receives of visitors that are tasks, by consumer.
        is_closing: Whether visitors are to leave.
        left: Those that have.
    """

    sent: set[str] = field(default_factory=set)
    received: set[str] = field(default_factory=set)
    waiting: dict[int, "asyncio.Task[Any]"] = field(default_factory=dict)
    is_closing: bool = False
    left: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Room:
    """What all workers know.

    Attributes:
        channel: What is tested.
        is_blocking: Whether its calls block.
        config: How many workers, how long.
        promise: What it is held to.
        payload_bytes: How long messages are.
        producers: How many workers send: the first ones.
        board: For scenarios whose workers share a process; of no use else.
    """

    channel: Any
    is_blocking: bool
    config: RaceTestConfig
    promise: Promise
    payload_bytes: int
    producers: int
    board: Board = field(default_factory=Board)

    @property
    def consumers(self) -> int:
        """How many workers receive."""
        return self.config.workers - self.producers

    @property
    def patience_s(self) -> float:
        """How long a consumer waits before it gives up."""
        return self.config.quiet_s * PATIENCE

    def farewells_of(self, producer: int) -> Sequence[int]:
        """Return whom a producer bids farewell: everybody, or one in turns for all."""
        if self.promise.is_addressed:
            return range(self.consumers)
        return range(producer, self.consumers, self.producers)

    @property
    def farewells(self) -> int:
        """How many a consumer waits for."""
        return self.producers if self.promise.is_addressed else 1

    def text(self, name: str) -> str:
        """Return a message that can be told from a torn one."""
        filling = name * (self.payload_bytes // len(name))
        return f"{name} {filling}"

    def name(self, text: str) -> str:
        """Return the name in a message; of one that is not as it was sent, all of it."""
        name = text.partition(" ")[0]
        return name if name and text == self.text(name) else text[:80]

    async def subscribe(self) -> None:
        """Tell the channel its consumers, if it wants to know them."""
        subscribe = getattr(self.channel, "subscribe", None)
        if subscribe is not None:
            for consumer in range(self.consumers):
                await settled(subscribe(consumer))


Caller = Callable[..., Awaitable[Any]]


def draw_call(worker: Worker[Room]) -> Caller:
    """Choose whether the next call is cancelled underway."""
    is_cancelled = worker.rng.random() < worker.config.cancellations
    return call_briefly if is_cancelled else call


async def call(worker: Worker[Room], room: Room, kind: str, *arguments: object) -> Any:  # noqa: ANN401  # a message, or nothing of a send
    """Send or receive, for as long as it takes; a blocking call gives up some time."""
    if room.is_blocking:
        arguments = (*arguments, room.patience_s)
    return await worker.journal.call(kind, getattr(room.channel, kind), *arguments)


async def call_briefly(
    worker: Worker[Room], room: Room, kind: str, *arguments: object
) -> Any:  # noqa: ANN401  # a message, or nothing of a send
    """Send or receive and be cancelled, or give up, soon; None if it came to that."""
    operation = getattr(room.channel, kind)
    if not room.is_blocking:
        return await worker.call_cancelled(kind, operation, *arguments)
    timeout_s = worker.rng.random() * MAX_DELAY_BEFORE_CANCEL_S
    with contextlib.suppress(*GAVE_UP):
        return await worker.journal.call(kind, operation, *arguments, timeout_s)
    return None


async def linger(worker: Worker[Room]) -> None:
    """Let others go on, now and then for long enough that a buffer runs full or empty.

    Else nobody would ever wait, and waiting is where channels go wrong.
    """
    if worker.rng.random() < _LULL:
        await asyncio.sleep(worker.rng.random() * _LULL_S)
    else:
        await worker.pause()


class Watchdog:
    """Ends its block with ``TimeoutError`` when nobody rested it for too long.

    It counts ticks and not time: a machine that stood still for seconds has ticked
    once, and what came meanwhile is received before the next tick.
    """

    def __init__(self, patience_s: float) -> None:
        self._tick_s = patience_s / _TICKS
        self._ticks = 0
        self._is_over = False
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[Any] | None = None

    def rest(self) -> None:
        """Begin to count anew."""
        self._ticks = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.current_task()
        self._set()
        return self

    def _set(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._tick_s, self._tick)

    def _tick(self) -> None:
        self._ticks += 1
        # The first tick may have come at once.
        if self._ticks > _TICKS and self._task is not None:
            self._is_over = True
            self._task.cancel()
        else:
            self._set()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._is_over or self._task is None:
            return
        if self._task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise TimeoutError


async def drain(room: Room) -> list[Receive]:
    """Receive what nobody waits for any more, as the consumers would have.

    What is found here was late, doubled or forgotten. The wait of each consumer that
    finds nothing ends it, and is no part of the history.
    """
    found: list[Receive] = []
    await asyncio.gather(
        *(_drain_one(room, consumer, found) for consumer in range(room.consumers))
    )
    return found


async def _drain_one(room: Room, consumer: int, found: list[Receive]) -> None:
    bound = 2 * room.config.iterations * room.producers + _SPARE
    while len(found) < bound:
        invoked = time.monotonic_ns()
        text = await _receive_at_once(room, consumer)
        if text is None:
            break
        ended = time.monotonic_ns()
        found.append(Receive(room.name(text), consumer, invoked, ended))


async def _receive_at_once(room: Room, consumer: int) -> str | None:
    """Return what lies there; nothing of a channel that fails by now."""
    receive = room.channel.receive
    if room.is_blocking:
        with contextlib.suppress(Exception):
            return str(await asyncio.to_thread(receive, consumer, _DRAIN_S))
        return None
    receiving = asyncio.ensure_future(receive(consumer))
    await asyncio.wait({receiving}, timeout=_DRAIN_S)
    receiving.cancel()
    await asyncio.wait({receiving})
    if receiving.cancelled() or receiving.exception() is not None:
        return None
    return str(receiving.result())
