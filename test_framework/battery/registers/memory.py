"""Registers of tasks, of threads and of processes of one machine."""

import asyncio
import multiprocessing
import platform
from collections.abc import Sequence
from typing import Any

from test_framework.battery.registers.register import BatchStep
from test_framework.check.litmus import (
    ATOMIC_BATCH,
    COHERENT,
    SEQUENTIAL,
    TOTAL_STORE_ORDER,
)

NAMES = ("x", "y", "z")
"""Registers that the litmus tests use."""


class AsyncioRegisters:
    """A dict of the tasks of one loop, with a checkpoint before and after each access."""

    model = SEQUENTIAL

    def __init__(self) -> None:
        self._values: dict[str, int] = {}

    async def read(self, name: str) -> int:
        """Return the value."""
        await asyncio.sleep(0)
        value = self._values.get(name, 0)
        await asyncio.sleep(0)
        return value

    async def write(self, name: str, value: int) -> None:
        """Replace it."""
        await asyncio.sleep(0)
        self._values[name] = value
        await asyncio.sleep(0)


class AsyncioLockedRegisters(AsyncioRegisters):
    """The same with batches under an ``asyncio.Lock``."""

    model = ATOMIC_BATCH

    def __init__(self) -> None:
        super().__init__()
        self._lock = asyncio.Lock()

    async def execute(self, steps: Sequence[BatchStep]) -> list[int]:
        """Do all steps while nobody else does any."""
        async with self._lock:
            return await self._execute(steps)

    async def _execute(self, steps: Sequence[BatchStep]) -> list[int]:
        read = []
        for name, value in steps:
            if value is None:
                read.append(await self.read(name))
            else:
                await self.write(name, value)
        return read


class ThreadRegisters:
    """A dict of the threads of one process."""

    model = SEQUENTIAL

    def __init__(self) -> None:
        self._values: dict[str, int] = {}

    def read(self, name: str) -> int:
        """Return the value."""
        return self._values.get(name, 0)

    def write(self, name: str, value: int) -> None:
        """Replace it."""
        self._values[name] = value


class ProcessRegisters:
    """Memory that processes share, without a lock: what the processors promise.

    Those of x86 keep writes in a buffer of their own for a moment and else keep every
    order; of others only that each register by itself is in order is assumed.
    """

    model = (
        TOTAL_STORE_ORDER
        if platform.machine() in {"x86_64", "AMD64", "i686"}
        else COHERENT
    )

    def __init__(self) -> None:
        self._memory: Any = multiprocessing.get_context("spawn").RawArray(
            "q", 8 * len(NAMES)
        )

    def place(self, name: str) -> int:
        """Return where a register is: each in a cache line of its own."""
        return 8 * NAMES.index(name)

    def read(self, name: str) -> int:
        """Return the value."""
        return int(self._memory[self.place(name)])

    def write(self, name: str, value: int) -> None:
        """Replace it."""
        self._memory[self.place(name)] = value


class ProcessLockedRegisters(ProcessRegisters):
    """The same under a lock, which also empties the buffers."""

    model = SEQUENTIAL

    def __init__(self) -> None:
        super().__init__()
        self._lock: Any = multiprocessing.get_context("spawn").Lock()

    def read(self, name: str) -> int:
        """Return the value."""
        with self._lock:
            return super().read(name)

    def write(self, name: str, value: int) -> None:
        """Replace it."""
        with self._lock:
            super().write(name, value)
