"""What the workers of a channel test do: a long stream, and rounds of waking up.

In the stream every producer ends with a farewell for each consumer that waits for one,
so consumers know when there is no more to come, and the channel need not be known to
be right for that. Who waits for too long gives up.

A round is about waiting. A resident waits for messages; visitors wait beside it and are
cancelled in the very moment in which a message is sent: one that woke such a visitor
must wake the resident instead. Nobody sends before all that was sent has come, for
every further message would hide that a wake-up was lost.
"""

import asyncio
import contextlib
from collections.abc import Callable

from test_framework.battery.channel_room import (
    GAVE_UP,
    Caller,
    Room,
    Watchdog,
    call,
    draw_call,
    linger,
)
from test_framework.battery.worker import Worker
from test_framework.check.channels import Cancelled

_LAST = ".last"
_STEPS = 6
_MAX_LAG_S = 0.003
_EAGER = 200
_POLL_S = 0.001


async def stream_turn(worker: Worker[Room]) -> None:
    """Send one message, or receive all until the farewell."""
    room = worker.shared
    if worker.index < room.producers:
        await _produce(worker, room)
    elif worker.iteration == 0:
        await _consume(worker, room, worker.index - room.producers, room.farewells)


async def _produce(worker: Worker[Room], room: Room) -> None:
    number = worker.iteration
    to = worker.rng.randrange(room.consumers)
    await linger(worker)
    caller = draw_call(worker)
    await caller(worker, room, "send", room.text(f"{worker.index}.{number}"), to)
    if number + 1 < worker.config.iterations:
        return
    for place, consumer in enumerate(room.farewells_of(worker.index), 1):
        text = room.text(f"{worker.index}.{number + place}{_LAST}")
        await call(worker, room, "send", text, consumer)


async def _consume(
    worker: Worker[Room],
    room: Room,
    consumer: int,
    farewells: int,
    draw: Callable[[Worker[Room]], Caller] = draw_call,
) -> None:
    """Receive until every farewell has come, or nothing for too long."""
    missing = farewells
    with contextlib.suppress(*GAVE_UP):
        async with Watchdog(room.patience_s) as watchdog:
            while missing:
                watchdog.rest()
                text = await draw(worker)(worker, room, "receive", consumer)
                if text is not None:
                    name = room.name(text)
                    room.board.received.add(name)
                    missing -= name.endswith(_LAST)
                    await linger(worker)


async def round_turn(worker: Worker[Room]) -> None:
    """Send one message and wait until it came; or receive all; or visit."""
    room, consumer = worker.shared, worker.index - worker.shared.producers
    if consumer < 0:
        await _send_in_round(worker, room)
    elif worker.iteration:
        return
    elif consumer == 0:
        # Cancelled, it would come again and find what should have woken it.
        await _consume(worker, room, consumer, 1, lambda _: call)
    else:
        try:
            await _visit(worker, room, consumer)
        finally:
            room.board.left.add(consumer)


async def _visit(worker: Worker[Room], room: Room, consumer: int) -> None:
    """Receive, and be cancelled, until everything was sent.

    A call that blocks gives up at times of its own, and its next one would find what
    should have woken the resident: threads do not visit. Nor does anybody where a
    cancelled receive may keep a message.
    """
    board, promise = room.board, room.promise
    is_free = promise.cancelled is Cancelled.TAKES_NOTHING and not promise.is_addressed
    if not is_free or room.config.kind != "task":
        return
    while not board.is_closing:
        receiving = asyncio.create_task(call(worker, room, "receive", consumer))
        board.waiting[consumer] = receiving
        try:
            await asyncio.wait({receiving})
        finally:
            receiving.cancel()  # of no effect, unless the run is cut off
        if receiving.cancelled():
            # For the same reason.
            await _until(lambda: board.is_closing or board.sent <= board.received)
        else:
            board.received.add(room.name(receiving.result()))
            await worker.pause()


async def _send_in_round(worker: Worker[Room], room: Room) -> None:
    board, is_last = room.board, worker.iteration + 1 == worker.config.iterations
    # Just when the resident goes to sleep: turns of a loop, or a query of a server.
    if worker.rng.random() < 0.5:
        await asyncio.sleep(worker.rng.random() * _MAX_LAG_S)
    for _ in range(worker.rng.randrange(_STEPS)):
        await asyncio.sleep(0)
    if not board.is_closing:
        name = f"{worker.index}.{worker.iteration}"
        board.sent.add(name)
        with contextlib.suppress(TimeoutError):
            async with Watchdog(2 * room.patience_s):
                await _send_and_cancel(worker, room, name)
        board.is_closing = not await _has_come(room)
    if is_last:
        await _end_round(worker, room)


async def _send_and_cancel(worker: Worker[Room], room: Room, name: str) -> None:
    """Send, and cancel who waits before anybody whom the message woke has had a turn.

    The send may itself wait until somebody takes the message, so it goes on in a task:
    when this one comes back, that one has made its first step and nobody another.
    """
    sending = asyncio.ensure_future(call(worker, room, "send", room.text(name), 0))
    try:
        await asyncio.sleep(0)
        for receiving in room.board.waiting.values():
            if worker.rng.random() < worker.config.cancellations:
                receiving.cancel()
        await asyncio.wait({sending})
    finally:
        sending.cancel()
    sending.result()


async def _has_come(room: Room) -> bool:
    """Wait until all that was sent has come; False if that lasts for too long."""
    with contextlib.suppress(TimeoutError):
        async with Watchdog(2 * room.patience_s):
            await _until(lambda: room.board.sent <= room.board.received)
            return True
    return False


async def _until(is_so: Callable[[], bool]) -> None:
    """Wait for what another worker does; threads and tasks have no event in common."""
    polls = 0
    while not is_so():
        await asyncio.sleep(0 if polls < _EAGER else _POLL_S)
        polls += 1


async def _end_round(worker: Worker[Room], room: Room) -> None:
    """Send the visitors away, then let the resident go."""
    board, number = room.board, worker.iteration + 1
    has_all, board.is_closing = not board.is_closing, True
    with contextlib.suppress(TimeoutError):
        async with Watchdog(room.patience_s):
            await _until(lambda: _have_left(room))
    # One that sleeps beside a message is not to be woken by another.
    if has_all:
        text = room.text(f"{worker.index}.{number}{_LAST}")
        await call(worker, room, "send", text, 0)


def _have_left(room: Room) -> bool:
    for receiving in room.board.waiting.values():
        receiving.cancel()
    return len(room.board.left) == room.consumers - 1
