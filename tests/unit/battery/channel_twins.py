"""Channels with one defect each, as people write them."""

import asyncio
import contextlib
import multiprocessing
import queue
import threading
import time
from collections import deque
from typing import Any

from test_framework.battery.channels import (
    AsyncioChannel,
    AsyncioMailboxes,
    AsyncioRendezvous,
    ProcessChannel,
)
from test_framework.check.channels import Order, Promise


class LifoChannel(AsyncioChannel):
    """A stack where a queue is promised: the newest message comes first."""

    def __init__(self) -> None:
        super().__init__()
        self._queue = asyncio.LifoQueue(4)


class OverwritingChannel:
    """A deque with a bound: when it is full, the oldest message falls out."""

    promise = Promise(order=Order.FIFO)

    def __init__(self) -> None:
        self._messages: deque[str] = deque(maxlen=4)
        self._filled = asyncio.Condition()

    async def send(self, message: str, to: int) -> None:  # noqa: ARG002  # for any
        """Append."""
        async with self._filled:
            self._messages.append(message)
            self._filled.notify()

    async def receive(self, consumer: int) -> str:  # noqa: ARG002  # any may have it
        """Take the oldest."""
        async with self._filled:
            await self._filled.wait_for(lambda: bool(self._messages))
            return self._messages.popleft()


class PeekingChannel:
    """Reads the head, does something, and only then removes it: two get the same."""

    promise = Promise(order=Order.FIFO)

    def __init__(self) -> None:
        self._messages: deque[str] = deque()
        self._filled = asyncio.Semaphore(0)

    async def send(self, message: str, to: int) -> None:  # noqa: ARG002  # for any
        """Append."""
        self._messages.append(message)
        self._filled.release()

    async def receive(self, consumer: int) -> str:  # noqa: ARG002  # any may have it
        """Look, acknowledge, remove."""
        await self._filled.acquire()
        message = self._messages[0]
        await asyncio.sleep(0)
        self._messages.popleft()
        return message


class SharedAddressChannel(AsyncioMailboxes):
    """Keeps the address on the object and gives way: the next sender replaces it."""

    _to = 0

    async def send(self, message: str, to: int) -> None:
        """Look the mailbox up, then put."""
        self._to = to
        await asyncio.sleep(0)
        await self._queue(self._to).put(message)


class BoundlessChannel(AsyncioChannel):
    """Promises to hold four messages and holds any number."""

    def __init__(self) -> None:
        super().__init__()
        self._queue = asyncio.Queue()


class SleepyChannel(AsyncioRendezvous):
    """A consumer that is woken and cancelled at once does not wake the next one."""

    promise = Promise(order=Order.FIFO)

    def __init__(self) -> None:
        super().__init__()
        self._messages: deque[str] = deque()

    async def send(self, message: str, to: int) -> None:  # noqa: ARG002  # for any
        """Append and wake one."""
        self._messages.append(message)
        self._wake()

    async def receive(self, consumer: int) -> str:  # noqa: ARG002  # any may have it
        """Wait until there is a message."""
        while not self._messages:
            woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._sleepers.append(woken)
            await woken
        return self._messages.popleft()


class SleepyRendezvous(AsyncioRendezvous):
    """The same without a buffer: producer and consumer wait for each other for ever."""

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
            await woken


class HandingChannel:
    """Hands a message to a sleeper that may be cancelled before it wakes: it is lost."""

    promise = Promise(order=Order.FIFO)

    def __init__(self) -> None:
        self._messages: deque[str] = deque()
        self._sleepers: deque[asyncio.Future[str]] = deque()

    async def send(self, message: str, to: int) -> None:  # noqa: ARG002  # for any
        """Hand it to a sleeper, or keep it."""
        while self._sleepers:
            sleeper = self._sleepers.popleft()
            if not sleeper.done():
                sleeper.set_result(message)
                return
        self._messages.append(message)

    async def receive(self, consumer: int) -> str:  # noqa: ARG002  # any may have it
        """Take what is kept, or wait."""
        if self._messages:
            return self._messages.popleft()
        sleeper: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._sleepers.append(sleeper)
        return await sleeper


class RetryingChannel(AsyncioChannel):
    """A send that was interrupted is done again in the background: it arrives twice."""

    def __init__(self) -> None:
        super().__init__(capacity=0)
        self._retries: set[asyncio.Task[None]] = set()

    async def send(self, message: str, to: int) -> None:
        """Put, acknowledge, and put again if the acknowledgement did not come."""
        await super().send(message, to)
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            await super().send(message, to)
            raise


class GluingChannel(AsyncioChannel):
    """Reads what came in a moment as one message: two that were near come glued."""

    def __init__(self) -> None:
        super().__init__(capacity=0)

    async def receive(self, consumer: int) -> str:
        """Get all that is there."""
        text = await super().receive(consumer)
        while not self._queue.empty() and not text.endswith(".last"):
            text += self._queue.get_nowait()
        return text


class ThreadLifoChannel:
    """A stack of threads where a queue is promised."""

    promise = Promise(order=Order.FIFO)

    def __init__(self) -> None:
        self._queue: queue.Queue[str] = queue.LifoQueue(4)

    def send(self, message: str, to: int, timeout_s: float) -> None:  # noqa: ARG002  # for any
        """Put."""
        self._queue.put(message, timeout=timeout_s)

    def receive(self, consumer: int, timeout_s: float) -> str:  # noqa: ARG002  # any may
        """Get the newest."""
        return self._queue.get(timeout=timeout_s)


class ThreadPeekingChannel:
    """Reads the head and removes it without a lock: two threads get the same."""

    promise = Promise()

    def __init__(self) -> None:
        self._messages: list[str] = []
        self._filled = threading.Semaphore(0)

    def send(self, message: str, to: int, timeout_s: float) -> None:  # noqa: ARG002  # for any
        """Append."""
        self._messages.append(message)
        self._filled.release()

    def receive(self, consumer: int, timeout_s: float) -> str:  # noqa: ARG002  # any may
        """Look, and make the list one shorter."""
        if not self._filled.acquire(timeout=timeout_s):
            raise TimeoutError
        message = self._messages[0]
        self._messages = self._messages[1:]
        return message


class ThreadSleepyChannel:
    """Clears the event after it looked: a message between the two wakes nobody."""

    promise = Promise(order=Order.FIFO)

    def __init__(self) -> None:
        self._messages: deque[str] = deque()
        self._filled = threading.Event()

    def send(self, message: str, to: int, timeout_s: float) -> None:  # noqa: ARG002  # for any
        """Append and set the event."""
        self._messages.append(message)
        self._filled.set()

    def receive(self, consumer: int, timeout_s: float) -> str:  # any may
        """Look, clear, wait, look again."""
        while True:
            try:
                return self._messages.popleft()
            except IndexError:
                # It says that it waits, which takes a moment.
                for _ in range(400):
                    str(consumer)
                self._filled.clear()
            if not self._filled.wait(timeout_s):
                raise TimeoutError


class ThreadSharedAddressChannel:
    """Keeps the address on the object: another thread replaces it before it is used."""

    promise = Promise(order=Order.FIFO, is_addressed=True)

    def __init__(self) -> None:
        self._to = 0
        self._queues: tuple[queue.Queue[str], ...] = tuple(
            queue.Queue() for _ in range(16)
        )

    def send(self, message: str, to: int, timeout_s: float) -> None:
        """Remember whom it is for, then put."""
        self._to = to
        for _ in range(3):
            str(message)
        self._queues[self._to].put(message, timeout=timeout_s)

    def receive(self, consumer: int, timeout_s: float) -> str:
        """Get the oldest of this consumer."""
        return self._queues[consumer].get(timeout=timeout_s)


class ThreadOverwritingChannel:
    """A deque with a bound: when it is full, the oldest message falls out."""

    promise = Promise(order=Order.FIFO)

    def __init__(self) -> None:
        self._messages: deque[str] = deque(maxlen=4)
        self._filled = threading.Condition()

    def send(self, message: str, to: int, timeout_s: float) -> None:  # noqa: ARG002  # for any
        """Append."""
        with self._filled:
            self._messages.append(message)
            self._filled.notify()

    def receive(self, consumer: int, timeout_s: float) -> str:  # noqa: ARG002  # any may
        """Take the oldest."""
        with self._filled:
            if not self._filled.wait_for(lambda: bool(self._messages), timeout_s):
                raise TimeoutError
            return self._messages.popleft()


class ProcessRingChannel:
    """Slots in shared memory and a count that nobody locks: two take one slot."""

    promise = Promise()
    _WIDTH = 64
    _SLOTS = 2048

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._slots: Any = context.RawArray("c", self._WIDTH * self._SLOTS)
        self._counts: Any = context.RawArray("q", 2)

    def send(self, message: str, to: int, timeout_s: float) -> None:  # noqa: ARG002  # for any
        """Write the next slot, then count it."""
        place = self._counts[0]
        start = place % self._SLOTS * self._WIDTH
        raw = message.encode()[: self._WIDTH]
        self._slots[start : start + self._WIDTH] = raw.ljust(self._WIDTH, b"\0")
        self._counts[0] = place + 1

    def receive(self, consumer: int, timeout_s: float) -> str:  # noqa: ARG002  # any may
        """Read the oldest slot, then count it."""
        until = time.monotonic() + timeout_s
        while self._counts[1] >= self._counts[0]:
            if time.monotonic() > until:
                raise TimeoutError
        place = self._counts[1]
        start = place % self._SLOTS * self._WIDTH
        raw = bytes(self._slots[start : start + self._WIDTH])
        self._counts[1] = place + 1
        return raw.rstrip(b"\0").decode()


class ProcessTwoQueues(ProcessChannel):
    """Spreads messages over two queues: what was sent to one overtakes the other."""

    def __init__(self) -> None:
        super().__init__()
        context = multiprocessing.get_context("forkserver")
        self._other: Any = context.Queue()
        self._sent = 0

    def send(self, message: str, to: int, timeout_s: float) -> None:
        """Put into each in turn."""
        self._sent += 1
        if self._sent % 2:
            super().send(message, to, timeout_s)
        else:
            self._other.put(message, timeout=timeout_s)

    def receive(self, consumer: int, timeout_s: float) -> str:
        """Get from the first, and from the second while that is empty."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            with contextlib.suppress(queue.Empty):
                return super().receive(consumer, 0.002)
            with contextlib.suppress(queue.Empty):
                return str(self._other.get(timeout=0.002))
        raise TimeoutError


class ProcessSharedAddress:
    """Keeps the address in shared memory: another process replaces it."""

    promise = Promise(is_addressed=True)

    def __init__(self) -> None:
        context = multiprocessing.get_context("forkserver")
        self._to: Any = context.RawValue("q", 0)
        self._queues: list[Any] = [context.Queue() for _ in range(8)]

    def send(self, message: str, to: int, timeout_s: float) -> None:
        """Remember whom it is for, do something, put."""
        self._to.value = to
        for _ in range(500):
            str(message)
        self._queues[self._to.value].put(message, timeout=timeout_s)

    def receive(self, consumer: int, timeout_s: float) -> str:
        """Get the oldest of this consumer."""
        return str(self._queues[consumer].get(timeout=timeout_s))
