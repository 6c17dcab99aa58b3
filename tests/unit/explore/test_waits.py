"""What a stalled task waits for is found through every kind of awaitable."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from test_framework.explore import explore


async def _stall(lock: asyncio.Lock) -> AsyncIterator[None]:
    await lock.acquire()
    await lock.acquire()
    yield


async def _by_for(lock: asyncio.Lock) -> None:
    async for _ in _stall(lock):
        pass


async def _by_anext(lock: asyncio.Lock) -> None:
    await anext(_stall(lock))


async def _by_anext_with_default(lock: asyncio.Lock) -> None:
    await anext(_stall(lock), None)


async def _by_context(lock: asyncio.Lock) -> None:
    async with contextlib.asynccontextmanager(_stall)(lock):
        pass


async def _by_closing(lock: asyncio.Lock) -> None:
    async def stall_at_end() -> AsyncIterator[None]:
        try:
            yield
        finally:
            await lock.acquire()
            await lock.acquire()

    generator = stall_at_end()
    await anext(generator)
    await generator.aclose()  # type: ignore[attr-defined]  # it is a generator


@pytest.mark.parametrize(
    "wait", [_by_for, _by_anext, _by_anext_with_default, _by_context, _by_closing]
)
def test_lock_awaited_in_a_generator_is_named(
    wait: Callable[[asyncio.Lock], Coroutine[Any, Any, None]],
) -> None:
    """A deadlock inside of an async generator tells the lock, its line and its holder."""

    async def program() -> None:
        lock = asyncio.Lock()
        await wait(lock)

    report = explore(program, schedules=1, seed=1)

    assert report.witness is not None, report.text()
    (detail,) = report.witness.failure.details
    assert "waits to acquire Lock lock, held by main since" in detail
    assert "test_waits.py" in detail
