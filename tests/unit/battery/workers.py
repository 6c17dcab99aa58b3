"""What workers of other processes do: they find it by its module."""

import asyncio
import contextlib
import multiprocessing
import os
import random
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

from test_framework.battery import Worker

Shelf = dict[int, set[int]]


async def meet(worker: Worker[Any]) -> None:
    """Spend some time in an operation."""
    await worker.journal.call("meet", asyncio.sleep, 0.001)


def fail_each_time(worker: Worker[Any]) -> None:
    """Raise an error of this worker and turn."""
    raise RuntimeError(f"{worker.index}/{worker.iteration}")


async def wait_for_ever(worker: Worker[Any]) -> None:
    """Do one operation that ends and begin one that does not."""
    await worker.journal.call("meet", asyncio.sleep, 0.001)
    await worker.journal.call("wait", asyncio.Event().wait)


async def block_for_ever(worker: Worker[Any]) -> None:
    """Wait for a lock outside of the loop, which nobody can cancel."""
    lock = threading.Lock()
    lock.acquire()
    await worker.journal.call("acquire", lock.acquire)


async def tell_cpus(worker: Worker[Any]) -> None:
    """Write down on which CPUs the worker may run."""
    await worker.journal.call("cpus", lambda: tuple(sorted(os.sched_getaffinity(0))))


async def die(worker: Worker[Any]) -> None:
    """End the process of worker 0 as a crash does."""
    if worker.index == 0:
        os._exit(7)
    await meet(worker)


class Counter:
    """Shared memory that processes add to under its lock."""

    def __init__(self) -> None:
        self.value = multiprocessing.get_context("forkserver").Value("q", 0)

    def add(self) -> int:
        """Add 1."""
        with self.value:
            self.value.value += 1
            return int(self.value.value)


async def add(worker: Worker[Counter]) -> None:
    """Add 1 to what is shared."""
    await worker.journal.call("add", worker.shared.add)


class SlowDoor:
    """A connection that takes up to 50 ms, each time another time."""

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[int]:
        """Yield the instant at which it was there."""
        await asyncio.sleep(random.SystemRandom().random() * 0.05)
        yield time.monotonic_ns()


async def tell_ready(worker: Worker[int]) -> None:
    """Write down when the worker was ready."""
    await worker.journal.call("tell", lambda: worker.shared)


async def meet_then_sleep(worker: Worker[Any]) -> None:
    """Wait for the others, then spend some time in an operation."""
    await worker.meet()
    await worker.journal.call("sleep", asyncio.sleep, worker.rng.random() * 0.003)
