"""What every test is held to: no error in the loop, no task left behind."""

import asyncio
import faulthandler
import gc
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

pytest_plugins = ["pytester"]


def pytest_collection_finish() -> None:
    """Take what the imports made out of every later collection of garbage.

    Each test ends with one (see below); over all modules it takes 0.1 s.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def _settled_heap() -> Iterator[None]:
    """Take what a module leaves in caches out of later collections as well."""
    yield
    gc.collect()
    gc.freeze()


@pytest_asyncio.fixture(autouse=True)
async def _tidy_loop(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Fail a test whose loop handler saw an error or that leaves tasks behind.

    Warnings as errors do not see a task that died unwatched: it is reported when it
    is collected, to the loop's handler. A plain function makes no tasks in this loop.
    """
    loop = asyncio.get_running_loop()
    seen: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: seen.append(context))
    before = asyncio.all_tasks()
    yield
    await asyncio.sleep(0)
    if inspect.iscoroutinefunction(request.function):
        gc.collect()
    left = [
        task
        for task in asyncio.all_tasks() - before
        if task is not asyncio.current_task() and not task.done()
    ]
    assert [context.get("message") for context in seen] == []
    assert left == []


@pytest.fixture
def patient() -> None:
    """Let a test last for longer than a hang may: what it waits for has a bound."""
    faulthandler.cancel_dump_traceback_later()
