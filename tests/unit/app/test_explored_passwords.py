"""Password hashes under every order: the bound on threads holds, whoever leaves.

Under the explorer a job of a thread pool is one step that the scheduler runs when it
likes, so "how many hash at one time" is how many jobs were handed over and are not done.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Self, cast

import pytest

from app.security import PasswordHasher
from test_framework.explore import Report, Scenario, explore, invariant
from tests.unit.app.exploring import USERS_ALONE, assert_found

SLOTS = 1


class _Threads:
    """The thread pool of the running loop, counted.

    Attributes:
        busy: Jobs handed over and not done (count).
        hasher: What hands them over.
    """

    def __init__(self, hasher: type[PasswordHasher]) -> None:
        self.busy = 0
        self.hasher = hasher(memory_kib=8, passes=1, concurrency=SLOTS)

    async def __aenter__(self) -> Self:
        self._loop: Any = cast("Any", asyncio.get_running_loop())
        self._hand_over = self._loop.run_in_executor
        self._loop.run_in_executor = self._count
        invariant(self._is_bounded)
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        del self._loop.run_in_executor
        if kind is None:
            # Waits for ever, which is found as a deadlock, unless the slot came back.
            await self.hasher.hash("later")

    def _is_bounded(self) -> bool:
        return self.busy <= SLOTS

    def _count(
        self, executor: object, job: Callable[..., object], *args: object
    ) -> "asyncio.Future[object]":
        def counted() -> object:
            try:
                return job(*args)
            finally:
                self.busy -= 1

        self.busy += 1
        future: asyncio.Future[object] = self._hand_over(executor, counted)
        return future


def _explored(hasher: type[PasswordHasher]) -> Report:
    """Let users hash at one time, each of them cancelled at each await."""

    async def hash_own(threads: _Threads, user: int) -> None:
        await threads.hasher.hash(f"password of {user}")

    scenario = Scenario(lambda: _Threads(hasher), hash_own)
    return explore(scenario, fidelity="await", cancel=USERS_ALONE, budget="90s", seed=1)


def test_cancelled_users_free_no_slot_early() -> None:
    """A user that leaves keeps the slot until the thread is done; then it is free."""
    report = _explored(PasswordHasher)

    assert report.witness is None, report.text()


class _EagerHasher(PasswordHasher):
    """Gives the slot back when the caller leaves, while the thread goes on."""

    async def hash(self, password: str) -> str:
        async with self._slots:
            return await asyncio.to_thread(self._argon.hash, password)


@pytest.mark.power
def test_slot_freed_with_its_caller_is_found() -> None:
    """A slot that is free while its thread still hashes is found."""
    assert_found(_explored(_EagerHasher), "invariant")


class _LeakyHasher(PasswordHasher):
    """Gives the slot back only after a happy end."""

    async def hash(self, password: str) -> str:
        await self._slots.acquire()
        made = await asyncio.to_thread(self._argon.hash, password)
        self._slots.release()
        return made


@pytest.mark.power
def test_slot_lost_with_its_caller_is_found() -> None:
    """A slot that a cancelled user never gives back is found as a deadlock."""
    assert_found(_explored(_LeakyHasher), "deadlock")
