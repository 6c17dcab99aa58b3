"""Verdict cases of deadlocks: locks, events, futures, tasks that wait in a ring."""

import asyncio

from test_framework.explore import Conclusion, external
from tests.unit.explore.verdict_case import case

FOUND, PROVEN = Conclusion.FOUND, Conclusion.PROVEN


# -- deadlocks -----------------------------------------------------------------------


@case(FOUND, kind="deadlock", says=("forth[0] -> back[0] -> forth[0]", "held by"))
async def locks_are_taken_crosswise() -> None:
    """Two locks in two orders."""
    first, second = asyncio.Lock(), asyncio.Lock()

    async def forth() -> None:
        async with first:
            await external("a")
            async with second:  # <- here
                pass

    async def back() -> None:
        async with second:
            await external("b")
            async with first:  # <- here
                pass

    await asyncio.gather(forth(), back())


@case(PROVEN)
async def locks_are_taken_in_one_order() -> None:
    """The safe twin."""
    first, second = asyncio.Lock(), asyncio.Lock()

    async def both() -> None:
        async with first:
            await external("a")
            async with second:
                pass

    await asyncio.gather(both(), both())


@case(FOUND, kind="deadlock", says="Lock lock")
async def lock_is_taken_twice_by_one_task() -> None:
    """``asyncio.Lock`` is not re-entrant."""
    lock = asyncio.Lock()

    async def outer() -> None:
        async with lock:
            await external("a")
            async with lock:  # <- here
                pass

    await asyncio.gather(outer())


@case(FOUND, kind="deadlock", says=("for the event", "no particular order"))
async def event_is_never_set() -> None:
    """No order is needed, and the report says so."""
    event = asyncio.Event()
    await event.wait()  # <- here


@case(FOUND, kind="deadlock", says="Event ready")
async def event_is_cleared_too_late() -> None:
    """The clear erases a set that came before it."""
    ready = asyncio.Event()

    async def tell() -> None:
        await external("tell")
        ready.set()

    async def wait() -> None:
        await external("prepare")
        ready.clear()
        await ready.wait()  # <- here

    await asyncio.gather(tell(), wait())


@case(PROVEN)
async def event_is_cleared_in_time() -> None:
    """The safe twin clears before anybody can set."""
    ready = asyncio.Event()

    async def tell() -> None:
        await external("tell")
        ready.set()

    async def wait() -> None:
        ready.clear()
        await external("prepare")
        await ready.wait()

    await asyncio.gather(wait(), tell())


@case(FOUND, kind="deadlock", says=("a -> b -> a", "for b", "for a"))
async def two_tasks_wait_for_each_other() -> None:
    """The ring is named."""
    tasks: dict[str, asyncio.Task[None]] = {}

    async def wait_for_other(name: str) -> None:
        await external("prepare")
        await tasks[name]  # <- here

    tasks["a"] = asyncio.create_task(wait_for_other("b"), name="a")
    tasks["b"] = asyncio.create_task(wait_for_other("a"), name="b")
    await asyncio.wait(tasks.values())


@case(FOUND, kind="deadlock", says="a future that nobody completes")
async def future_is_never_answered() -> None:
    """The reply of one user goes to another, whose own is never answered."""
    waiting: list[asyncio.Future[str]] = []
    loop = asyncio.get_running_loop()

    async def ask() -> str:
        reply: asyncio.Future[str] = loop.create_future()
        waiting.append(reply)
        await external("send")
        return await reply  # <- here

    async def answer() -> None:
        await external("receive")
        for reply in waiting[:1]:
            reply.set_result("for both")

    await asyncio.gather(ask(), ask(), answer())


@case(FOUND, kind="deadlock", says="Lock lock")
async def heartbeat_does_not_hide_a_deadlock() -> None:
    """Time goes on, and nothing else can."""
    lock = asyncio.Lock()

    async def beat() -> None:
        while True:  # noqa: ASYNC110  # a heartbeat
            await asyncio.sleep(1)

    heart = asyncio.create_task(beat())
    async with lock:
        await external("a")
        async with lock:  # <- here
            heart.cancel()


@case(PROVEN)
async def heartbeat_ends_with_its_work() -> None:
    """The safe twin."""

    async def beat() -> None:
        while True:  # noqa: ASYNC110  # a heartbeat
            await asyncio.sleep(1)

    heart = asyncio.create_task(beat())
    await asyncio.gather(asyncio.sleep(3), asyncio.sleep(0))
    heart.cancel()
    await asyncio.wait([heart])
