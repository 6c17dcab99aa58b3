"""Verdict cases of threads, streams, async generators, contexts and eager tasks."""

import asyncio
import contextlib
import contextvars
import time
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from test_framework.explore import Conclusion, external
from tests.unit.explore.verdict_case import case

FOUND, PROVEN = Conclusion.FOUND, Conclusion.PROVEN

# -- executors -----------------------------------------------------------------------


@case(FOUND, kind="assertion", says="Executor jobs ran as one step each")
async def update_through_threads_is_lost() -> None:
    """Read in one job, written in another."""
    counter = [0]

    async def add() -> None:
        value = await asyncio.to_thread(counter.__getitem__, 0)
        await asyncio.to_thread(counter.__setitem__, 0, value + 1)

    await asyncio.gather(add(), add())
    assert counter == [2]  # <- here


@case(PROVEN, says="races between threads are not explored")
async def update_in_one_job_is_not_lost() -> None:
    """The safe twin, with a note of what that does not say."""
    counter = [0]

    def add() -> None:
        counter[0] += 1

    await asyncio.gather(asyncio.to_thread(add), asyncio.to_thread(add))
    assert counter == [2]


@case(PROVEN)
async def job_may_sleep_in_its_thread() -> None:
    """``time.sleep`` in a thread stops nobody: the very example of ``to_thread``."""

    def work() -> None:
        time.sleep(0.001)  # noqa: TID251  # in a thread

    await asyncio.gather(asyncio.to_thread(work), external("other"))


@case(FOUND, kind="assertion")
async def job_ends_in_the_middle_of_a_turn() -> None:
    """A thread queues its result between two steps of one turn.

    So who waits for it goes on between two tasks that take turns; on plain asyncio this
    fails two times of three when the second task is as slow as the job.
    """
    is_high = [False]

    async def rise() -> None:
        for _ in range(4):
            is_high[0] = True
            await asyncio.sleep(0)

    async def fall() -> None:
        for _ in range(4):
            is_high[0] = False
            await asyncio.sleep(0)

    async def look() -> None:
        await asyncio.to_thread(str)
        assert not is_high[0]  # <- here

    await asyncio.gather(rise(), fall(), look())


@case(PROVEN)
async def job_ends_after_what_was_queued_before_it() -> None:
    """The thread cannot call in before what waited in the queue when its job began."""
    is_high = [True]

    def fall() -> None:
        is_high[0] = False

    loop = asyncio.get_running_loop()
    loop.call_soon(loop.call_soon, fall)
    await asyncio.to_thread(str)
    assert not is_high[0]


@case(FOUND, kind="assertion")
async def job_ends_before_what_was_queued_after_it() -> None:
    """The twin that begins the job first: its thread may be quick or slow."""
    is_high = [True]

    def fall() -> None:
        is_high[0] = False

    loop = asyncio.get_running_loop()
    job = asyncio.ensure_future(loop.run_in_executor(None, str))
    loop.call_soon(loop.call_soon, fall)
    await job
    assert not is_high[0]  # <- here


@case(PROVEN)
async def answer_comes_between_two_turns() -> None:
    """The selector is asked between turns, so an answer does not split one."""
    is_high = [False]

    async def rise() -> None:
        for _ in range(4):
            is_high[0] = True
            await asyncio.sleep(0)

    async def fall() -> None:
        for _ in range(4):
            is_high[0] = False
            await asyncio.sleep(0)

    async def look() -> None:
        await external("socket")
        assert not is_high[0]

    await asyncio.gather(rise(), fall(), look())


@case(FOUND, kind="exception", says="ZeroDivisionError")
async def job_fails_in_some_orders() -> None:
    """An exception in a job reaches who awaits it, and its line is named."""
    shares = [1]

    def split() -> int:
        return 1 // shares[0]  # <- here

    async def take() -> None:
        await external("take")
        shares[0] -= 1

    await asyncio.gather(asyncio.to_thread(split), take())


@case(FOUND, kind="loop-error", says="never retrieved")
async def job_that_nobody_awaits_fails() -> None:
    """The exception of a forgotten job is told to the loop."""

    def fail() -> None:
        raise OSError("disk")  # <- here

    asyncio.get_running_loop().run_in_executor(None, fail)
    await asyncio.gather(external("a"), external("b"))


@case(PROVEN)
async def jobs_of_a_single_worker_run_in_their_order() -> None:
    """An executor of one thread serves its queue first in, first out."""
    seen: list[int] = []
    worker = ThreadPoolExecutor(max_workers=1)
    loop = asyncio.get_running_loop()
    await asyncio.gather(
        *(loop.run_in_executor(worker, seen.append, number) for number in range(3))
    )
    assert seen == [0, 1, 2]


@case(FOUND, kind="assertion")
async def jobs_of_two_workers_run_in_any_order() -> None:
    """The vulnerable twin."""
    seen: list[int] = []
    workers = ThreadPoolExecutor(max_workers=2)
    loop = asyncio.get_running_loop()
    await asyncio.gather(
        *(loop.run_in_executor(workers, seen.append, number) for number in range(3))
    )
    assert seen == [0, 1, 2]  # <- here


@case(FOUND, kind="assertion")
async def context_is_not_carried_into_an_executor() -> None:
    """``run_in_executor`` runs its job without the context of the caller."""
    user = contextvars.ContextVar("user", default="nobody")
    user.set("alice")
    seen = await asyncio.get_running_loop().run_in_executor(None, user.get)
    assert seen == "alice"  # <- here


@case(PROVEN)
async def context_is_carried_into_a_thread() -> None:
    """``to_thread`` does."""
    user = contextvars.ContextVar("user", default="nobody")
    user.set("alice")
    assert await asyncio.to_thread(user.get) == "alice"


# -- streams -------------------------------------------------------------------------


@case(FOUND, kind="exception", says="another coroutine is already waiting")
async def two_tasks_read_one_stream() -> None:
    """``StreamReader`` has room for one waiter."""
    reader = asyncio.StreamReader()

    async def read() -> None:
        await external("prepare")
        await reader.readline()  # <- here

    async def feed() -> None:
        for line in (b"one\n", b"two\n"):
            await external("network")
            reader.feed_data(line)

    await asyncio.gather(read(), read(), feed())


@case(PROVEN)
async def two_tasks_read_one_stream_under_a_lock() -> None:
    """The safe twin."""
    reader, lock = asyncio.StreamReader(), asyncio.Lock()

    async def read() -> None:
        await external("prepare")
        async with lock:
            await reader.readline()

    async def feed() -> None:
        await external("network")
        reader.feed_data(b"one\ntwo\n")

    await asyncio.gather(read(), read(), feed())


@case(FOUND, kind="assertion")
async def lines_of_a_stream_go_to_the_wrong_user() -> None:
    """Requests are sent in one order and lines read in another."""
    reader, lock = asyncio.StreamReader(), asyncio.Lock()

    async def ask(user: int) -> None:
        await external("send")
        reader.feed_data(b"%d\n" % user)
        await external("wait")
        async with lock:
            line = await reader.readline()
        assert line == b"%d\n" % user  # <- here

    await asyncio.gather(ask(0), ask(1))


@case(FOUND, kind="exception", says="IncompleteReadError")
async def stream_ends_before_the_frame() -> None:
    """The peer closes while half a frame is there."""
    reader = asyncio.StreamReader()

    async def feed() -> None:
        reader.feed_data(b"ab")
        await external("network")
        if not reader.at_eof():
            reader.feed_data(b"cd")

    async def close() -> None:
        await external("close")
        reader.feed_eof()

    async def read() -> None:
        assert await reader.readexactly(4) == b"abcd"  # <- here

    async def network() -> None:
        # Whoever feeds after the end meets an assertion of asyncio.
        with contextlib.suppress(AssertionError):
            await asyncio.gather(feed(), close())

    await asyncio.gather(read(), network())


# -- async generators ----------------------------------------------------------------


@case(FOUND, kind="exception", says="asynchronous generator is already running")
async def two_tasks_iterate_one_generator() -> None:
    """``anext`` while another one runs."""

    async def items() -> AsyncIterator[int]:
        for number in range(4):
            await external("page")
            yield number

    shared = items()

    async def read() -> None:
        await external("prepare")
        await anext(shared)  # <- here

    await asyncio.gather(read(), read())


@case(PROVEN)
async def two_tasks_iterate_one_generator_under_a_lock() -> None:
    """The safe twin."""
    lock = asyncio.Lock()

    async def items() -> AsyncGenerator[int, None]:
        for number in range(4):
            await external("page")
            yield number

    async with contextlib.aclosing(items()) as shared:

        async def read() -> None:
            async with lock:
                await anext(shared)

        await asyncio.gather(read(), read())


@case(FOUND, kind="assertion", says="no particular order")
async def generator_that_is_left_cleans_up_late() -> None:
    """A ``break`` does not run the ``finally`` of the generator; the loop does, later."""
    is_open = [False]

    async def rows() -> AsyncIterator[int]:
        is_open[0] = True
        try:
            for number in range(9):
                await external("row")
                yield number
        finally:
            await external("close")
            is_open[0] = False

    async for _ in rows():
        break
    assert not is_open[0]  # <- here


@case(PROVEN)
async def generator_that_is_closed_cleans_up_at_once() -> None:
    """The safe twin."""
    is_open = [False]

    async def rows() -> AsyncGenerator[int, None]:
        is_open[0] = True
        try:
            for number in range(9):
                await external("row")
                yield number
        finally:
            await external("close")
            is_open[0] = False

    async with contextlib.aclosing(rows()) as open_rows:
        async for _ in open_rows:
            break
    assert not is_open[0]


# -- contexts ------------------------------------------------------------------------


@case(FOUND, kind="assertion")
async def current_user_is_a_global() -> None:
    """Two requests and one place for who asks."""
    current = ["nobody"]

    async def handle(user: str) -> None:
        current[0] = user
        await external("query")
        assert current[0] == user  # <- here

    await asyncio.gather(handle("alice"), handle("bob"))


@case(PROVEN)
async def current_user_is_a_context_variable() -> None:
    """The safe twin."""
    current = contextvars.ContextVar("current", default="nobody")

    async def handle(user: str) -> None:
        current.set(user)
        await external("query")
        assert current.get() == user

    await asyncio.gather(handle("alice"), handle("bob"))


@case(FOUND, kind="assertion")
async def context_variable_holds_what_is_shared() -> None:
    """A mutable value in a context variable is one for all tasks."""
    claims: contextvars.ContextVar[dict[str, str]] = contextvars.ContextVar("claims")
    claims.set({})

    async def handle(user: str) -> None:
        claims.get()["user"] = user
        await external("query")
        assert claims.get()["user"] == user  # <- here

    await asyncio.gather(handle("alice"), handle("bob"))


@case(FOUND, kind="exception", says="was created in a different Context")
async def token_is_reset_in_another_task() -> None:
    """A token belongs to the context that made it."""
    user = contextvars.ContextVar("user", default="nobody")

    async def leave(token: contextvars.Token[str]) -> None:
        await external("log")
        user.reset(token)  # <- here

    await asyncio.create_task(leave(user.set("alice")))


# -- eager tasks ---------------------------------------------------------------------


def _start_eagerly() -> None:
    factory: Any = getattr(asyncio, "eager_task_factory", None)
    asyncio.get_running_loop().set_task_factory(factory)


@case(FOUND, kind="exception", says="KeyError", since=(3, 12))
async def eager_task_runs_before_it_is_registered() -> None:
    """The first step runs inside of ``create_task``."""
    _start_eagerly()
    tasks: dict[str, asyncio.Task[None]] = {}

    async def work() -> None:
        tasks["work"].get_name()  # <- here
        await external("work")

    tasks["work"] = asyncio.create_task(work())
    await tasks["work"]


@case(FOUND, kind="assertion", since=(3, 12))
async def eager_tasks_lose_an_update() -> None:
    """Their later steps are scheduled like any other."""
    _start_eagerly()
    counter = [0]

    async def add() -> None:
        value = counter[0]
        await external("read")
        counter[0] = value + 1

    await asyncio.gather(asyncio.create_task(add()), asyncio.create_task(add()))
    assert counter == [2]  # <- here


@case(PROVEN, since=(3, 12))
async def eager_tasks_under_a_lock_lose_nothing() -> None:
    """The safe twin."""
    _start_eagerly()
    counter, lock = [0], asyncio.Lock()

    async def add() -> None:
        async with lock:
            value = counter[0]
            await external("read")
            counter[0] = value + 1

    await asyncio.gather(asyncio.create_task(add()), asyncio.create_task(add()))
    assert counter == [2]
