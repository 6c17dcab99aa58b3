"""Channels of tasks, of threads and of processes of one machine."""

import asyncio
import multiprocessing
import queue
from collections import deque
from typing import Any

from test_framework.check.channels import Order, Promise


class AsyncioChannel:
    """An ``asyncio.Queue`` for all consumers.

    Args:
        capacity: Messages it holds; 0 for any number.
    """

    def __init__(self, capacity: int = 4) -> None:
        self.promise = Promise(order=Order.FIFO, capacity=capacity or None)
        self._queue: asyncio.Queue[str] = asyncio.Queue(capacity)

    async def send(self, message: str, to: int) -> None:  # noqa: ARG002  # it is for any
        """Put it."""
        await self._queue.put(message)

    async def receive(self, consumer: int) -> str:  # noqa: ARG002  # any may have it
        """Get the oldest."""
        return await self._queue.get()


class AsyncioMailboxes:
    """An ``asyncio.Queue`` for each consumer.

    Args:
        capacity: Messages that each holds; 0 for any number.
    """

    promise = Promise(order=Order.FIFO, is_addressed=True)

    def __init__(self, capacity: int = 4) -> None:
        self._capacity = capacity
        self._queues: dict[int, asyncio.Queue[str]] = {}

    def _queue(self, consumer: int) -> asyncio.Queue[str]:
        if consumer not in self._queues:
            self._queues[consumer] = asyncio.Queue(self._capacity)
        return self._queues[consumer]

    async def send(self, message: str, to: int) -> None:
        """Put it into its consumer's queue."""
        await self._queue(to).put(message)

    async def receive(self, consumer: int) -> str:
        """Get the oldest of this consumer."""
        return await self._queue(consumer).get()


class AsyncioRendezvous:
    """A channel without a buffer: a send returns when a consumer has the message.

    Consumers are woken and then take, so one that is cancelled had nothing yet; what a
    cancelled sender offered is skipped.
    """

    promise = Promise(order=Order.FIFO, capacity=0)

    def __init__(self) -> None:
        self._offers: deque[tuple[str, asyncio.Future[None]]] = deque()
        self._sleepers: deque[asyncio.Future[None]] = deque()

    async def send(self, message: str, to: int) -> None:  # noqa: ARG002  # it is for any
        """Offer it and wait until somebody takes it."""
        taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._offers.append((message, taken))
        self._wake()
        await taken

    async def receive(self, consumer: int) -> str:  # noqa: ARG002  # any may have it
        """Take the oldest offer, or wait for one."""
        while True:
            while self._offers:
                message, taken = self._offers.popleft()
                if not taken.done():
                    taken.set_result(None)
                    return message
            woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._sleepers.append(woken)
            try:
                await woken
            except asyncio.CancelledError:
                # Woken and cancelled in the same turn: else nobody would come.
                if not woken.cancelled():
                    self._wake()
                raise

    def _wake(self) -> None:
        while self._sleepers:
            woken = self._sleepers.popleft()
            if not woken.done():
                woken.set_result(None)
                return


class ThreadChannel:
    """A ``queue.Queue`` for the threads of one process.

    Args:
        capacity: Messages it holds; 0 for any number.
    """

    def __init__(self, capacity: int = 4) -> None:
        self.promise = Promise(order=Order.FIFO, capacity=capacity or None)
        self._queue: queue.Queue[str] = queue.Queue(capacity)

    def send(self, message: str, to: int, timeout_s: float) -> None:  # noqa: ARG002  # it is for any
        """Put it."""
        self._queue.put(message, timeout=timeout_s)

    def receive(self, consumer: int, timeout_s: float) -> str:  # noqa: ARG002  # any may have it
        """Get the oldest."""
        return self._queue.get(timeout=timeout_s)


class ProcessChannel:
    """A ``multiprocessing.Queue``.

    What is put goes through a thread of the process that puts it, so messages of two
    producers have no order, and the queue holds more than its bound for a moment.

    Args:
        capacity: Messages it holds; 0 for any number.
    """

    promise = Promise()

    def __init__(self, capacity: int = 0) -> None:
        methods = multiprocessing.get_all_start_methods()
        method = "forkserver" if "forkserver" in methods else "spawn"
        self._queue: Any = multiprocessing.get_context(method).Queue(capacity)

    def send(self, message: str, to: int, timeout_s: float) -> None:  # noqa: ARG002  # it is for any
        """Put it."""
        self._queue.put(message, timeout=timeout_s)

    def receive(self, consumer: int, timeout_s: float) -> str:  # noqa: ARG002  # any may have it
        """Get the oldest."""
        return str(self._queue.get(timeout=timeout_s))

    async def aclose(self) -> None:
        """Close the pipe in this process."""
        self._queue.close()
        self._queue.join_thread()
