"""The work queue under every order: no key twice at a time, none lost, none waits.

Keys are added, taken and given back at any instant; workers leave at any await; the
queue is shut down whenever. A worker that is never woken is a deadlock.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Self

import pytest

from app.control import ShutDownError, WorkQueue
from test_framework.explore import Report, Scenario, explore, external
from tests.unit.app.exploring import assert_found, left
from tests.unit.app.queue_twins import (
    LosingWakeUps,
    SleepyShutDown,
    WithoutDirtySet,
    WithoutProcessingSet,
)

Act = Callable[["_Shop", int], Coroutine[Any, Any, None]]


@dataclass
class _Shop:
    """A queue, what was said of each key, and what its workers saw.

    Attributes:
        queue: The queue.
        said: Changes of each key so far.
        seen: What the last worker of each key saw of them.
        busy: Keys that are worked on.
    """

    kind: type[WorkQueue[str]]
    said: dict[str, int] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    busy: set[str] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self.queue = self.kind()
        self.served = asyncio.Event()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.queue.shut_down()

    def tell(self, key: str) -> None:
        """Change a key."""
        self.said[key] = self.said.get(key, 0) + 1
        self.queue.add(key)

    async def serve(self) -> str | None:
        """Work on one key; None when the queue has ended."""
        try:
            async with self.queue.taken() as key:
                assert key not in self.busy, f"{key} is worked on twice at one time"
                self.busy.add(key)
                try:
                    self.seen[key] = self.said[key]
                    self.served.set()
                    await external("database")
                finally:
                    self.busy.discard(key)
                return key
        except ShutDownError:
            return None


def _explored(
    kind: type[WorkQueue[str]],
    *acts: Act,
    check: Callable[[_Shop], None] | None = None,
) -> Report:
    async def act(shop: _Shop, number: int) -> None:
        await acts[number](shop, number)

    return explore(
        Scenario(lambda: _Shop(kind), act, check, users=len(acts)),
        fidelity="await",
        schedules=1000,
        budget="90s",
        seed=1,
    )


async def _tell_ada(shop: _Shop, _: int) -> None:
    await external("arrival")
    shop.tell("ada")


async def _serve_all(shop: _Shop, _: int) -> None:
    while await shop.serve() is not None:
        pass


async def _close(shop: _Shop, _: int) -> None:
    await external("signal to stop")
    await shop.queue.drain()
    assert not shop.busy, "drained while a key was worked on"


# -- one at a time, and once more -------------------------------------------------------


def _changed_while_worked_on(kind: type[WorkQueue[str]]) -> Report:
    async def tell_twice_and_end(shop: _Shop, _: int) -> None:
        for _ in range(2):
            shop.tell("ada")
            await external("next change")
        await shop.queue.drain()
        assert shop.seen == shop.said, f"said {shop.said}, seen {shop.seen}"

    return _explored(kind, tell_twice_and_end, _serve_all, _serve_all)


def test_key_is_worked_on_by_one_and_seen_to_its_end() -> None:
    """In every order nobody works beside another, and the last change is seen."""
    report = _changed_while_worked_on(WorkQueue)

    assert report.witness is None, report.text()


@pytest.mark.power
@pytest.mark.parametrize("twin", [WithoutProcessingSet, WithoutDirtySet])
def test_queue_that_forgets_is_found(twin: type[WorkQueue[str]]) -> None:
    """A queue without processing set, and one without dirty set, are found."""
    assert_found(_changed_while_worked_on(twin), "assertion")


# -- workers that leave -----------------------------------------------------------------


def _worker_leaves(kind: type[WorkQueue[str]]) -> Report:
    """Let one of two who wait be cancelled as the key comes; it is served all the same."""

    async def serve_once(shop: _Shop, _: int) -> None:
        await left(shop.serve(), times=1)

    async def tell_and_wait(shop: _Shop, _: int) -> None:
        shop.tell("ada")
        await shop.served.wait()
        shop.queue.shut_down()

    return _explored(kind, serve_once, serve_once, _serve_all, tell_and_wait)


@pytest.mark.slow
def test_worker_that_leaves_takes_no_wake_up_along() -> None:
    """Whenever workers are cancelled, the key comes to one that is still there."""
    report = _worker_leaves(WorkQueue)

    assert report.witness is None, report.text()


@pytest.mark.power
def test_wake_up_that_leaves_is_found() -> None:
    """A queue whose cancelled getters keep what woke them is found."""
    assert_found(_worker_leaves(LosingWakeUps), "deadlock")


# -- the end ----------------------------------------------------------------------------


def _closing(kind: type[WorkQueue[str]]) -> Report:
    return _explored(kind, _tell_ada, _serve_all, _close)


def test_queue_ends_whenever_it_is_shut_down() -> None:
    """In every order a drained queue has ended its work and sent its workers home."""
    report = _closing(WorkQueue)

    assert report.witness is None, report.text()


@pytest.mark.power
def test_shutdown_that_wakes_nobody_is_found() -> None:
    """A queue whose workers wait on after its end is found."""
    assert_found(_closing(SleepyShutDown), "deadlock")
