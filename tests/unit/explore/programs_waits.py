"""Verdict cases of primitives: semaphores, conditions, barriers, queues."""

import asyncio

from test_framework.explore import Conclusion, external
from tests.unit.explore.verdict_case import case

FOUND, PROVEN = Conclusion.FOUND, Conclusion.PROVEN

# -- semaphores ----------------------------------------------------------------------


@case(FOUND, kind="assertion")
async def semaphore_of_two_is_no_lock() -> None:
    """Two at a time still lose an update."""
    slots, counter = asyncio.Semaphore(2), [0]

    async def add() -> None:
        async with slots:
            value = counter[0]
            await external("read")
            counter[0] = value + 1

    await asyncio.gather(add(), add())
    assert counter == [2]  # <- here


@case(PROVEN)
async def semaphore_of_one_is_a_lock() -> None:
    """The safe twin."""
    slots, counter = asyncio.Semaphore(1), [0]

    async def add() -> None:
        async with slots:
            value = counter[0]
            await external("read")
            counter[0] = value + 1

    await asyncio.gather(add(), add(), add())
    assert counter == [3]


@case(FOUND, kind="exception", says="ValueError")
async def bounded_semaphore_is_released_twice() -> None:
    """Released by the clean-up as well as by the work, when nobody else is inside."""
    slots = asyncio.BoundedSemaphore(2)

    async def careful() -> None:
        async with slots:
            await external("work")

    async def careless() -> None:
        await slots.acquire()
        await external("work")
        slots.release()
        slots.release()  # <- here

    await asyncio.gather(careful(), careless())


@case(FOUND, kind="deadlock", says="Semaphore slots")
async def users_take_a_slot_and_wait_for_another() -> None:
    """Each holds one of two slots and needs two."""
    slots = asyncio.Semaphore(2)

    async def take_two() -> None:
        async with slots:
            await external("work")
            async with slots:  # <- here
                pass

    await asyncio.gather(take_two(), take_two())


@case(PROVEN)
async def slots_are_taken_both_at_once() -> None:
    """The safe twin takes both under a guard."""
    slots, guard = asyncio.Semaphore(2), asyncio.Lock()

    async def take_two() -> None:
        async with guard:
            await slots.acquire()
            await external("work")
            await slots.acquire()
        slots.release()
        slots.release()

    await asyncio.gather(take_two(), take_two())


# -- conditions ----------------------------------------------------------------------


@case(FOUND, kind="deadlock", says="to be notified by Condition ready")
async def wake_up_is_lost_without_a_predicate() -> None:
    """The notification comes before the waiter."""
    ready = asyncio.Condition()

    async def wait() -> None:
        await external("prepare")
        async with ready:
            await ready.wait()  # <- here

    async def tell() -> None:
        await external("work")
        async with ready:
            ready.notify_all()

    await asyncio.gather(wait(), tell())


@case(PROVEN)
async def predicate_remembers_the_wake_up() -> None:
    """The safe twin."""
    ready, done = asyncio.Condition(), list[int]()

    async def wait() -> None:
        await external("prepare")
        async with ready:
            await ready.wait_for(lambda: bool(done))

    async def tell() -> None:
        await external("work")
        async with ready:
            done.append(1)
            ready.notify_all()

    await asyncio.gather(wait(), tell())


@case(FOUND, kind="exception", says="IndexError")
async def woken_waiter_does_not_look_again() -> None:
    """``if`` instead of ``while``: somebody else took the item meanwhile."""
    filled, items = asyncio.Condition(), list[int]()

    async def take() -> None:
        async with filled:
            if not items:
                await filled.wait()
            items.pop()  # <- here

    async def put() -> None:
        for number in range(2):
            await external("produce")
            async with filled:
                items.append(number)
                filled.notify_all()

    await asyncio.gather(take(), take(), put())


@case(PROVEN)
async def woken_waiter_looks_again() -> None:
    """The safe twin."""
    filled, items = asyncio.Condition(), list[int]()

    async def take() -> None:
        async with filled:
            while not items:
                await filled.wait()
            items.pop()

    async def put() -> None:
        for number in range(2):
            await external("produce")
            async with filled:
                items.append(number)
                filled.notify_all()

    await asyncio.gather(take(), take(), put())


@case(FOUND, kind="deadlock", says="Condition changed")
async def one_notification_wakes_the_wrong_waiter() -> None:
    """``notify()`` where two kinds wait: the one that wakes cannot use it."""
    changed, level = asyncio.Condition(), [0]

    async def wait_for_level(wanted: int) -> None:
        await external("arrive")
        async with changed:
            await changed.wait_for(lambda: level[0] >= wanted)  # <- here

    async def rise() -> None:
        await external("work")
        async with changed:
            level[0] = 1
            changed.notify()
        await external("work")
        async with changed:
            level[0] = 2
            changed.notify()

    await asyncio.gather(wait_for_level(2), wait_for_level(1), rise())


@case(PROVEN)
async def every_waiter_is_notified() -> None:
    """The safe twin."""
    changed, level = asyncio.Condition(), [0]

    async def wait_for_level(wanted: int) -> None:
        await external("arrive")
        async with changed:
            await changed.wait_for(lambda: level[0] >= wanted)

    async def rise() -> None:
        for _ in range(2):
            await external("work")
            async with changed:
                level[0] += 1
                changed.notify_all()

    await asyncio.gather(wait_for_level(2), wait_for_level(1), rise())


# -- barriers ------------------------------------------------------------------------


@case(FOUND, kind="deadlock", says="at Barrier start")
async def barrier_waits_for_a_party_too_many() -> None:
    """Three places and two parties."""
    start = asyncio.Barrier(3)

    async def meet() -> None:
        await external("arrive")
        await start.wait()  # <- here

    await asyncio.gather(meet(), meet())


@case(PROVEN)
async def barrier_lets_all_parties_go() -> None:
    """The safe twin."""
    start = asyncio.Barrier(2)

    async def meet() -> None:
        await external("arrive")
        await start.wait()

    await asyncio.gather(meet(), meet())


@case(FOUND, kind="exception", says="BrokenBarrierError")
async def barrier_is_aborted_under_its_waiters() -> None:
    """Who waits when it is aborted fails; who is through does not."""
    start = asyncio.Barrier(2)

    async def meet() -> None:
        await external("arrive")
        await start.wait()  # <- here

    async def abort() -> None:
        await external("give up")
        await start.abort()

    await asyncio.gather(meet(), meet(), abort())


# -- queues --------------------------------------------------------------------------


@case(FOUND, kind="deadlock", says="for the work of Queue jobs")
async def failed_job_is_never_done() -> None:
    """``join`` waits for a ``task_done`` that an error skipped."""
    jobs: asyncio.Queue[int] = asyncio.Queue()
    answers: list[int] = []

    async def work() -> None:
        while True:
            job = await jobs.get()
            try:
                await external("job")
                answers[job] += 1
            except IndexError:
                continue
            jobs.task_done()

    worker = asyncio.create_task(work())
    jobs.put_nowait(0)
    await external("other")
    answers.append(0)
    await jobs.join()  # <- here
    worker.cancel()
    await asyncio.wait([worker])


@case(PROVEN)
async def failed_job_is_done_as_well() -> None:
    """The safe twin."""
    jobs: asyncio.Queue[int] = asyncio.Queue()
    answers: list[int] = []

    async def work() -> None:
        while True:
            job = await jobs.get()
            try:
                await external("job")
                answers[job] += 1
            except IndexError:
                pass
            finally:
                jobs.task_done()

    worker = asyncio.create_task(work())
    jobs.put_nowait(0)
    await external("other")
    answers.append(0)
    await jobs.join()
    worker.cancel()
    await asyncio.wait([worker])


@case(FOUND, kind="deadlock", says="for an item of Queue jobs")
async def one_end_mark_for_two_workers() -> None:
    """The second worker waits for ever."""
    jobs: asyncio.Queue[int | None] = asyncio.Queue()

    async def work() -> None:
        while await jobs.get() is not None:  # <- here
            await external("job")

    for job in (1, 2, None):
        jobs.put_nowait(job)
    await asyncio.gather(work(), work())


@case(PROVEN)
async def an_end_mark_for_each_worker() -> None:
    """The safe twin."""
    jobs: asyncio.Queue[int | None] = asyncio.Queue()

    async def work() -> None:
        while await jobs.get() is not None:
            await external("job")

    for job in (1, 2, None, None):
        jobs.put_nowait(job)
    await asyncio.gather(work(), work())


@case(FOUND, kind="deadlock", says="for room in Queue jobs")
async def worker_puts_into_its_own_full_queue() -> None:
    """The only reader waits for room."""
    jobs: asyncio.Queue[int] = asyncio.Queue(1)

    async def work() -> None:
        for _ in range(3):
            job = await jobs.get()
            await external("job")
            if job == 0:
                await jobs.put(2)  # <- here

    async def produce() -> None:
        await jobs.put(0)
        await external("next")
        await jobs.put(1)

    await asyncio.gather(work(), produce())


@case(FOUND, kind="exception", says="QueueEmpty")
async def emptiness_is_old_news() -> None:
    """``empty()`` was asked before an await."""
    jobs: asyncio.Queue[int] = asyncio.Queue()
    jobs.put_nowait(1)

    async def take() -> None:
        if not jobs.empty():
            await external("log")
            jobs.get_nowait()  # <- here

    await asyncio.gather(take(), take())


@case(PROVEN)
async def emptiness_is_asked_in_the_same_turn() -> None:
    """The safe twin."""
    jobs: asyncio.Queue[int] = asyncio.Queue()
    jobs.put_nowait(1)

    async def take() -> None:
        await external("log")
        if not jobs.empty():
            jobs.get_nowait()

    await asyncio.gather(take(), take())


@case(FOUND, kind="assertion")
async def replies_are_matched_by_their_order() -> None:
    """A shared queue of replies, and requests that end in any order."""
    replies: asyncio.Queue[int] = asyncio.Queue()

    async def serve(user: int) -> None:
        await external("query")
        replies.put_nowait(user)

    async def ask(user: int) -> None:
        server = asyncio.create_task(serve(user))
        reply = await replies.get()
        await server
        assert reply == user  # <- here

    await asyncio.gather(ask(0), ask(1))


@case(PROVEN)
async def replies_are_matched_by_their_request() -> None:
    """The safe twin has a queue for each user."""

    async def ask(user: int) -> None:
        replies: asyncio.Queue[int] = asyncio.Queue()

        async def serve() -> None:
            await external("query")
            replies.put_nowait(user)

        server = asyncio.create_task(serve())
        assert await replies.get() == user
        await server

    await asyncio.gather(ask(0), ask(1))
