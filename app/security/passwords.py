"""Password hashes: argon2id, computed in threads so the event loop stays free.

Each hash fills tens of megabytes on purpose, so only a few run at a time: otherwise
a hundred logins at once would be a memory peak of two gigabytes.
"""

import asyncio
import os
from collections.abc import Callable
from functools import cached_property
from typing import TypeVar

import argon2

Result = TypeVar("Result")


class PasswordHasher:
    """Hashes and verifies passwords, a bounded number at a time."""

    def __init__(
        self, *, memory_kib: int, passes: int, concurrency: int | None = None
    ) -> None:
        """Set the cost of one hash.

        Args:
            memory_kib: Memory that one hash fills (KiB).
            passes: Passes over that memory (count).
            concurrency: Hashes at one time (count); None for one per core.
        """
        self._argon = argon2.PasswordHasher(
            time_cost=passes, memory_cost=memory_kib, parallelism=1
        )
        self._slots = asyncio.Semaphore(concurrency or os.cpu_count() or 1)

    async def hash(self, password: str) -> str:
        """Return the salted hash of a password."""
        return await self._in_thread(lambda: self._argon.hash(password))

    async def verify(self, password: str, password_hash: str | None) -> bool:
        """Return whether the password is right.

        A None hash (no such user) costs as much as a wrong password, so the answer's
        timing does not tell which user names exist.
        """
        return await self._in_thread(lambda: self._verify(password, password_hash))

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        await self._slots.acquire()
        working = asyncio.create_task(asyncio.to_thread(work))
        # A caller that is cancelled leaves a thread that goes on and fills its memory:
        # the slot is free when the thread is done, not when the caller has left.
        working.add_done_callback(lambda _: self._slots.release())
        return await asyncio.shield(working)

    @cached_property
    def _nobody(self) -> str:
        return self._argon.hash(os.urandom(16).hex())

    def _verify(self, password: str, password_hash: str | None) -> bool:
        try:
            self._argon.verify(password_hash or self._nobody, password)
        except (
            argon2.exceptions.VerificationError,
            argon2.exceptions.InvalidHashError,
        ):
            return False
        return password_hash is not None
