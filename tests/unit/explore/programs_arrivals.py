"""Pairs: a program that FIFO order keeps right, and its sibling that must be found.

The sibling differs in one thing: where the first awaits what keeps its turn, the second
awaits the world outside (``external``, a thread, a sleep beside a timeout), and answers
come in any order. So the first must never be FOUND at fidelity ``fifo``, the second
must, and the stock loop must fail the same way.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from test_framework.explore import external
from test_framework.explore.scenario import CoroutineFunction

Pause = Callable[[], Awaitable[object]]
"""What both halves of a pair await where they differ."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two programs that differ in what they await.

    Attributes:
        safe: Relies on order that stock asyncio keeps.
        broken: Relies on order that nobody keeps.
        kind: Kind of the failure of the broken one.
    """

    safe: CoroutineFunction
    broken: CoroutineFunction
    kind: str

    @property
    def name(self) -> str:
        """The name of the function that both are made of."""
        return self.safe.__name__


PAIRS: list[Pair] = []

_outside: Pause = partial(external, "answer")


async def _turn() -> None:
    await asyncio.sleep(0)


async def _at_once() -> None:
    """Give nobody a turn."""


def pair(
    *, safe: Pause = _turn, broken: Pause = _outside, kind: str = "assertion"
) -> Callable[[Callable[[Pause], Awaitable[None]]], None]:
    """Make both halves of a program that takes what it awaits.

    Args:
        safe: What the safe half awaits.
        broken: What the other one awaits.
        kind: Kind of the failure of the broken half.
    """

    def add(program: Callable[[Pause], Awaitable[None]]) -> None:
        def half(pause: Pause) -> CoroutineFunction:
            async def main() -> None:
                await program(pause)

            main.__name__ = program.__name__
            return main

        PAIRS.append(Pair(half(safe), half(broken), kind))

    return add


@pair(safe=_at_once)
async def counter_is_read_and_written_in_one_turn(pause: Pause) -> None:
    """Two increments; an await between read and write loses one."""
    counter = [0]

    async def add() -> None:
        value = counter[0]
        await pause()
        counter[0] = value + 1

    await asyncio.gather(add(), add())
    assert counter == [2]


@pair()
async def write_is_a_turn_ahead_of_the_read(pause: Pause) -> None:
    """The writer writes after one turn, the reader reads after two."""
    store: dict[str, int] = {}

    async def write() -> None:
        await pause()
        store["value"] = 1

    async def read() -> int | None:
        await pause()
        await pause()
        return store.get("value")

    _, value = await asyncio.gather(write(), read())
    assert value == 1


@pair()
async def results_are_appended_in_the_order_of_asking(pause: Pause) -> None:
    """Four requests append what they get to one list."""
    seen: list[int] = []

    async def fetch(number: int) -> None:
        await pause()
        seen.append(number)

    await asyncio.gather(*map(fetch, range(4)))
    assert seen == [0, 1, 2, 3]


@pair()
async def last_write_is_that_of_the_last_writer(pause: Pause) -> None:
    """Two saves of one profile; the later one is meant to stay."""
    profile = {"name": "old"}

    async def save(name: str) -> None:
        await pause()
        profile["name"] = name

    async with asyncio.TaskGroup() as group:
        group.create_task(save("first"))
        group.create_task(save("second"))
    assert profile["name"] == "second"


@pair(safe=_at_once)
async def current_user_is_read_in_the_turn_that_set_it(pause: Pause) -> None:
    """A module global instead of a context variable."""
    current: list[str] = [""]

    async def handle(user: str) -> str:
        current[0] = user
        await pause()
        return current[0]

    users = ["alice", "bob"]
    assert await asyncio.gather(*map(handle, users)) == users


@pair(safe=_at_once)
async def last_seat_is_checked_and_sold_in_one_turn(pause: Pause) -> None:
    """Check, then act."""
    left, sold = [1], list[int]()

    async def buy(user: int) -> None:
        if left[0]:
            await pause()
            left[0] -= 1
            sold.append(user)

    await asyncio.gather(buy(0), buy(1))
    assert len(sold) == 1


@pair(safe=_at_once)
async def pool_is_made_once(pause: Pause) -> None:
    """Lazy set-up without a lock."""
    pools: list[object] = []
    cached: list[object] = []

    async def pool() -> object:
        if not cached:
            await pause()
            pools.append(object())
            cached[:] = pools[-1:]
        return cached[0]

    await asyncio.gather(pool(), pool(), pool())
    assert len(pools) == 1


@pair()
async def lock_is_asked_for_in_the_order_of_start(pause: Pause) -> None:
    """A fair lock is fair to those who asked, not to those who started."""
    lock, seen = asyncio.Lock(), list[int]()

    async def work(number: int) -> None:
        await pause()
        async with lock:
            seen.append(number)

    await asyncio.gather(*map(work, range(3)))
    assert seen == [0, 1, 2]


@pair(kind="deadlock")
async def pulse_comes_after_the_waiter(pause: Pause) -> None:
    """``set`` and ``clear`` in one turn: who is late waits for ever."""
    event = asyncio.Event()

    async def wait() -> None:
        await pause()
        await event.wait()

    async def pulse() -> None:
        await pause()
        await pause()
        event.set()
        event.clear()

    await asyncio.gather(wait(), pulse())


@pair(kind="deadlock")
async def notification_comes_after_the_waiter(pause: Pause) -> None:
    """``Condition.wait`` without a predicate."""
    condition = asyncio.Condition()

    async def wait() -> None:
        await pause()
        async with condition:
            await condition.wait()

    async def notify() -> None:
        for _ in range(3):
            await pause()
        async with condition:
            condition.notify()

    await asyncio.gather(wait(), notify())


@pair(kind="deadlock")
async def locks_are_taken_apart_in_time(pause: Pause) -> None:
    """A before B here and B before A there, but never at once."""
    first, second = asyncio.Lock(), asyncio.Lock()

    async def forth() -> None:
        async with first:
            await pause()
            async with second:
                pass

    async def back() -> None:
        for _ in range(3):
            await pause()
        async with second:
            await pause()
            async with first:
                pass

    await asyncio.gather(forth(), back())


@pair()
async def queue_is_filled_in_the_order_of_production(pause: Pause) -> None:
    """The queue is first in, first out; who is first in is another matter."""
    queue: asyncio.Queue[str] = asyncio.Queue()

    async def produce(name: str) -> None:
        for number in range(2):
            await pause()
            queue.put_nowait(f"{name}{number}")

    await asyncio.gather(produce("a"), produce("b"))
    assert [queue.get_nowait() for _ in range(4)] == ["a0", "b0", "a1", "b1"]


@pair(kind="exception")
async def generator_has_one_reader_at_a_time(pause: Pause) -> None:
    """``anext`` while another ``anext`` runs is an error."""

    async def items() -> AsyncIterator[int]:
        for number in range(4):
            await pause()
            yield number

    shared = items()

    async def read(turns: int) -> None:
        for _ in range(turns):
            await pause()
        await anext(shared)

    await asyncio.gather(read(0), read(3))
    await shared.aclose()  # type: ignore[attr-defined]  # it is a generator


@pair(safe=partial(asyncio.sleep, 1), kind="exception")
async def answer_is_there_before_the_timeout(pause: Pause) -> None:
    """A sleep of one second is shorter than two; an answer may take for ever."""
    async with asyncio.timeout(2):
        await pause()


@pair(safe=partial(asyncio.sleep, 1), kind="exception")
async def wait_for_is_patient_enough(pause: Pause) -> None:
    """The same with ``wait_for``."""
    await asyncio.wait_for(pause(), 2)


@pair(safe=partial(asyncio.sleep, 0.1))
async def fallback_is_slower_than_the_source(pause: Pause) -> None:
    """Hedged requests: the first to answer is meant to be the source."""

    async def source() -> str:
        await pause()
        return "source"

    async def fallback() -> str:
        await asyncio.sleep(0.3)
        return "fallback"

    tasks = [asyncio.create_task(source()), asyncio.create_task(fallback())]
    for first in asyncio.as_completed(tasks):
        assert await first == "source"
        break
    await asyncio.wait(tasks)


@pair(broken=partial(asyncio.to_thread, str))
async def jobs_end_in_the_order_they_were_given(pause: Pause) -> None:
    """Threads of a pool end in any order."""
    seen: list[int] = []

    async def job(number: int) -> None:
        await pause()
        seen.append(number)

    await asyncio.gather(job(0), job(1))
    assert seen == [0, 1]


@pair()
async def cache_is_dropped_after_the_write(pause: Pause) -> None:
    """A reader that fills the cache between write and drop does no harm, a late one does."""
    database, cache = {"v": 1}, dict[str, int]()

    async def write() -> None:
        for _ in range(3):
            await pause()
        database["v"] = 2
        cache.clear()

    async def read() -> None:
        value = database["v"]
        await pause()
        cache["v"] = value

    await asyncio.gather(read(), write())
    assert cache.get("v", 2) == database["v"]


@pair()
async def barrier_numbers_by_the_order_of_start(pause: Pause) -> None:
    """The index is that of the arrival."""
    barrier = asyncio.Barrier(3)

    async def meet() -> int:
        await pause()
        return await barrier.wait()

    assert [*await asyncio.gather(meet(), meet(), meet())] == [0, 1, 2]


@pair()
async def stream_of_two_senders_alternates(pause: Pause) -> None:
    """Two senders into one in-memory stream."""
    reader = asyncio.StreamReader()

    async def send(line: bytes) -> None:
        await pause()
        reader.feed_data(line)

    await asyncio.gather(send(b"one\n"), send(b"two\n"))
    assert [await reader.readline(), await reader.readline()] == [b"one\n", b"two\n"]


@dataclass
class _Session:
    token: str = "old"
    sent: list[str] = field(default_factory=list)


@pair()
async def token_is_fresh_when_the_second_request_goes(pause: Pause) -> None:
    """One task refreshes, the other one relies on that it has."""
    session = _Session()

    async def refresh() -> None:
        await pause()
        session.token = "new"

    async def request() -> None:
        await pause()
        session.sent.append(session.token)

    await asyncio.gather(refresh(), request())
    assert session.sent == ["new"]


@pair(kind="lost-exception")
async def error_comes_while_somebody_waits(pause: Pause) -> None:
    """A task that fails after its owner gave up waiting."""

    async def fail() -> None:
        await pause()
        raise ValueError

    async def wait() -> None:
        for _ in range(3):
            await pause()

    failing = asyncio.create_task(fail())
    await wait()
    if failing.done():
        failing.exception()
    else:
        failing.add_done_callback(lambda _: None)
        await asyncio.wait([failing])
