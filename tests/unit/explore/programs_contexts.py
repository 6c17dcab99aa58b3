"""FIFO programs of what tasks carry and how they end: cancellation, generators, contexts."""

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncGenerator, AsyncIterator

from tests.unit.explore.fifo_program import in_order

# -- cancellation --------------------------------------------------------------------


@in_order(breaks_at="await")
async def cancellations_arrive_in_the_order_they_were_sent() -> None:
    """Tasks meet their ``CancelledError`` in the order of ``cancel``."""
    seen: list[int] = []

    async def wait(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append(number)

    tasks = [asyncio.create_task(wait(number)) for number in range(4)]
    await asyncio.sleep(0)
    for number in (2, 0, 3, 1):
        tasks[number].cancel()
    await asyncio.wait(tasks)
    assert seen == [2, 0, 3, 1]


@in_order(breaks_at="await")
async def cancelled_gather_cancels_from_left_to_right() -> None:
    """Children of a cancelled ``gather`` are cancelled in order."""
    seen: list[int] = []

    async def wait(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append(number)

    together = asyncio.gather(*map(wait, range(4)))
    await asyncio.sleep(0)
    together.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await together
    assert seen == [0, 1, 2, 3]


@in_order(is_sensitive=False)
async def task_cancelled_before_its_start_never_runs() -> None:
    """The body of such a task is not entered."""
    seen: list[str] = []

    async def child() -> None:
        seen.append("child")

    task = asyncio.create_task(child())
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert seen == []


@in_order(breaks_at="await")
async def shielded_work_ends_although_its_waiter_is_cancelled() -> None:
    """The waiter leaves first, the work goes on and ends two turns later."""
    seen: list[str] = []

    async def work() -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        seen.append("work")

    inner = asyncio.create_task(work())

    async def wait() -> None:
        try:
            await asyncio.shield(inner)
        finally:
            seen.append("waiter")

    waiter = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiter.cancel()
    await asyncio.wait([waiter, inner])
    assert seen == ["waiter", "work"]


# -- generators and contexts ---------------------------------------------------------


@in_order(breaks_at="await")
async def generators_interleave_turn_by_turn() -> None:
    """Two loops over async generators take turns at each item."""
    seen: list[str] = []

    async def items(name: str) -> AsyncIterator[str]:
        for number in range(2):
            await asyncio.sleep(0)
            yield f"{name}{number}"

    async def consume(name: str) -> None:
        async for item in items(name):
            seen.append(item)  # noqa: PERF401  # the order over both is the point

    await asyncio.gather(consume("a"), consume("b"))
    assert seen == ["a0", "b0", "a1", "b1"]


@in_order(is_sensitive=False)
async def closed_generator_cleans_up_before_the_next_line() -> None:
    """``aclosing`` runs the ``finally`` of the generator where the block ends."""
    seen: list[str] = []

    async def items() -> AsyncGenerator[int, None]:
        try:
            for number in range(9):
                yield number
        finally:
            await asyncio.sleep(0)
            seen.append("closed")

    async with contextlib.aclosing(items()) as numbers:
        async for _ in numbers:
            break
    seen.append("after")
    assert seen == ["closed", "after"]


@in_order(is_sensitive=False)
async def task_has_the_context_of_its_creation() -> None:
    """Later changes of the creator are not seen, and those of the child stay there."""
    user = contextvars.ContextVar("user", default="nobody")
    seen: list[str] = []

    async def child() -> None:
        seen.append(user.get())
        user.set("child")

    user.set("alice")
    task = asyncio.create_task(child())
    user.set("bob")
    await task
    assert seen == ["alice"]
    assert user.get() == "bob"


@in_order()
async def callback_has_the_context_in_which_it_was_queued() -> None:
    """``call_soon`` copies the context; ``context=`` takes another one."""
    loop, seen = asyncio.get_running_loop(), list[str]()
    user = contextvars.ContextVar("user", default="nobody")

    def note() -> None:
        seen.append(user.get())

    other = contextvars.copy_context()
    user.set("alice")
    loop.call_soon(note)
    user.set("bob")
    loop.call_soon(note)
    loop.call_soon(note, context=other)
    await asyncio.sleep(0)
    assert seen == ["alice", "bob", "nobody"]
