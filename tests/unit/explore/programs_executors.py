"""Verdict cases of pools of the program's own, and of what runs on them."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

from test_framework.explore import Conclusion
from tests.unit.explore.verdict_case import case

FOUND, PROVEN = Conclusion.FOUND, Conclusion.PROVEN
INCONCLUSIVE = Conclusion.INCONCLUSIVE


async def _in_order_of_jobs(executor: ThreadPoolExecutor | None) -> list[int]:
    seen: list[int] = []
    loop = asyncio.get_running_loop()
    if executor is not None:
        loop.set_default_executor(executor)
    await asyncio.gather(
        *(loop.run_in_executor(None, seen.append, number) for number in range(3))
    )
    return seen


@case(PROVEN)
async def default_pool_of_one_thread_keeps_its_order() -> None:
    """What ``set_default_executor`` was given runs the jobs of no named executor."""
    assert await _in_order_of_jobs(ThreadPoolExecutor(1)) == [0, 1, 2]


@case(FOUND, kind="assertion")
async def default_pool_of_two_threads_keeps_no_order() -> None:
    """The twin with a second thread."""
    assert await _in_order_of_jobs(ThreadPoolExecutor(2)) == [0, 1, 2]  # <- here


@case(FOUND, kind="assertion")
async def pool_of_asyncio_keeps_no_order() -> None:
    """The twin without a pool of its own."""
    assert await _in_order_of_jobs(None) == [0, 1, 2]  # <- here


@case(PROVEN)
async def jobs_of_to_thread_share_the_default_pool() -> None:
    """``to_thread`` asks for no executor by name either."""
    seen: list[int] = []
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    await asyncio.gather(*(asyncio.to_thread(seen.append, n) for n in range(3)))
    assert seen == [0, 1, 2]


@case(INCONCLUSIVE, says=("initializer", "Let the job make"))
async def threads_begin_with_an_initializer() -> None:
    """Its jobs may need what the initializer makes, and no thread begins here."""
    made: list[str] = []
    workers = ThreadPoolExecutor(1, initializer=made.append, initargs=("session",))
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(workers, made.copy) == ["session"]  # <- here


class _Inline(Executor):
    """Runs a job where it is handed in."""

    def submit(
        self, fn: Callable[..., Any], /, *args: object, **kwargs: object
    ) -> "Future[Any]":
        """Run it now."""
        done: Future[Any] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


@case(INCONCLUSIVE, says=("_Inline", "Pass a ThreadPoolExecutor"))
async def jobs_go_to_an_executor_of_its_own() -> None:
    """What its ``submit`` does beside running the job would not be done."""
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(_Inline(), str)  # <- here


class _Named(ThreadPoolExecutor):
    """A pool that only has another name."""


@case(PROVEN)
async def jobs_go_to_a_pool_of_another_name() -> None:
    """A subclass that runs its jobs as a pool does is one."""
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(_Named(1), str) == ""
