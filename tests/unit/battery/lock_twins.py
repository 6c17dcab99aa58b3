"""Locks that are wrong, each in one way, and sound ones for readers and writers."""

import asyncio
import contextlib
import multiprocessing
import threading
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

from test_framework.battery.locks import FileLock
from test_framework.battery.locks.files import OpenFile


class TaskHeldTwice:
    """Sees that the lock is free, gives way, and takes it."""

    def __init__(self) -> None:
        self._is_held = False

    async def acquire(self) -> None:
        while self._is_held:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        self._is_held = True

    async def release(self) -> None:
        self._is_held = False


class TaskQueueLock:
    """Hands the lock to the one that has waited for longest; sound."""

    def __init__(self) -> None:
        self._is_held = False
        self._waiters: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> None:
        if not self._is_held:
            self._is_held = True
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():
                self._hand_over()
            raise

    def release(self) -> None:
        self._hand_over()

    def _hand_over(self) -> None:
        while self._waiters:
            waiter = self._next()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._is_held = False

    def _next(self) -> asyncio.Future[None]:
        return self._waiters.popleft()


class TaskLostWakeUp(TaskQueueLock):
    """Hands it to a waiter that was cancelled, who is not there to take it."""

    def _hand_over(self) -> None:
        if not self._waiters:
            self._is_held = False
            return
        waiter = self._next()
        if not waiter.done():
            waiter.set_result(None)


class TaskLostGrant(TaskQueueLock):
    """Forgets that one who is cancelled may have been handed the lock already."""

    async def acquire(self) -> None:
        if not self._is_held:
            self._is_held = True
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter


class TaskStarving(TaskQueueLock):
    """Hands the lock to the one that came last."""

    def _next(self) -> asyncio.Future[None]:
        return self._waiters.pop()


class TaskReadWriteLock:
    """For readers and writers, in the order in which they came; sound."""

    def __init__(self) -> None:
        self._door = asyncio.Lock()
        self._readers = 0
        self._empty = asyncio.Event()
        self._empty.set()

    async def acquire_read(self) -> None:
        async with self._door:
            self._readers += 1
            self._empty.clear()

    async def release_read(self) -> None:
        self._readers -= 1
        if not self._readers:
            self._empty.set()

    async def acquire_write(self) -> None:
        await self._door.acquire()
        await self._empty.wait()

    async def release_write(self) -> None:
        self._door.release()


class TaskWriterAmongReaders(TaskReadWriteLock):
    """Lets a writer in while readers are inside."""

    async def acquire_write(self) -> None:
        await self._door.acquire()


class TaskReadersAlone(TaskReadWriteLock):
    """Lets one reader in at a time."""

    async def acquire_read(self) -> None:
        await self._door.acquire()

    async def release_read(self) -> None:
        self._door.release()


class TaskReaderPreference(TaskReadWriteLock):
    """Lets readers in for as long as there are any: writers starve."""

    async def acquire_read(self) -> None:
        while self._door.locked():
            await asyncio.sleep(0)
        self._readers += 1
        self._empty.clear()

    async def acquire_write(self) -> None:
        while self._readers or self._door.locked():
            await asyncio.sleep(0)
        await self._door.acquire()


class ThreadHeldTwice:
    """A flag instead of a lock."""

    def __init__(self) -> None:
        self._is_held = False

    def acquire(self) -> None:
        while self._is_held:
            threading.Event().wait(0.0001)
        self._is_held = True

    def release(self) -> None:
        self._is_held = False


class ThreadLostWakeUp:
    """Clears the event of a release that came between the look and the wait."""

    made: ClassVar[list["ThreadLostWakeUp"]] = []
    """Threads wait in them for ever, and would hold their loops under later tests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free = threading.Event()
        self._is_over = False
        self.made.append(self)

    @classmethod
    def let_go(cls) -> None:
        """End all waits."""
        while cls.made:
            twin = cls.made.pop()
            twin._is_over = True
            twin._free.set()

    def acquire(self) -> None:
        while not self._lock.acquire(blocking=False):
            self._free.clear()
            self._free.wait()
            if self._is_over:
                message = "The test is over."
                raise RuntimeError(message)

    def release(self) -> None:
        self._lock.release()
        self._free.set()


class ThreadQueueLock:
    """Hands the lock to the one that has waited for longest; sound."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._is_held = False
        self._waiters: deque[threading.Event] = deque()

    def acquire(self) -> None:
        with self._guard:
            if not self._is_held:
                self._is_held = True
                return
            turn = threading.Event()
            self._waiters.append(turn)
        turn.wait()

    def release(self) -> None:
        with self._guard:
            if self._waiters:
                self._next().set()
            else:
                self._is_held = False

    def _next(self) -> threading.Event:
        return self._waiters.popleft()


class ThreadStarving(ThreadQueueLock):
    """Hands the lock to the one that came last."""

    def _next(self) -> threading.Event:
        return self._waiters.pop()


class ProcessHeldTwice:
    """A flag in shared memory instead of a lock."""

    def __init__(self) -> None:
        self._flag: Any = multiprocessing.get_context("spawn").RawValue("b", 0)

    def acquire(self) -> None:
        while self._flag.value:
            threading.Event().wait(0.0001)
        self._flag.value = 1

    def release(self) -> None:
        self._flag.value = 0


class _FileThatExists:
    def __init__(self, path: Path) -> None:
        self._path = path

    def acquire(self) -> None:
        while self._path.exists():
            threading.Event().wait(0.0001)
        self._path.touch()

    def release(self) -> None:
        self._path.unlink(missing_ok=True)


class ProcessFileHeldTwice(FileLock):
    """Takes a file that does not exist for a free lock."""

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[Any]:
        yield _FileThatExists(self.path.with_suffix(".lock"))


class _SharedWriter(OpenFile):
    acquire_write = OpenFile.acquire_read


class ProcessWriterAmongReaders(FileLock):
    """Lets a writer in while readers are inside."""

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[Any]:
        with self.path.open("ab") as file:
            yield _SharedWriter(file)


class ProcessLostWakeUp:
    """Takes a permit for a waiter that has not come to wait for it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._lock: Any = context.Lock()
        self._free: Any = context.Event()

    def acquire(self) -> None:
        while not self._lock.acquire(block=False):
            self._free.clear()
            self._free.wait()

    def release(self) -> None:
        self._lock.release()
        self._free.set()


def process_lock() -> Any:  # noqa: ANN401  # a lock of multiprocessing has no public type
    """Return a lock of processes; sound."""
    return multiprocessing.get_context("spawn").Lock()
