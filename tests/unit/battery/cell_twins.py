"""Cells that are wrong, each in one way: for tasks, for threads and for processes."""

import asyncio
import os

from test_framework.battery.cells import AsyncioCell, ProcessCell, ThreadCell


class TaskLostUpdate(AsyncioCell):
    """Reads, gives way, and writes back: two that read the same count once."""

    async def increment(self) -> int:
        value = self._value + 1
        await asyncio.sleep(0)
        self._value = value
        return value


class TaskDuplicateTicket(AsyncioCell):
    """Counts each increment, and reads what it returns a moment later."""

    async def increment(self) -> int:
        await super().increment()
        return await self.get()


class TaskOverCount(AsyncioCell):
    """Sends an increment again when the answer is slow, as clients with retries do."""

    async def increment(self) -> int:
        if self._lock.locked() and self._value % 16 == 0:
            await super().increment()
        return await super().increment()


class TaskStaleRead(AsyncioCell):
    """Reads from a copy that follows the value when it is next written."""

    def __init__(self) -> None:
        super().__init__()
        self._copy = 0

    async def get(self) -> int:
        await asyncio.sleep(0)
        return self._copy

    async def set(self, value: int) -> None:
        self._copy = self._value
        await super().set(value)

    async def compare_and_swap(self, expected: int, new: int) -> bool:
        self._copy = self._value
        return await super().compare_and_swap(expected, new)


class TaskTornSwap(AsyncioCell):
    """Compares, gives way, and swaps whatever is there by then."""

    async def compare_and_swap(self, expected: int, new: int) -> bool:
        is_same = self._value == expected
        await asyncio.sleep(0)
        if is_same:
            self._value = new
        return is_same


class TaskCancelledTwice(AsyncioCell):
    """Makes sure of an increment that was cancelled by doing it once more."""

    async def increment(self) -> int:
        try:
            value = await super().increment()
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self._value += 2
            raise
        return value


class TaskCancelledLock(AsyncioCell):
    """Does not give its lock back when it is cancelled while it holds it."""

    async def increment(self) -> int:
        await self._lock.acquire()
        value = self._value + 1
        await asyncio.sleep(0)
        self._value = value
        self._lock.release()
        return value


class ThreadLostUpdate(ThreadCell):
    """Adds without its lock."""

    def increment(self) -> int:
        value = self._value + 1
        self._value = value
        return value


class ThreadDuplicateTicket(ThreadCell):
    """Counts under its lock, and reads what it returns after it."""

    def increment(self) -> int:
        with self._lock:
            self._value += 1
        return self._value


class ThreadOverCount(ThreadCell):
    """Adds again when it was not alone, to be sure."""

    def increment(self) -> int:
        value = super().increment()
        if self._value != value:
            value = super().increment()
        return value


class ThreadStaleRead(ThreadCell):
    """Reads from a copy that each change replaces after the change is done."""

    def __init__(self) -> None:
        super().__init__()
        self._copy = 0

    def get(self) -> int:
        return self._copy

    def set(self, value: int) -> None:
        super().set(value)
        self._copy = value

    def increment(self) -> int:
        self._copy = value = super().increment()
        return value

    def compare_and_swap(self, expected: int, new: int) -> bool:
        is_same = super().compare_and_swap(expected, new)
        if is_same:
            self._copy = new
        return is_same


class ThreadTornSwap(ThreadCell):
    """Compares before it takes its lock."""

    def compare_and_swap(self, expected: int, new: int) -> bool:
        is_same = self._value == expected
        with self._lock:
            if is_same:
                self._value = new
        return is_same


class ProcessLostUpdate(ProcessCell):
    """Adds to the shared memory without its lock."""

    def increment(self) -> int:
        raw = self._memory.get_obj()
        raw.value += 1
        return int(raw.value)


class ProcessDuplicateTicket(ProcessCell):
    """Counts under its lock, and reads what it returns after it."""

    def increment(self) -> int:
        with self._memory.get_lock():
            self._memory.get_obj().value += 1
        return int(self._memory.get_obj().value)


class ProcessOverCount(ProcessCell):
    """Adds again when it was not alone, to be sure."""

    def increment(self) -> int:
        value = super().increment()
        if self._memory.get_obj().value != value:
            value = super().increment()
        return value


class ProcessStaleRead(ProcessCell):
    """Reads from a copy of its process that only its own changes replace."""

    copy: int | None = None

    def get(self) -> int:
        if self.copy is None:
            self.copy = super().get()
        return self.copy

    def increment(self) -> int:
        self.copy = super().increment()
        return self.copy

    def compare_and_swap(self, expected: int, new: int) -> bool:
        is_same = super().compare_and_swap(expected, new)
        self.copy = new if is_same else None
        return is_same


class ProcessCrash(ProcessCell):
    """Takes the process of a worker with it, in the middle of the run."""

    def increment(self) -> int:
        value = super().increment()
        if value == 20:
            os._exit(9)
        return value


class ProcessTornSwap(ProcessCell):
    """Compares before it takes its lock."""

    def compare_and_swap(self, expected: int, new: int) -> bool:
        is_same = self._memory.get_obj().value == expected
        with self._memory.get_lock():
            if is_same:
                self._memory.get_obj().value = new
        return bool(is_same)
