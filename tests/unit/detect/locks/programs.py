"""Small programs that deadlock, or could, each beside a sibling that never does."""

import asyncio
from collections import defaultdict


async def use_both(
    first: asyncio.Lock, second: asyncio.Lock, *, turns: int = 1
) -> None:
    """Hold one lock and take another."""
    async with first:
        for _ in range(turns):
            await asyncio.sleep(0)
        async with second:
            pass


async def crosswise_at_once() -> None:
    """Two tasks take two locks in opposite orders, and meet in between."""
    accounts, orders = asyncio.Lock(), asyncio.Lock()
    await asyncio.gather(use_both(accounts, orders), use_both(orders, accounts))


async def same_way_at_once() -> None:
    """Two tasks take two locks in one order."""
    accounts, orders = asyncio.Lock(), asyncio.Lock()
    await asyncio.gather(use_both(accounts, orders), use_both(accounts, orders))


async def crosswise_in_turn() -> None:
    """Two tasks take two locks in opposite orders, one after the other."""
    accounts, orders = asyncio.Lock(), asyncio.Lock()
    await asyncio.create_task(use_both(accounts, orders))
    await asyncio.create_task(use_both(orders, accounts))


async def crosswise_by_one_task() -> None:
    """One task takes two locks in both orders; it cannot meet itself."""
    accounts, orders = asyncio.Lock(), asyncio.Lock()
    await use_both(accounts, orders)
    await use_both(orders, accounts)


async def crosswise_by_each_of_two() -> None:
    """Two tasks take two locks in both orders, one task after the other."""
    accounts, orders = asyncio.Lock(), asyncio.Lock()

    async def both_ways() -> None:
        await use_both(accounts, orders)
        await use_both(orders, accounts)

    await asyncio.create_task(both_ways())
    await asyncio.create_task(both_ways())


async def same_way_in_turn() -> None:
    """Two tasks take two locks in one order, one after the other."""
    accounts, orders = asyncio.Lock(), asyncio.Lock()
    await asyncio.create_task(use_both(accounts, orders))
    await asyncio.create_task(use_both(accounts, orders))


async def crosswise_under_a_gate() -> None:
    """Opposite orders, but one lock around both lets in one task at a time."""
    gate, accounts, orders = asyncio.Lock(), asyncio.Lock(), asyncio.Lock()

    async def guarded(first: asyncio.Lock, second: asyncio.Lock) -> None:
        async with gate:
            await use_both(first, second)

    await asyncio.gather(guarded(accounts, orders), guarded(orders, accounts))


async def crosswise_under_two_gates() -> None:
    """Opposite orders under different gates, which guard nothing."""
    accounts, orders = asyncio.Lock(), asyncio.Lock()

    async def guarded(first: asyncio.Lock, second: asyncio.Lock) -> None:
        async with asyncio.Lock():
            await use_both(first, second)

    await asyncio.create_task(guarded(accounts, orders))
    await asyncio.create_task(guarded(orders, accounts))


async def three_in_a_ring() -> None:
    """Three tasks in turn take three locks in a ring; no pair is reversed."""
    one, two, three = asyncio.Lock(), asyncio.Lock(), asyncio.Lock()
    for first, second in ((one, two), (two, three), (three, one)):
        await asyncio.create_task(use_both(first, second))


async def three_in_a_row() -> None:
    """Three tasks in turn take three locks in one order."""
    one, two, three = asyncio.Lock(), asyncio.Lock(), asyncio.Lock()
    for first, second in ((one, two), (two, three), (one, three)):
        await asyncio.create_task(use_both(first, second))


async def take_again() -> None:
    """A task takes a lock that it holds."""
    lock = asyncio.Lock()
    async with lock, lock:
        pass


async def take_again_after_a_release_in_store() -> None:
    """A task waits for its own lock, which a callback is going to release."""
    lock = asyncio.Lock()
    await lock.acquire()
    asyncio.get_running_loop().call_soon(lock.release)
    async with lock:
        pass


async def take_again_after_a_release_by_a_timer() -> None:
    """The same with a timer, whose function knows the lock."""
    lock = asyncio.Lock()
    await lock.acquire()

    def open_it() -> None:
        lock.release()

    asyncio.get_running_loop().call_later(0.001, open_it)
    await lock.acquire()
    lock.release()


async def take_again_after_the_end_of_a_task() -> None:
    """The same with a callback of a task."""
    lock = asyncio.Lock()
    await lock.acquire()
    work = asyncio.create_task(asyncio.sleep(0.001))
    work.add_done_callback(lambda _: lock.release())
    async with lock:
        pass


async def take_again_after_a_hand_over() -> None:
    """The same with a task that nobody can know to release it."""
    lock = asyncio.Lock()
    await lock.acquire()

    async def open_it() -> None:
        await asyncio.sleep(0.001)
        lock.release()

    opener = asyncio.create_task(open_it())
    async with lock:
        pass
    await opener


async def take_in_turn() -> None:
    """A task takes a lock twice, one after the other."""
    lock = asyncio.Lock()
    async with lock:
        pass
    async with lock:
        pass


async def last_permit_twice() -> None:
    """A task with the only permit asks for another one."""
    permits = asyncio.Semaphore(1)
    async with permits, permits:
        pass


async def nest_permits(permits: asyncio.Semaphore) -> None:
    """Take a permit and, after a step, another one."""
    async with permits:
        await asyncio.sleep(0)
        async with permits:
            pass


async def permits_nested_alone() -> None:
    """One task takes two of three permits; three such tasks would hang."""
    await nest_permits(asyncio.Semaphore(3))


async def permits_exhausted() -> None:
    """Three tasks have all three permits, and each asks for another one."""
    permits = asyncio.Semaphore(3)
    await asyncio.gather(*(nest_permits(permits) for _ in range(3)))


async def permits_in_turn() -> None:
    """Six tasks share three permits, one each."""
    permits = asyncio.Semaphore(3)

    async def work() -> None:
        async with permits:
            await asyncio.sleep(0)

    await asyncio.gather(*(work() for _ in range(6)))


async def permit_then_lock_crosswise() -> None:
    """A permit is taken under a lock, and the lock under a permit."""
    permits, lock = asyncio.Semaphore(2), asyncio.Lock()

    async def lock_first() -> None:
        async with lock, permits:
            pass

    async def permit_first() -> None:
        async with permits, lock:
            pass

    await asyncio.create_task(lock_first())
    await asyncio.create_task(permit_first())


async def permit_then_lock() -> None:
    """A permit is always taken before the lock."""
    permits, lock = asyncio.Semaphore(2), asyncio.Lock()

    async def permit_first() -> None:
        async with permits, lock:
            await asyncio.sleep(0)

    await asyncio.gather(*(permit_first() for _ in range(4)))


async def semaphore_as_a_signal() -> None:
    """One task waits on a semaphore that another one opens, under a lock."""
    opened, lock = asyncio.Semaphore(0), asyncio.Lock()

    async def waiter() -> None:
        async with lock:
            await opened.acquire()

    async def opener() -> None:
        await asyncio.sleep(0)
        opened.release()

    await asyncio.gather(waiter(), opener())
    await asyncio.gather(waiter(), opener())


async def permit_handed_to_a_callback() -> None:
    """A permit is taken before a task is started and given back when it ends."""
    permits = asyncio.Semaphore(2)

    async def work() -> None:
        await asyncio.sleep(0)

    tasks = []
    for _ in range(5):
        await permits.acquire()
        task = asyncio.create_task(work())
        task.add_done_callback(lambda _: permits.release())
        tasks.append(task)
    await asyncio.gather(*tasks)


async def child_awaited_under_lock() -> None:
    """A task holds a lock and awaits a task that needs it."""
    lock = asyncio.Lock()
    async with lock:
        await asyncio.create_task(take(lock), name="child")


async def child_gathered_under_lock() -> None:
    """A task holds a lock and gathers children, one of which needs it."""
    lock = asyncio.Lock()
    async with lock:
        await asyncio.gather(asyncio.sleep(0), take(lock))


async def child_grouped_under_lock() -> None:
    """A task holds a lock and leaves a group of which one task needs it."""
    lock = asyncio.Lock()
    async with lock, asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(0))
        group.create_task(take(lock))


async def child_waited_for_under_lock() -> None:
    """A task holds a lock and waits, for an hour at most, for a task that needs it."""
    lock = asyncio.Lock()
    async with lock:
        await asyncio.wait_for(asyncio.create_task(take(lock)), 3600)


async def child_in_a_set_under_lock() -> None:
    """A task holds a lock and waits for all of a set of which one needs it."""
    lock = asyncio.Lock()
    async with lock:
        await asyncio.wait([asyncio.create_task(take(lock))])


async def child_blocked_before_it_is_awaited() -> None:
    """The child blocks first; the circle closes when its parent awaits it."""
    lock = asyncio.Lock()
    async with lock:
        child = asyncio.create_task(take(lock))
        for _ in range(3):
            await asyncio.sleep(0)
        await child


async def grandchild_under_lock() -> None:
    """A task holds a lock and awaits a child whose own child needs it."""
    lock = asyncio.Lock()

    async def child() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(take(lock))

    async with lock:
        await asyncio.gather(child())


async def take(lock: asyncio.Lock) -> None:
    """Take a lock and give it back."""
    async with lock:
        await asyncio.sleep(0)


async def child_seen_to_wait_under_lock() -> None:
    """A look at a child that needs the lock, and not a wait until it has ended."""
    lock = asyncio.Lock()
    async with lock:
        child = asyncio.create_task(take(lock))
        _, pending = await asyncio.wait([child], timeout=0.01)
    assert pending == {child}
    await child


async def child_awaited_after_lock() -> None:
    """The lock is given back before its children are awaited."""
    lock = asyncio.Lock()
    async with lock:
        child = asyncio.create_task(take(lock))
        await asyncio.sleep(0)
    await child
    async with asyncio.TaskGroup() as group:
        group.create_task(take(lock))
        group.create_task(take(lock))


async def first_child_suffices() -> None:
    """A child needs the lock of its parent, who goes on when another one is done."""
    lock = asyncio.Lock()

    async def brief() -> None:
        for _ in range(4):
            await asyncio.sleep(0)

    async with lock:
        await asyncio.wait(
            [asyncio.create_task(take(lock)), asyncio.create_task(brief())],
            return_when=asyncio.FIRST_COMPLETED,
        )


async def queue_fills_itself() -> None:
    """The only consumer of a bounded queue puts more into it than it holds."""
    queue: asyncio.Queue[int] = asyncio.Queue(2)
    await queue.put(0)
    for _ in range(4):
        depth = await queue.get()
        await queue.put(depth + 1)
        await queue.put(depth + 1)


async def queues_fill_each_other() -> None:
    """Two workers each put into the other's full queue."""
    left: asyncio.Queue[int] = asyncio.Queue(1)
    right: asyncio.Queue[int] = asyncio.Queue(1)

    async def pump(
        source: asyncio.Queue[int], sink: asyncio.Queue[int], *, copies: int
    ) -> None:
        while True:
            item = await source.get()
            for _ in range(copies):
                await sink.put(item)

    async with asyncio.TaskGroup() as group:
        group.create_task(pump(left, right, copies=2))
        group.create_task(pump(right, left, copies=2))
        await left.put(1)


async def queue_drained_by_another() -> None:
    """A producer outruns a bounded queue that a consumer drains."""
    queue: asyncio.Queue[int] = asyncio.Queue(1)

    async def consume() -> None:
        for _ in range(8):
            await queue.get()
            queue.task_done()

    consumer = asyncio.create_task(consume())
    for item in range(8):
        await queue.put(item)
    await queue.join()
    await consumer


async def worker_with_nothing_to_do() -> None:
    """A worker that feeds itself waits for more, as it should; so does another."""
    queue: asyncio.Queue[int] = asyncio.Queue()

    async def work() -> None:
        while True:
            if await queue.get():
                await queue.put(0)

    await queue.put(1)
    worker = asyncio.create_task(work())
    other: asyncio.Queue[int] = asyncio.Queue(1)
    await asyncio.gather(worker, other.get())


async def reader_becomes_writer() -> None:
    """A reader waits until all readers have gone, and is one."""
    changed, readers = asyncio.Condition(), 0

    async with changed:
        readers += 1
    async with changed:
        await changed.wait_for(lambda: readers == 0)


async def readers_and_writers() -> None:
    """Readers share, writers are alone, on one condition."""
    changed, readers, writing = asyncio.Condition(), 0, False

    async def read() -> None:
        nonlocal readers
        async with changed:
            await changed.wait_for(lambda: not writing)
            readers += 1
        await asyncio.sleep(0)
        async with changed:
            readers -= 1
            changed.notify_all()

    async def write() -> None:
        nonlocal writing
        async with changed:
            await changed.wait_for(lambda: not writing and readers == 0)
            writing = True
        await asyncio.sleep(0)
        async with changed:
            writing = False
            changed.notify_all()

    await asyncio.gather(read(), write(), read(), write(), read())


async def readers_and_writers_crosswise() -> None:
    """A reader waits for its turn under a lock that the writer needs to end."""
    lock, changed, writing = asyncio.Lock(), asyncio.Condition(), True

    async def read() -> None:
        async with changed, lock:
            await changed.wait_for(lambda: not writing)

    async def write() -> None:
        nonlocal writing
        await asyncio.sleep(0)
        async with lock, changed:
            writing = False
            changed.notify_all()

    await asyncio.gather(read(), write())


async def barrier_behind_a_lock() -> None:
    """One waits at a barrier with the lock that the other needs to get there."""
    barrier, lock = asyncio.Barrier(2), asyncio.Lock()

    async def meet() -> None:
        async with lock:
            await barrier.wait()

    await asyncio.gather(meet(), meet())


async def barrier_before_a_lock() -> None:
    """Both meet at the barrier and take the lock afterwards."""
    barrier, lock = asyncio.Barrier(2), asyncio.Lock()

    async def meet() -> None:
        await barrier.wait()
        async with lock:
            await asyncio.sleep(0)

    await asyncio.gather(meet(), meet())


async def event_never_set() -> None:
    """A task waits under a lock for an event that its setter sets under the lock."""
    lock, ready = asyncio.Lock(), asyncio.Event()

    async def waiter() -> None:
        async with lock:
            await ready.wait()

    async def setter() -> None:
        async with lock:
            ready.set()

    await asyncio.gather(waiter(), setter())


async def event_set_in_time() -> None:
    """A task waits for an event outside of the lock of its setter."""
    lock, ready = asyncio.Lock(), asyncio.Event()

    async def waiter() -> None:
        await ready.wait()
        async with lock:
            pass

    async def setter() -> None:
        async with lock:
            ready.set()

    await asyncio.gather(waiter(), setter())


async def accounts_crosswise() -> None:
    """Two transfers lock the same two accounts of one class in opposite orders."""
    alice, bob = _Account(), _Account()
    await asyncio.create_task(use_both(alice.lock, bob.lock))
    await asyncio.create_task(use_both(bob.lock, alice.lock))


class _Account:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()


async def locks_of_a_table_sorted() -> None:
    """Locks that are made where they are taken are always taken in order of name."""
    locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def transfer(payer: str, payee: str) -> None:
        first, second = sorted((payer, payee))
        async with locks[first]:
            await asyncio.sleep(0)
            async with locks[second]:
                pass

    names = ("alice", "bob", "carol", "dave")
    await asyncio.gather(*(transfer(a, b) for a in names for b in names if a != b))


async def locks_of_a_table_unsorted() -> None:
    """Locks that are made where they are taken are taken as they come."""
    locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def transfer(payer: str, payee: str) -> None:
        async with locks[payer]:
            await asyncio.sleep(0)
            async with locks[payee]:
                pass

    await asyncio.create_task(transfer("alice", "bob"))
    await asyncio.create_task(transfer("bob", "alice"))


async def rooms_and_users_crosswise() -> None:
    """Room before user here, user before room there, each time other ones."""
    rooms, users = [_Room(), _Room()], [_User(), _User()]
    await asyncio.create_task(use_both(rooms[0].lock, users[0].lock))
    await asyncio.create_task(use_both(users[1].lock, rooms[1].lock))


class _Room:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()


class _User:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()


async def released_by_a_stranger() -> None:
    """A task releases the lock of another one, which then releases nobody's."""
    lock = asyncio.Lock()

    async def owner() -> None:
        await lock.acquire()
        await asyncio.sleep(0)

    async def stranger() -> None:
        lock.release()

    await asyncio.gather(owner(), stranger())


async def ends_with_its_lock() -> None:
    """A task ends before it releases its lock."""
    lock = asyncio.Lock()

    async def forget() -> None:
        await lock.acquire()

    await asyncio.create_task(forget())


async def waits_for_an_ended_task() -> None:
    """A task waits for a lock whose holder has ended."""
    lock = asyncio.Lock()

    async def forget() -> None:
        await lock.acquire()

    await asyncio.create_task(forget())
    await take(lock)


async def acquired_with_a_timeout() -> None:
    """Locks are acquired through wait_for, which may take a task of its own to do it."""
    lock, other = asyncio.Lock(), asyncio.Lock()

    async def work() -> None:
        await asyncio.wait_for(lock.acquire(), 3600)
        try:
            await asyncio.sleep(0)
            async with other:
                pass
        finally:
            lock.release()

    await asyncio.gather(work(), work(), work())
    waiting = asyncio.create_task(lock.acquire())
    await waiting
    lock.release()


async def crosswise_with_a_timeout() -> None:
    """Two tasks take two locks crosswise, each through wait_for."""
    accounts, orders = asyncio.Lock(), asyncio.Lock()

    async def work(first: asyncio.Lock, second: asyncio.Lock) -> None:
        await asyncio.wait_for(first.acquire(), 3600)
        try:
            await asyncio.sleep(0)
            await asyncio.wait_for(second.acquire(), 3600)
            second.release()
        finally:
            first.release()

    await asyncio.gather(work(accounts, orders), work(orders, accounts))


async def cancelled_while_waiting() -> None:
    """A task is cancelled while it waits, and the lock goes to the next one."""
    lock = asyncio.Lock()
    async with lock:
        waiting = [asyncio.create_task(take(lock)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
    await asyncio.gather(*waiting, return_exceptions=True)


async def asked_for_at_the_hand_over() -> None:
    """A task asks for a free lock that another one was just woken for."""
    lock, other = asyncio.Lock(), asyncio.Lock()
    async with other:
        await lock.acquire()
        waiting = asyncio.create_task(use_both(lock, other))
        await asyncio.sleep(0)
        lock.release()
        async with lock:
            pass
    await waiting


async def holder_that_waited_before() -> None:
    """A task got the lock that it waited for, and works under it for long."""
    lock = asyncio.Lock()

    async def work() -> None:
        async with lock:
            await asyncio.Event().wait()

    async with lock:
        working = asyncio.create_task(work())
        await asyncio.sleep(0)
    await working


async def worker_that_feeds_itself() -> None:
    """A worker waits for items that it alone has brought so far."""
    queue: asyncio.Queue[int] = asyncio.Queue()
    await queue.put(1)
    while True:
        if await queue.get():
            await queue.put(0)
