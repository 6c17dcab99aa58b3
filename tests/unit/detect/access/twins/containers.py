"""Collections that change while somebody relies on what they held."""

import asyncio
import collections
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

from tests.unit.detect.access.twins.pair import Pair


@dataclass
class Room:
    """Who is here."""

    members: dict[int, int] = field(default_factory=lambda: {0: 0})
    sockets: set[int] = field(default_factory=lambda: {0})
    waiting: collections.deque[int] = field(
        default_factory=lambda: collections.deque([7])
    )
    journal: list[int] = field(default_factory=list)
    known: list[int] = field(default_factory=list)
    used_tokens: set[str] = field(default_factory=set)


async def loop_over_members(room: Room, user: int) -> None:
    room.members[user] = user
    with contextlib.suppress(RuntimeError):
        for _ in room.members.values():
            await asyncio.sleep(0)


async def loop_over_copy(room: Room, user: int) -> None:
    room.members[user] = user
    for member in list(room.members):
        await asyncio.sleep(0)
        room.members.pop(-member, None)
    room.members.pop(user)


async def tell_all(room: Room, user: int) -> None:
    room.sockets.add(user)
    with contextlib.suppress(RuntimeError):
        for _ in room.sockets:
            await asyncio.sleep(0)
    room.sockets.discard(user)


async def tell_a_copy(room: Room, user: int) -> None:
    room.sockets.add(user)
    if room.sockets:
        for _ in tuple(room.sockets):
            await asyncio.sleep(0)
    room.sockets.discard(user)


async def answer_each(room: Room, user: int) -> None:
    room.journal.append(user)
    answered = [await asyncio.sleep(0, entry) for entry in room.journal]
    room.journal.append(len(answered))


async def answer_a_copy(room: Room, user: int) -> None:
    room.journal.append(user)
    for entry in room.journal:
        if entry == user:
            await asyncio.sleep(0)
            break
    for _ in room.journal[:]:
        await asyncio.sleep(0)


async def join_if_not_full(room: Room, user: int) -> None:
    if len(room.journal) < 2:
        await asyncio.sleep(0)
        room.journal.append(user)


async def join_at_once(room: Room, user: int) -> None:
    await asyncio.sleep(0)
    if len(room.journal) < 2:
        room.journal.append(user)


async def clear_when_full(room: Room, user: int) -> None:
    room.journal.append(user)
    if len(room.journal) > 1:
        await asyncio.sleep(0)
        room.journal.clear()


async def flush_when_full(room: Room, user: int) -> None:
    for _ in range(3):
        room.journal.append(user)
        if len(room.journal) > 4:
            room.journal, full = [], room.journal
            await asyncio.sleep(0, full)
        await asyncio.sleep(0)


async def join_with_awaited(room: Room, user: int) -> None:
    if len(room.journal) < 2:
        room.journal.append(await asyncio.sleep(0, user))


async def look_then_take(room: Room, _: int) -> None:
    if room.waiting:
        await asyncio.sleep(0)
        with contextlib.suppress(IndexError):
            room.waiting.popleft()


async def take_at_once(room: Room, user: int) -> None:
    if room.waiting:
        first = room.waiting.popleft()
        await asyncio.sleep(0)
        room.waiting.append(first + user)


async def send_then_clear(room: Room, user: int) -> None:
    room.journal.append(user)
    batch = list(room.journal)
    await asyncio.sleep(0, batch)
    room.journal.clear()


async def swap_then_send(room: Room, user: int) -> None:
    room.journal.append(user)
    batch, room.journal = room.journal, []
    await asyncio.sleep(0, batch)


async def know_once(room: Room, _: int) -> None:
    if 5 not in room.known:
        await asyncio.sleep(0)
        room.known.append(5)


async def know_own(room: Room, user: int) -> None:
    if user not in room.known:
        await asyncio.sleep(0)
        room.known.append(user)


async def redeem(room: Room, user: int) -> None:
    token = "the same" if user else ""
    if token in room.used_tokens:
        return
    await asyncio.sleep(0)
    room.used_tokens.add(token)


async def redeem_first(room: Room, user: int) -> None:
    token = "the same" if user else ""
    if token in room.used_tokens:
        return
    room.used_tokens.add(token)
    await asyncio.sleep(0)
    room.used_tokens.discard(f"another {user}")


Visit = Callable[[int], Coroutine[None, None, int]]


def make_counter() -> tuple[Visit, Visit]:
    """Return two ways to count in a variable of this call."""
    count = 0

    async def read_first(by: int) -> int:
        nonlocal count
        before = count
        await asyncio.sleep(0)
        count = before + by
        return count

    async def add(by: int) -> int:
        nonlocal count
        await asyncio.sleep(0)
        count += by
        return count

    return read_first, add


async def count_across(counter: tuple[Visit, Visit], user: int) -> None:
    await counter[0](user)


async def count_at_once(counter: tuple[Visit, Visit], user: int) -> None:
    await counter[1](user)
    await counter[1](user)


LOST, CHANGED = "shared-update-lost", "shared-iteration-changed"
PAIRS = {
    "loop over a dictionary": Pair(Room, loop_over_members, loop_over_copy, CHANGED),
    "loop over a set": Pair(Room, tell_all, tell_a_copy, CHANGED),
    "comprehension over a list": Pair(Room, answer_each, answer_a_copy, CHANGED),
    "length then append": Pair(Room, join_if_not_full, join_at_once, LOST),
    "length then awaited append": Pair(Room, join_with_awaited, join_at_once, LOST),
    "length then clear": Pair(Room, clear_when_full, flush_when_full, LOST),
    "look then take": Pair(Room, look_then_take, take_at_once, LOST),
    "copy then clear": Pair(Room, send_then_clear, swap_then_send, LOST),
    "not in list then append": Pair(Room, know_once, know_own, LOST),
    "not in set then add": Pair(Room, redeem, redeem_first, LOST),
    "variable of a closure": Pair(make_counter, count_across, count_at_once, LOST),
}
