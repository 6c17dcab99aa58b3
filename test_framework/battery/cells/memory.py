"""Cells of tasks, of threads and of processes of one machine."""

import asyncio
import multiprocessing
import threading
from typing import Any


class AsyncioCell:
    """A cell of the tasks of one loop, under an ``asyncio.Lock``.

    It gives way while it holds the lock, as one does that asks somebody else in between.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._value = 0

    async def get(self) -> int:
        """Return the value."""
        async with self._lock:
            await asyncio.sleep(0)
            return self._value

    async def set(self, value: int) -> None:
        """Replace the value."""
        async with self._lock:
            await asyncio.sleep(0)
            self._value = value

    async def increment(self) -> int:
        """Add 1 and return the new value."""
        async with self._lock:
            value = self._value + 1
            await asyncio.sleep(0)
            self._value = value
            return value

    async def compare_and_swap(self, expected: int, new: int) -> bool:
        """Replace the value if it is ``expected``."""
        async with self._lock:
            is_same = self._value == expected
            await asyncio.sleep(0)
            if is_same:
                self._value = new
            return is_same


class ThreadCell:
    """A cell of the threads of one process, under a ``threading.Lock``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._value = 0

    def get(self) -> int:
        """Return the value."""
        with self._lock:
            return self._value

    def set(self, value: int) -> None:
        """Replace the value."""
        with self._lock:
            self._value = value

    def increment(self) -> int:
        """Add 1 and return the new value."""
        with self._lock:
            self._value += 1
            return self._value

    def compare_and_swap(self, expected: int, new: int) -> bool:
        """Replace the value if it is ``expected``."""
        with self._lock:
            is_same = self._value == expected
            if is_same:
                self._value = new
            return is_same


class ProcessCell:
    """A cell of the processes of one machine: shared memory and a lock beside it."""

    def __init__(self) -> None:
        # Shared memory is handed to processes of any start method by this one.
        self._memory: Any = multiprocessing.get_context("spawn").Value("q", 0)

    def get(self) -> int:
        """Return the value."""
        with self._memory.get_lock():
            return int(self._memory.value)

    def set(self, value: int) -> None:
        """Replace the value."""
        with self._memory.get_lock():
            self._memory.value = value

    def increment(self) -> int:
        """Add 1 and return the new value."""
        with self._memory.get_lock():
            self._memory.value += 1
            return int(self._memory.value)

    def compare_and_swap(self, expected: int, new: int) -> bool:
        """Replace the value if it is ``expected``."""
        with self._memory.get_lock():
            is_same = self._memory.value == expected
            if is_same:
                self._memory.value = new
            return bool(is_same)
