"""FIFO programs of the primitives: locks, conditions, queues, barriers, streams.

The documentation of ``Lock`` promises it: "locks are fair: the coroutine that proceeds
will be the first coroutine that started waiting on the lock". Queues, semaphores and
conditions wake their waiters in the same way.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from tests.unit.explore.fifo_program import in_order


async def _turns(amount: int) -> None:
    for _ in range(amount):
        await asyncio.sleep(0)


async def _in_turn(work: Callable[[int], Coroutine[Any, Any, None]]) -> None:
    await asyncio.gather(*map(work, range(4)))


@in_order(breaks_at="await")
async def lock_is_granted_in_the_order_of_asking() -> None:
    """Waiters of a lock get it in the order in which they came."""
    lock, seen = asyncio.Lock(), list[int]()

    async def work(number: int) -> None:
        async with lock:
            await asyncio.sleep(0)
            seen.append(number)

    await _in_turn(work)
    assert seen == [0, 1, 2, 3]


@in_order(breaks_at="await")
async def newcomer_does_not_overtake_at_a_lock() -> None:
    """Who asks after the release, but before the waiter has run, comes second."""
    lock, seen = asyncio.Lock(), list[str]()

    async def wait() -> None:
        async with lock:
            seen.append("waiter")

    await lock.acquire()
    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    lock.release()
    async with lock:
        seen.append("newcomer")
    await task
    assert seen == ["waiter", "newcomer"]


@in_order(breaks_at="await")
async def cancelled_waiter_of_a_lock_is_passed_over() -> None:
    """The next in line gets the lock."""
    lock, seen = asyncio.Lock(), list[int]()

    async def work(number: int) -> None:
        async with lock:
            seen.append(number)

    await lock.acquire()
    tasks = [asyncio.create_task(work(number)) for number in range(4)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[2].cancel()
    lock.release()
    await asyncio.wait(tasks)
    assert seen == [1, 3]


@in_order(breaks_at="await")
async def semaphore_is_granted_in_the_order_of_asking() -> None:
    """Two at a time, in order."""
    slots, seen = asyncio.Semaphore(2), list[int]()

    async def work(number: int) -> None:
        async with slots:
            seen.append(number)
            await asyncio.sleep(0)

    await _in_turn(work)
    assert seen == [0, 1, 2, 3]


@in_order(breaks_at="await")
async def bounded_semaphore_never_lets_in_one_too_many() -> None:
    """At most two inside, who entered first leaves first."""
    slots, inside, left = asyncio.BoundedSemaphore(2), list[int](), list[int]()

    async def work(number: int) -> None:
        async with slots:
            inside.append(number)
            assert len(inside) <= 2
            await _turns(2)
            inside.remove(number)
            left.append(number)

    await _in_turn(work)
    assert left == [0, 1, 2, 3]


@in_order(breaks_at="await")
async def event_wakes_in_the_order_of_waiting() -> None:
    """All waiters go on, first come first served, even if it is cleared at once."""
    event, seen = asyncio.Event(), list[int]()

    async def wait(number: int) -> None:
        await event.wait()
        seen.append(number)

    tasks = [asyncio.create_task(wait(number)) for number in range(4)]
    await asyncio.sleep(0)
    event.set()
    event.clear()
    await asyncio.wait(tasks)
    assert seen == [0, 1, 2, 3]


@in_order(breaks_at="await")
async def condition_notifies_the_longest_waiters() -> None:
    """``notify(2)`` wakes the first two, in order."""
    condition, seen = asyncio.Condition(), list[int]()

    async def wait(number: int) -> None:
        async with condition:
            await condition.wait()
            seen.append(number)

    tasks = [asyncio.create_task(wait(number)) for number in range(4)]
    await asyncio.sleep(0)
    async with condition:
        condition.notify(2)
    await _turns(9)
    assert seen == [0, 1]
    async with condition:
        condition.notify_all()
    await asyncio.wait(tasks)
    assert seen == [0, 1, 2, 3]


@in_order(breaks_at="await")
async def condition_wait_for_looks_again_in_order() -> None:
    """Each waiter goes on when its own predicate holds."""
    condition, seen = asyncio.Condition(), list[int]()
    level = [0]

    async def wait(number: int) -> None:
        async with condition:
            await condition.wait_for(lambda: level[0] > number)
            seen.append(number)

    tasks = [asyncio.create_task(wait(number)) for number in (2, 0, 1)]
    for _ in tasks:
        await _turns(5)
        async with condition:
            level[0] += 1
            condition.notify_all()
    await asyncio.wait(tasks)
    assert seen == [0, 1, 2]


@in_order(breaks_at="await")
async def queue_serves_getters_in_the_order_of_asking() -> None:
    """The first to wait gets the first item."""
    queue: asyncio.Queue[str] = asyncio.Queue()
    seen: list[tuple[int, str]] = []

    async def get(number: int) -> None:
        seen.append((number, await queue.get()))

    tasks = [asyncio.create_task(get(number)) for number in range(3)]
    await asyncio.sleep(0)
    for item in "abc":
        queue.put_nowait(item)
    await asyncio.wait(tasks)
    assert seen == [(0, "a"), (1, "b"), (2, "c")]


@in_order(breaks_at="await")
async def queue_lets_putters_in_by_the_order_of_asking() -> None:
    """A full queue takes the items of waiting putters in their order."""
    queue: asyncio.Queue[int] = asyncio.Queue(1)

    putters = [asyncio.create_task(queue.put(number)) for number in range(4)]
    seen = [await queue.get() for _ in putters]
    await asyncio.wait(putters)
    assert seen == [0, 1, 2, 3]


@in_order(breaks_at="await")
async def queue_of_two_producers_alternates() -> None:
    """Producers that take turns fill the queue in turns."""
    queue: asyncio.Queue[str] = asyncio.Queue()

    async def produce(name: str) -> None:
        for number in range(2):
            queue.put_nowait(f"{name}{number}")
            await asyncio.sleep(0)

    await asyncio.gather(produce("a"), produce("b"))
    assert [queue.get_nowait() for _ in range(4)] == ["a0", "b0", "a1", "b1"]


@in_order(is_sensitive=False)
async def join_returns_after_the_last_task_done() -> None:
    """``Queue.join`` waits for the work, not for an empty queue."""
    queue: asyncio.Queue[int] = asyncio.Queue()
    seen: list[str] = []

    async def work() -> None:
        while True:
            item = await queue.get()
            await asyncio.sleep(0)
            seen.append(f"did {item}")
            queue.task_done()

    worker = asyncio.create_task(work())
    queue.put_nowait(1)
    queue.put_nowait(2)
    await queue.join()
    seen.append("joined")
    worker.cancel()
    await asyncio.wait([worker])
    assert seen == ["did 1", "did 2", "joined"]


@in_order(breaks_at="await")
async def priority_queue_gives_the_least_of_what_is_there() -> None:
    """A worker that starts after all producers gets the items sorted."""
    queue: asyncio.PriorityQueue[int] = asyncio.PriorityQueue()
    seen: list[int] = []

    async def put(number: int) -> None:
        queue.put_nowait(number)

    async def work() -> None:
        seen.extend([await queue.get() for _ in range(3)])

    await asyncio.gather(put(3), put(1), put(2), work())
    assert seen == [1, 2, 3]


@in_order(breaks_at="await")
async def stack_gives_the_newest_first() -> None:
    """``LifoQueue`` is a stack; three puts before the first get come back reversed."""
    queue: asyncio.LifoQueue[int] = asyncio.LifoQueue()

    async def put(number: int) -> None:
        queue.put_nowait(number)

    async def work() -> list[int]:
        return [await queue.get() for _ in range(3)]

    *_, seen = await asyncio.gather(put(1), put(2), put(3), work())
    assert seen == [3, 2, 1]


@in_order(breaks_at="await")
async def barrier_numbers_its_parties_by_arrival() -> None:
    """``Barrier.wait`` returns 0 to the first that came; rounds do not mix."""
    barrier = asyncio.Barrier(3)
    rounds: list[list[int]] = []

    async def meet(_: int) -> list[int]:
        return [await barrier.wait() for _ in range(2)]

    rounds.extend(await asyncio.gather(*map(meet, range(3))))
    assert [first for first, _ in rounds] == [0, 1, 2]
    assert sorted(second for _, second in rounds) == [0, 1, 2]


@in_order(breaks_at="await")
async def stream_is_read_in_the_order_it_is_fed() -> None:
    """Lines fed in halves come out whole; each is read before the next is fed."""
    reader = asyncio.StreamReader()
    seen: list[bytes] = []

    async def read() -> None:
        while line := await reader.readline():
            seen.append(line)

    async def feed() -> None:
        for number, part in enumerate((b"on", b"e\n", b"two\n")):
            reader.feed_data(part)
            await _turns(3)
            assert len(seen) == number
        reader.feed_eof()

    await asyncio.gather(read(), feed())
    assert seen == [b"one\n", b"two\n"]


@in_order(breaks_at="await")
async def hand_over_by_two_events_alternates() -> None:
    """Ping and pong by events keep step."""
    ping, pong, seen = asyncio.Event(), asyncio.Event(), list[str]()

    async def player(mine: asyncio.Event, other: asyncio.Event, word: str) -> None:
        for _ in range(2):
            await mine.wait()
            mine.clear()
            seen.append(word)
            other.set()

    async def watch() -> None:
        # Exactly as many turns as the exchange takes.
        ping.set()
        await _turns(6)
        seen.append("watch")

    await asyncio.gather(
        player(ping, pong, "ping"), player(pong, ping, "pong"), watch()
    )
    assert seen == ["ping", "pong", "ping", "pong", "watch"]
