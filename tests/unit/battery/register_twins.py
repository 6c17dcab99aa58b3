"""Registers with one defect each, as people write them."""

import asyncio
import contextlib
import multiprocessing
import os
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

from test_framework.battery.registers import (
    AsyncioLockedRegisters,
    AsyncioRegisters,
    BatchStep,
    ProcessRegisters,
    ThreadRegisters,
)

_MOMENT = 100
"""What is done between two halves of a write."""


class CachingRegisters(AsyncioRegisters):
    """Each worker keeps what it read until word of a change comes, which takes a while."""

    def __init__(self) -> None:
        super().__init__()
        self.caches: list[dict[str, int]] = []
        self.tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator["_CachingView"]:
        """Yield a view with a cache of its own."""
        cache: dict[str, int] = {}
        self.caches.append(cache)
        yield _CachingView(self, cache)
        await asyncio.gather(*self.tasks)

    async def tell(self, name: str) -> None:
        """Tell every cache, one after the other."""
        for cache in self.caches:
            await asyncio.sleep(0)
            cache.pop(name, None)


class _CachingView:
    def __init__(self, shared: CachingRegisters, cache: dict[str, int]) -> None:
        self._shared, self._cache = shared, cache

    async def read(self, name: str) -> int:
        """Return what is cached, else what there is."""
        if name not in self._cache:
            self._cache[name] = await self._shared.read(name)
        return self._cache[name]

    async def write(self, name: str, value: int) -> None:
        """Replace it, and let the others know."""
        await self._shared.write(name, value)
        self._cache[name] = value
        task = asyncio.create_task(self._shared.tell(name))
        self._shared.tasks.add(task)
        task.add_done_callback(self._shared.tasks.discard)


class WriteBehindRegisters(AsyncioRegisters):
    """Writes go to a buffer of the worker that is emptied a little later."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator["_WriteBehindView"]:
        """Yield a view with a buffer of its own."""
        yield _WriteBehindView(self)
        await asyncio.gather(*self.tasks)


class _WriteBehindView:
    def __init__(self, shared: WriteBehindRegisters) -> None:
        self._shared = shared
        self._buffer: dict[str, int] = {}

    async def read(self, name: str) -> int:
        """Return what is buffered, else what there is."""
        if name in self._buffer:
            return self._buffer[name]
        return await self._shared.read(name)

    async def write(self, name: str, value: int) -> None:
        """Buffer it."""
        self._buffer[name] = value
        task = asyncio.create_task(self._flush(name, value))
        self._shared.tasks.add(task)
        task.add_done_callback(self._shared.tasks.discard)
        await asyncio.sleep(0)

    async def _flush(self, name: str, value: int) -> None:
        for _ in range(6):
            await asyncio.sleep(0)
        await self._shared.write(name, value)
        if self._buffer.get(name) == value:
            del self._buffer[name]


class TornBatchRegisters(AsyncioLockedRegisters):
    """Batches without the lock: a half of one can be seen."""

    async def execute(self, steps: Sequence[BatchStep]) -> list[int]:
        """Do all steps, and let others in between."""
        return await self._execute(steps)


class ThreadCachingRegisters(ThreadRegisters):
    """Each thread keeps what it read for its next few reads."""

    def __init__(self) -> None:
        super().__init__()
        self._local = threading.local()

    def read(self, name: str) -> int:
        """Return what is cached, three times."""
        cache = self._local.__dict__
        value, uses = cache.get(name, (0, 0))
        if not uses:
            value, uses = super().read(name), 3
        cache[name] = (value, uses - 1)
        return int(value)


class ThreadTornRegisters(ThreadRegisters):
    """A number in two halves that are written one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self._high: dict[str, int] = {}

    def read(self, name: str) -> int:
        """Put the halves together."""
        return self._high.get(name, 0) * 2 + super().read(name)

    def write(self, name: str, value: int) -> None:
        """Replace the upper half, then the lower one."""
        self._high[name] = value // 2
        for _ in range(_MOMENT):
            str(value)
        super().write(name, value % 2)


class ProcessCachingRegisters(ProcessRegisters):
    """Each process keeps what it read for its next few reads."""

    def __init__(self) -> None:
        super().__init__()
        self._cache: dict[str, tuple[int, int]] = {}

    def read(self, name: str) -> int:
        """Return what is cached, three times."""
        value, uses = self._cache.get(name, (0, 0))
        if not uses:
            value, uses = super().read(name), 3
        self._cache[name] = (value, uses - 1)
        return value


class ProcessUnorderedRegisters(ProcessRegisters):
    """Writes of a process wait for the next one, which goes first."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: dict[str, int] = {}

    def read(self, name: str) -> int:
        """Write what waits, then return what there is."""
        self._empty()
        return super().read(name)

    def write(self, name: str, value: int) -> None:
        """Write it; of what is not y, later."""
        if name != "y":
            self._empty()
            self._waiting[name] = value
            return
        super().write(name, value)
        self._empty()

    def _empty(self) -> None:
        for name, value in self._waiting.items():
            super().write(name, value)
        self._waiting.clear()


class ProcessTornRegisters(ProcessRegisters):
    """A number in two halves that are written one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self._high: Any = multiprocessing.get_context("spawn").RawArray("q", 24)

    def read(self, name: str) -> int:
        """Put the halves together."""
        return int(self._high[self.place(name)]) * 2 + super().read(name)

    def write(self, name: str, value: int) -> None:
        """Replace the upper half, then the lower one."""
        self._high[self.place(name)] = value // 2
        for _ in range(_MOMENT):
            str(value)
        super().write(name, value % 2)


class ProcessDyingRegisters(ProcessRegisters):
    """Ends the process that writes to y."""

    def write(self, name: str, value: int) -> None:
        """Write, or die."""
        if name == "y":
            os._exit(3)
        super().write(name, value)
