"""What a lock is: for one at a time, for a limited time, or for readers and writers.

``asyncio.Lock``, ``threading.Lock`` and the locks of ``multiprocessing`` are such as
they stand. What has ``connect`` is used through what that yields, by each worker its own.
"""

from collections.abc import Awaitable
from typing import Protocol


class Mutex(Protocol):
    """A lock that one worker holds at a time; functions or coroutine functions."""

    def acquire(self) -> object | Awaitable[object]:
        """Wait for the lock. False means that it was not got; anything else that it was."""
        ...

    def release(self) -> object | Awaitable[object]:
        """Give it back."""
        ...


class Lease(Mutex, Protocol):
    """A lock that ends by itself, and whose holder may not know that it has ended.

    So what it protects must refuse a holder whose time has passed: each grant has a
    higher number, its fencing token, and an act with a lower one than was seen before
    is refused (Kleppmann, "How to do distributed locking", 2016).

    Attributes:
        ttl_s: After how many seconds it ends by itself.
    """

    ttl_s: float

    def acquire(self) -> int | Awaitable[int]:
        """Wait for the lease, and return its token: higher than all before."""
        ...

    def act(self, token: int) -> bool | Awaitable[bool]:
        """Change what the lease protects; return whether the token was accepted."""
        ...


class ReadWriteLock(Protocol):
    """A lock that many readers share, or one writer has to itself."""

    def acquire_read(self) -> object | Awaitable[object]:
        """Wait until no writer has it."""
        ...

    def release_read(self) -> object | Awaitable[object]:
        """Give back what a reader had."""
        ...

    def acquire_write(self) -> object | Awaitable[object]:
        """Wait until nobody has it."""
        ...

    def release_write(self) -> object | Awaitable[object]:
        """Give back what a writer had."""
        ...
