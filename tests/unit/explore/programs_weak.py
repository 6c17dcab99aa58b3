"""Verdict cases of weak references to tasks and to what they hold."""

import asyncio
import weakref

from test_framework.explore import Conclusion, external
from tests.unit.explore.verdict_case import case

FOUND, PROVEN = Conclusion.FOUND, Conclusion.PROVEN


class Session:
    """What a user works in; alive as long as somebody holds it."""


async def _work() -> Session:
    await external("work")
    return Session()


@case(PROVEN)
async def task_that_is_done_is_forgotten() -> None:
    """The entry of a user is gone when the task is done and nobody holds it."""
    running: weakref.WeakValueDictionary[str, asyncio.Task[Session]] = (
        weakref.WeakValueDictionary()
    )

    async def log_in(user: str) -> None:
        running[user] = task = asyncio.create_task(_work())
        await task

    await asyncio.gather(log_in("alice"), log_in("bob"))
    await asyncio.sleep(0)
    assert not running


@case(PROVEN, fidelity="await")
async def task_that_is_done_is_forgotten_at_await() -> None:
    """The same where every await may take any time."""
    running: weakref.WeakValueDictionary[str, asyncio.Task[Session]] = (
        weakref.WeakValueDictionary()
    )

    async def log_in(user: str) -> None:
        running[user] = task = asyncio.create_task(_work())
        await task

    await asyncio.gather(log_in("alice"), log_in("bob"))
    await asyncio.sleep(0)
    assert not running


@case(FOUND, kind="assertion")
async def task_that_is_done_is_held() -> None:
    """The twin that keeps its tasks in a list as well."""
    kept: list[asyncio.Task[Session]] = []
    running: weakref.WeakValueDictionary[str, asyncio.Task[Session]] = (
        weakref.WeakValueDictionary()
    )

    async def log_in(user: str) -> None:
        running[user] = task = asyncio.create_task(_work())
        kept.append(task)
        await task

    await log_in("alice")
    await asyncio.sleep(0)
    assert not running  # <- here


@case(PROVEN)
async def result_of_a_task_goes_with_it() -> None:
    """A session that only the result of a task held is gone when the task is."""
    sessions: weakref.WeakSet[Session] = weakref.WeakSet()

    async def log_in() -> Session:
        session = await _work()
        sessions.add(session)
        return session

    async def visit() -> None:
        await asyncio.create_task(log_in())

    await visit()
    await asyncio.sleep(0)
    assert not sessions


@case(FOUND, kind="lost-exception", says="nobody awaited it")
async def exception_of_a_forgotten_task_is_told() -> None:
    """A task that failed is kept until it is known whether anybody looked."""

    async def fail() -> None:
        await external("work")
        raise ValueError("lost")  # <- here

    running = weakref.WeakSet([asyncio.create_task(fail())])
    await external("other")
    await asyncio.sleep(1)
    assert len(running) <= 1
