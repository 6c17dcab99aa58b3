"""Verdict cases of the order in which asyncio iterates its sets: that of addresses."""

import asyncio
from collections.abc import Iterable

from test_framework.explore import Conclusion, external
from tests.unit.explore.verdict_case import case

FOUND, PROVEN = Conclusion.FOUND, Conclusion.PROVEN


async def _number(number: int) -> int:
    await asyncio.sleep(0)
    return number


def _results(done: Iterable["asyncio.Task[int]"]) -> list[int]:
    return [task.result() for task in done]


@case(FOUND, kind="assertion", says="iterated backwards")
async def done_is_taken_to_be_in_order() -> None:
    """``zip`` of the users with ``done`` gives one the result of another."""
    tasks = [asyncio.create_task(_number(number)) for number in range(2)]
    done, _ = await asyncio.wait(tasks)
    assert _results(done) == [0, 1]  # <- here


@case(PROVEN, says="forwards and backwards")
async def done_is_looked_up_by_its_tasks() -> None:
    """The safe twin goes through its own list."""
    tasks = [asyncio.create_task(_number(number)) for number in range(2)]
    done, _ = await asyncio.wait(tasks)
    assert _results(task for task in tasks if task in done) == [0, 1]


@case(FOUND, kind="assertion", says="iterated backwards")
async def winner_is_popped_when_two_are_done() -> None:
    """Two answers in one turn: ``pop`` gives either."""
    ask = [asyncio.ensure_future(external(name)) for name in ("first", "second")]
    done, pending = await asyncio.wait(ask, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.gather(*pending)
    assert pending or done.pop() is ask[0]  # <- here


@case(PROVEN)
async def winner_is_popped_when_one_is_done() -> None:
    """The safe twin looks whether there is only one."""
    ask = [asyncio.ensure_future(external(name)) for name in ("first", "second")]
    done, pending = await asyncio.wait(ask, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.gather(*pending)
    assert not pending or done.pop() in ask


@case(FOUND, kind="assertion", says="iterated backwards")
async def group_is_taken_to_cancel_in_order() -> None:
    """The pool closes before the connection that was opened from it."""
    closed: list[str] = []

    async def hold(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            closed.append(name)

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(hold("connection"))
            group.create_task(hold("pool"))
            group.create_task(fail())
    except* ValueError:
        pass
    assert closed == ["connection", "pool"]  # <- here


@case(PROVEN, says="forwards and backwards")
async def group_cancels_in_any_order() -> None:
    """The safe twin closes what belongs together in one task."""
    closed: list[str] = []

    async def hold(*names: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            closed.extend(names)

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(hold("connection", "pool"))
            group.create_task(hold())
            group.create_task(fail())
    except* ValueError:
        pass
    assert closed == ["connection", "pool"]


@case(FOUND, kind="assertion", says="iterated backwards")
async def coroutines_are_taken_to_start_in_order() -> None:
    """``as_completed`` makes tasks of a set of coroutines."""
    begun: list[int] = []

    async def begin(number: int) -> None:
        begun.append(number)

    for one in asyncio.as_completed([begin(number) for number in range(3)]):
        await one
    assert begun == [0, 1, 2]  # <- here


@case(PROVEN, says="forwards and backwards")
async def tasks_start_in_order() -> None:
    """The safe twin makes the tasks itself."""
    begun: list[int] = []

    async def begin(number: int) -> None:
        begun.append(number)

    tasks = [asyncio.create_task(begin(number)) for number in range(3)]
    for one in asyncio.as_completed(tasks):
        await one
    assert begun == [0, 1, 2]


@case(FOUND, kind="assertion", fidelity="await", says="iterated backwards")
async def done_is_taken_to_be_in_order_of_ends() -> None:
    """The same at ``await``, where the tasks may end in either order."""
    tasks = [asyncio.create_task(_number(number)) for number in range(2)]
    done, _ = await asyncio.wait(tasks)
    assert _results(done) == [0, 1]  # <- here
