"""Cases by which somebody once got a wrong verdict out of the explorer."""

import asyncio
import contextlib
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from test_framework.explore import Conclusion, Scenario, external
from tests.unit.explore.verdict_case import case

FOUND, PROVEN = Conclusion.FOUND, Conclusion.PROVEN
INCONCLUSIVE = Conclusion.INCONCLUSIVE
State = dict[str, Any]


@case(FOUND, kind="exception", cancel="user*", says="TimeoutError")
async def timeout_after_a_cancelled_user() -> None:
    """A timeout is no consequence of the cancellation: the slot is lost for good."""
    slots = asyncio.Semaphore(1)

    async def borrow() -> None:
        await slots.acquire()
        await external("query")
        slots.release()

    user = asyncio.create_task(borrow(), name="user")
    await asyncio.wait([user])
    async with asyncio.timeout(30):  # <- here
        await slots.acquire()


@case(PROVEN, cancel="user*")
async def timeout_after_a_careful_user() -> None:
    """The safe twin."""
    slots = asyncio.Semaphore(1)

    async def borrow() -> None:
        async with slots:
            await external("query")

    user = asyncio.create_task(borrow(), name="user")
    await asyncio.wait([user])
    async with asyncio.timeout(30):
        await slots.acquire()


@case(FOUND, kind="exception", says="cancelled from inside")
def shared_fetch_dies_with_one_who_waits() -> Scenario[State]:
    """``wait_for`` of one user cancels what the other one awaits."""

    async def get(inflight: State, _: int) -> None:
        if "key" not in inflight:
            inflight["key"] = asyncio.create_task(external("fetch"))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(inflight["key"], 1)

    return Scenario(dict, get)


@case(PROVEN)
def shared_fetch_is_shielded() -> Scenario[State]:
    """The safe twin."""

    async def get(inflight: State, _: int) -> None:
        if "key" not in inflight:
            inflight["key"] = asyncio.create_task(external("fetch"))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(inflight["key"]), 1)

    async def get_all(inflight: State, user: int) -> None:
        await get(inflight, user)
        await inflight["key"]

    return Scenario(dict, get_all)


@case(PROVEN)
async def lease_ends_after_many_ticks() -> None:
    """Whoever ticks eleven thousand times and then wakes the others is waited for."""
    over = asyncio.Event()

    async def watch() -> None:
        for _ in range(11_000):
            await asyncio.sleep(0.1)
        over.set()

    task = asyncio.create_task(watch())
    await over.wait()
    await task


@case(PROVEN)
async def queued_job_that_is_cancelled_never_runs() -> None:
    """The only worker is busy; what waits for it can be taken back."""
    ran: list[str] = []
    worker, loop = ThreadPoolExecutor(1), asyncio.get_running_loop()
    first = loop.run_in_executor(worker, ran.append, "first")
    second = loop.run_in_executor(worker, ran.append, "second")
    second.cancel()
    await first
    await asyncio.sleep(1)
    assert ran == ["first"]


@case(PROVEN)
async def overdue_timers_come_in_their_order() -> None:
    """Of two deadlines in the past the earlier one comes first."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(1)
    seen, now = list[str](), loop.time()
    loop.call_at(now - 0.1, seen.append, "second")
    loop.call_at(now - 0.5, seen.append, "first")
    await asyncio.sleep(0.01)
    assert seen == ["first", "second"]


@case(PROVEN)
async def endless_sleep_never_ends() -> None:
    """``sleep(inf)`` is how a keeper stays until it is cancelled."""

    async def keep() -> None:
        await asyncio.sleep(math.inf)
        raise RuntimeError("unreachable")

    keeper = asyncio.create_task(keep())
    await external("work")
    keeper.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await keeper


@case(INCONCLUSIVE, fidelity="await", says="has not given up control")
async def job_never_ends() -> None:
    """A job that blocks is one step that never ends, at every fidelity."""
    event = threading.Event()

    def work() -> None:
        event.wait()  # <- here

    await asyncio.to_thread(work)


_LOCK = asyncio.Lock()


@case(INCONCLUSIVE, fidelity="await", says="made outside of the scenario")
async def lock_is_made_outside() -> None:
    """A lock of the module has met the loop of another run."""

    async def hold() -> None:
        async with _LOCK:  # <- here
            await external("work")

    await asyncio.gather(hold(), hold())


_CACHE: dict[str, int] = {}


@case(INCONCLUSIVE, fidelity="await", says="make all state inside of the scenario")
async def cache_is_warm_in_the_second_run() -> None:
    """What the first run loads hides the race of the second."""

    async def get() -> None:
        if "key" not in _CACHE:
            await asyncio.sleep(0)  # <- here
            _CACHE["key"] = 1

    await asyncio.gather(get(), get())


@case(PROVEN)
async def clock_is_not_near_zero() -> None:
    """Programs take a time of zero for "never"."""
    assert asyncio.get_running_loop().time() > 3_600


@case(PROVEN, errors=("OSError",))
async def answer_of_another_task_does_not_fail() -> None:
    """A future that a task sets is not of the world outside."""
    answer = asyncio.get_running_loop().create_future()

    async def read() -> None:
        with contextlib.suppress(OSError):
            await external("socket")
        answer.set_result(1)

    task = asyncio.create_task(read())
    await answer
    await task
