"""Small asyncio programs on which explorers are compared; nothing but asyncio inside.

The environment of the rivals has none of our packages, so both sides import this file.
Every racing program here passes on plain asyncio: a bug that the usual order shows says
nothing about an explorer. Sizes are chosen so that a uniform random walk needs about 50,
30, 20, 2,000 and 1,000 schedules in the mean.

Each ``await turn()`` is one step that the outside may delay.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

Worker = Callable[[Any], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Program:
    """Workers on one state, and what must hold when they are done.

    Attributes:
        setup: Makes the state of one run.
        workers: What runs at the same time.
        holds: Tells whether the state at the end is right.
        is_correct: Whether no order breaks it; what a good explorer says.
        can_deadlock: Whether its bug is a deadlock; who reports one in another is wrong.
    """

    setup: Callable[[], Any]
    workers: tuple[Worker, ...]
    holds: Callable[[Any], bool]
    is_correct: bool = False
    can_deadlock: bool = False

    async def main(self) -> None:
        """Run all workers once and check.

        Raises:
            AssertionError: The state at the end is wrong.
        """
        state = self.setup()
        await asyncio.gather(*(worker(state) for worker in self.workers))
        if not self.holds(state):
            raise AssertionError("the state at the end is wrong")


async def turns(count: int) -> None:
    """Wait ``count`` times for the outside."""
    for _ in range(count):
        await asyncio.sleep(0)


def always(_: object) -> bool:
    """Hold for every state: a program that is only run, not judged."""
    return True


# What is timed: no bug, so that every run is a whole one.


@dataclass
class Counter:
    """Something to add to, and a lock that whoever likes may take."""

    value: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


def counting(awaits: int, users: int = 2) -> Program:
    """Add at once, ``awaits`` times each."""

    async def add(counter: Counter) -> None:
        for _ in range(awaits):
            await asyncio.sleep(0)
            counter.value += 1

    return Program(
        Counter, (add,) * users, lambda c: c.value == users * awaits, is_correct=True
    )


# Races that plain asyncio never shows.


async def add_early(counter: Counter) -> None:
    """Read, wait, write, answer."""
    seen = counter.value
    await turns(1)
    counter.value = seen + 1
    await turns(1)


def add_after(late: int) -> Worker:
    """Return a worker that reads, waits and writes after so many awaits."""

    async def add_late(counter: Counter) -> None:
        await turns(late)
        seen = counter.value
        await turns(1)
        counter.value = seen + 1

    return add_late


def lost_update(late: int, bystanders: int = 0) -> Program:
    """Lose an update when one preemption lasts ``late`` awaits.

    Args:
        late: Awaits before the second reads; at 2 and more plain asyncio loses nothing.
        bystanders: Tasks of six awaits that share nothing.
    """

    async def stand_by(_: Counter) -> None:
        await turns(6)

    workers = (add_early, add_after(late), *(stand_by,) * bystanders)
    return Program(Counter, workers, lambda c: c.value == 2)


class TwoLocks:
    """Two locks that are taken in both orders."""

    def __init__(self) -> None:
        self.first, self.second = asyncio.Lock(), asyncio.Lock()


def opposite_locks(late: int) -> Program:
    """Deadlock, AB against BA, when the second is not ``late`` awaits late."""

    async def take_in_order(locks: TwoLocks) -> None:
        async with locks.first:
            await turns(1)
            async with locks.second:
                pass

    async def take_reversed(locks: TwoLocks) -> None:
        await turns(late)
        async with locks.second:
            await turns(1)
            async with locks.first:
                pass

    return Program(TwoLocks, (take_in_order, take_reversed), always, can_deadlock=True)


@dataclass(slots=True)
class Session:
    """A session that is open for one await."""

    is_open: bool = False
    was_used_closed: bool = False


def handshake(late: int) -> Program:
    """Use a session that was open when asked and closed when used: depth 3.

    Three orderings must hold: opened before asked, asked before closed, closed before
    used. PCT needs two demotions at the right steps for that.

    Args:
        late: Awaits before the victim asks.
    """

    async def own(session: Session) -> None:
        await turns(2)
        session.is_open = True
        await turns(1)
        session.is_open = False

    async def use(session: Session) -> None:
        await turns(late)
        if session.is_open:
            await turns(1)
            session.was_used_closed = not session.is_open

    return Program(Session, (own, use), lambda session: not session.was_used_closed)


RACES = {
    "hid2": lost_update(7),
    "dead": opposite_locks(6),
    "d3near": handshake(5),
    "d3far": handshake(16),
    "needle": lost_update(12, bystanders=18),
}
"""Programs with one bug that plain asyncio never shows."""


# Programs whose right verdict is known, and which some explorer gets wrong.


def callback_order() -> Program:
    """Callbacks run in the order of ``call_soon``, as its documentation promises."""

    async def queue(seen: list[int]) -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(seen.append, 1)
        loop.call_soon(seen.append, 2)
        await turns(3)

    # The second worker makes it a program of two for those that need two.
    async def idle(_: list[int]) -> None:
        await turns(1)

    return Program(list, (queue, idle), lambda seen: seen == [1, 2], is_correct=True)


def racing_children() -> Program:
    """One worker whose two children lose an update."""

    async def start_both(counter: Counter) -> None:
        await asyncio.gather(add_early(counter), add_after(3)(counter))

    return Program(Counter, (start_both,), lambda c: c.value == 2)


class Guarded:
    """A counter behind a semaphore of one."""

    def __init__(self) -> None:
        self.value, self.semaphore = 0, asyncio.Semaphore(1)


def semaphore_of_one() -> Program:
    """Nothing is lost behind ``Semaphore(1)``."""

    async def add(guarded: Guarded) -> None:
        async with guarded.semaphore:
            seen = guarded.value
            await turns(1)
            guarded.value = seen + 1

    return Program(Guarded, (add, add), lambda g: g.value == 2, is_correct=True)


def event_never_set() -> Program:
    """Wait for what nobody does: a deadlock in every order."""

    async def wait(event: asyncio.Event) -> None:
        await event.wait()

    return Program(asyncio.Event, (wait, wait), always, can_deadlock=True)


def timeout_before_sleep() -> Program:
    """A timeout of 1 s ends a sleep of 2 s, always."""

    async def sleep_long(expired: list[int]) -> None:
        try:
            async with asyncio.timeout(1):
                await asyncio.sleep(2)
        except TimeoutError:
            expired.append(1)

    return Program(
        list, (sleep_long, sleep_long), lambda e: len(e) == 2, is_correct=True
    )


VERDICTS = {
    "call_soon keeps its order": callback_order(),
    "two children of one task race": racing_children(),
    "counter behind Semaphore(1)": semaphore_of_one(),
    "twenty tasks that count": counting(6, users=20),
    "Event that nobody sets": event_never_set(),
    "timeout(1) around sleep(2)": timeout_before_sleep(),
}


# Programs to enumerate.


async def update(counter: Counter) -> None:
    """Read, wait and write."""
    seen = counter.value
    await turns(1)
    counter.value = seen + 1


async def update_locked(counter: Counter) -> None:
    """Read, wait and write under the lock."""
    async with counter.lock:
        await update(counter)


def updates(users: int) -> Program:
    """Users who read, wait and write: (n!)^2 classes of orders, and none is judged."""
    return Program(Counter, (update,) * users, always, is_correct=True)


PROGRAMS = {
    **RACES,
    **VERDICTS,
    "three awaits": counting(3),
    "ten awaits": counting(10),
    **{f"updates of {users}": updates(users) for users in range(2, 6)},
}
"""Every program by the name that tables use."""
