"""FIFO programs of the loop and its tasks: callbacks, starts, turns, cancellation."""

import asyncio
from typing import Any

from tests.unit.explore.fifo_program import in_order

# -- callbacks -----------------------------------------------------------------------


@in_order()
async def callbacks_run_in_the_order_of_call_soon() -> None:
    """Callbacks are called in the order in which they are registered."""
    loop, seen = asyncio.get_running_loop(), list[int]()
    for number in range(4):
        loop.call_soon(seen.append, number)
    await asyncio.sleep(0)
    assert seen == [0, 1, 2, 3]


@in_order()
async def callback_of_a_callback_waits_a_turn() -> None:
    """What a callback queues runs after all that was queued before it."""
    loop, seen = asyncio.get_running_loop(), list[str]()

    def first() -> None:
        seen.append("first")
        loop.call_soon(seen.append, "third")

    loop.call_soon(first)
    loop.call_soon(seen.append, "second")
    await asyncio.sleep(0)
    assert seen == ["first", "second"]
    await asyncio.sleep(0)
    assert seen == ["first", "second", "third"]


@in_order()
async def cancelled_callback_leaves_the_others_in_order() -> None:
    """A cancelled handle is passed over."""
    loop, seen = asyncio.get_running_loop(), list[int]()
    handles = [loop.call_soon(seen.append, number) for number in range(4)]
    handles[1].cancel()
    await asyncio.sleep(0)
    assert handles[1].cancelled()
    assert seen == [0, 2, 3]


@in_order()
async def threadsafe_callbacks_share_the_queue() -> None:
    """``call_soon_threadsafe`` from the thread of the loop queues like ``call_soon``."""
    loop, seen = asyncio.get_running_loop(), list[int]()
    loop.call_soon(seen.append, 0)
    loop.call_soon_threadsafe(seen.append, 1)
    loop.call_soon(seen.append, 2)
    await asyncio.sleep(0)
    assert seen == [0, 1, 2]


@in_order()
async def done_callbacks_run_in_the_order_they_were_added() -> None:
    """Callbacks of one future run in their order, a removed one not at all."""
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    seen: list[str] = []

    def dropped(_: object) -> None:
        seen.append("dropped")

    future.add_done_callback(lambda _: seen.append("first"))
    future.add_done_callback(dropped)
    future.add_done_callback(lambda _: seen.append("second"))
    future.remove_done_callback(dropped)
    future.set_result(1)
    assert seen == []
    await asyncio.sleep(0)
    assert seen == ["first", "second"]


@in_order()
async def futures_call_back_in_the_order_they_are_done() -> None:
    """Not in the order in which their callbacks were added."""
    loop, seen = asyncio.get_running_loop(), list[str]()
    early: asyncio.Future[None] = loop.create_future()
    late: asyncio.Future[None] = loop.create_future()
    late.add_done_callback(lambda _: seen.append("late"))
    early.add_done_callback(lambda _: seen.append("early"))
    early.set_result(None)
    late.set_result(None)
    await asyncio.sleep(0)
    assert seen == ["early", "late"]


@in_order()
async def callback_of_a_done_future_is_queued_behind() -> None:
    """``add_done_callback`` on a done future is a ``call_soon``."""
    loop, seen = asyncio.get_running_loop(), list[str]()
    future: asyncio.Future[None] = loop.create_future()
    future.set_result(None)
    loop.call_soon(seen.append, "queued before")
    future.add_done_callback(lambda _: seen.append("callback"))
    loop.call_soon(seen.append, "queued after")
    await asyncio.sleep(0)
    assert seen == ["queued before", "callback", "queued after"]


@in_order(breaks_at="await")
async def callback_keeps_its_place_among_tasks() -> None:
    """Task steps and plain callbacks share one queue."""
    loop, seen = asyncio.get_running_loop(), list[str]()

    async def note(word: str) -> None:
        seen.append(word)

    first = asyncio.create_task(note("task"))
    loop.call_soon(seen.append, "callback")
    second = asyncio.create_task(note("second task"))
    await asyncio.gather(first, second)
    assert seen == ["task", "callback", "second task"]


# -- starts and turns ----------------------------------------------------------------


@in_order(breaks_at="await")
async def tasks_start_in_the_order_of_their_creation() -> None:
    """The first steps of tasks run in the order of ``create_task``."""
    seen: list[int] = []

    async def start(number: int) -> None:
        seen.append(number)

    tasks = [asyncio.create_task(start(number)) for number in range(4)]
    assert seen == []
    await asyncio.wait(tasks)
    assert seen == [0, 1, 2, 3]


@in_order(breaks_at="await")
async def gather_starts_in_the_order_of_its_arguments() -> None:
    """Coroutines given to ``gather`` start from left to right."""
    seen: list[int] = []

    async def start(number: int) -> int:
        seen.append(number)
        return -number

    assert await asyncio.gather(*map(start, range(4))) == [0, -1, -2, -3]
    assert seen == [0, 1, 2, 3]


@in_order(breaks_at="await")
async def group_starts_in_the_order_of_create_task() -> None:
    """So do the tasks of a ``TaskGroup``."""
    seen: list[int] = []

    async def start(number: int) -> None:
        seen.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(start(number))
        assert seen == []
    assert seen == [0, 1, 2, 3]


@in_order(breaks_at="await")
async def tasks_take_turns_at_sleep_zero() -> None:
    """``sleep(0)`` lets every other ready task go once."""
    seen: list[str] = []

    async def count(name: str) -> None:
        for number in range(3):
            seen.append(f"{name}{number}")
            await asyncio.sleep(0)

    await asyncio.gather(count("a"), count("b"), count("c"))
    assert seen == ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "c2"]


@in_order(breaks_at="await")
async def early_writer_is_seen_by_a_late_reader() -> None:
    """A reader that lets three turns pass sees what a writer wrote after two."""
    store: dict[str, int] = {}

    async def write() -> None:
        for _ in range(2):
            await asyncio.sleep(0)
        store["value"] = 1

    async def read() -> int:
        for _ in range(3):
            await asyncio.sleep(0)
        return store["value"]

    _, value = await asyncio.gather(write(), read())
    assert value == 1


@in_order(breaks_at="await")
async def child_does_not_run_before_its_creator_waits() -> None:
    """``create_task`` runs nothing; the creator's next await lets the child begin."""
    seen: list[str] = []

    async def child() -> None:
        seen.append("child")

    task = asyncio.create_task(child())
    seen.append("creator")
    await asyncio.sleep(0)
    assert seen == ["creator", "child"]
    await task


@in_order(is_sensitive=False)
async def awaited_coroutine_is_no_turn() -> None:
    """``await coroutine()`` gives nobody else a turn."""
    seen: list[str] = []

    async def other() -> None:
        seen.append("other")

    async def inner() -> None:
        seen.append("inner")

    task = asyncio.create_task(other())
    await inner()
    assert seen == ["inner"]
    await task


@in_order(is_sensitive=False)
async def done_future_is_no_turn() -> None:
    """Awaiting a future or task that is done goes on at once."""
    seen: list[str] = []

    async def other() -> None:
        seen.append("other")

    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    future.set_result(1)
    task = asyncio.create_task(other())
    assert await future == 1
    assert seen == []
    await task
    await task
    assert seen == ["other"]


@in_order(breaks_at="await")
async def waiters_of_one_future_wake_in_order() -> None:
    """Tasks that await one future go on in the order in which they came."""
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    seen: list[int] = []

    async def wait(number: int) -> None:
        await future
        seen.append(number)

    tasks = [asyncio.create_task(wait(number)) for number in range(4)]
    await asyncio.sleep(0)
    future.set_result(1)
    await asyncio.wait(tasks)
    assert seen == [0, 1, 2, 3]


@in_order(breaks_at="await")
async def as_completed_yields_in_the_order_of_completion() -> None:
    """The one that needs fewer turns comes first."""

    async def turns(amount: int) -> int:
        for _ in range(amount):
            await asyncio.sleep(0)
        return amount

    seen = [
        await following for following in asyncio.as_completed(map(turns, (3, 1, 2)))
    ]
    assert seen == [1, 2, 3]


@in_order(breaks_at="await")
async def wait_returns_what_was_first() -> None:
    """``FIRST_COMPLETED`` gives the short task and leaves the long one pending."""

    async def turns(amount: int) -> None:
        for _ in range(amount):
            await asyncio.sleep(0)

    short, long = asyncio.create_task(turns(1)), asyncio.create_task(turns(9))
    done, pending = await asyncio.wait(
        {short, long}, return_when=asyncio.FIRST_COMPLETED
    )
    assert done == {short}
    assert pending == {long}
    await long


@in_order(breaks_at="await")
async def first_error_of_gather_is_the_first_raised() -> None:
    """``gather`` raises the error that came first, not the leftmost."""

    async def fail(error: Exception, turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        raise error

    caught: list[str] = []
    try:
        await asyncio.gather(fail(KeyError(), 3), fail(ValueError(), 1))
    except (KeyError, ValueError) as exc:
        caught.append(type(exc).__name__)
    for _ in range(9):
        await asyncio.sleep(0)
    assert caught == ["ValueError"]


@in_order(since=(3, 12))
async def eager_tasks_start_inside_of_their_creator() -> None:
    """With the eager factory a task runs to its first real wait at once."""
    loop, seen = asyncio.get_running_loop(), list[str]()
    factory: Any = getattr(asyncio, "eager_task_factory", None)
    loop.set_task_factory(factory)

    async def note(name: str) -> None:
        seen.append(f"{name} starts")
        await asyncio.sleep(0)
        seen.append(f"{name} ends")

    first = asyncio.create_task(note("first"))
    seen.append("creator")
    second = asyncio.create_task(note("second"))
    await asyncio.gather(first, second)
    assert seen == [
        "first starts",
        "creator",
        "second starts",
        "first ends",
        "second ends",
    ]
