"""The work queue against a model of it, and its clock, its delays and its numbers."""

import asyncio
import random
from collections.abc import Callable

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from app.control import Backoff, ShutDownError, WorkQueue
from tests.unit.app.queue_twins import (
    DirtyUntilDone,
    WithoutDirtySet,
    WithoutProcessingSet,
)

# Few keys, so that they meet; fewer ends than adds, so that work is under way.
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "get", "done"]), st.sampled_from([0, 0, 1])
    ),
    max_size=30,
)


class _Model:
    """What client-go's queue does, in the plainest words: a list and two sets."""

    def __init__(self) -> None:
        self.waiting: list[int] = []
        self.again: set[int] = set()
        self.processing: set[int] = set()

    def add(self, key: int) -> None:
        """Say that a key needs work."""
        if key in self.processing:
            self.again.add(key)
        elif key not in self.waiting:
            self.waiting.append(key)

    def get(self) -> int:
        """Take the key that has waited longest."""
        key = self.waiting.pop(0)
        self.processing.add(key)
        return key

    def done(self, key: int) -> None:
        """End the work on a key."""
        self.processing.remove(key)
        if key in self.again:
            self.again.remove(key)
            self.waiting.append(key)


async def _agree(queue: WorkQueue[int], steps: list[tuple[str, int]]) -> None:
    """Do the same to a queue and to the model, and compare all that can be seen."""
    model = _Model()
    for step, key in steps:
        if step == "add":
            model.add(key)
            queue.add(key)
        elif step == "get" and model.waiting:
            async with asyncio.timeout(5):
                assert await queue.get() == model.get()
        elif step == "done" and key in model.processing:
            model.done(key)
            queue.done(key)
        metrics = queue.metrics
        assert metrics.depth == len(model.waiting)
        assert metrics.processing == len(model.processing)


def _hold(kind: Callable[[], WorkQueue[int]], examples: int) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
    )
    @given(STEPS)
    def check(steps: list[tuple[str, int]]) -> None:
        asyncio.run(_agree(kind(), steps))

    check()


def test_queue_does_what_its_model_does() -> None:
    """Whatever is added, taken and ended in whichever order: the model says the same."""
    _hold(WorkQueue, 100)


@pytest.mark.power
@pytest.mark.parametrize(
    "twin", [WithoutProcessingSet, WithoutDirtySet, DirtyUntilDone]
)
def test_queue_without_a_set_is_found(twin: type[WorkQueue[int]]) -> None:
    """A queue that lacks one of its sets does not do what the model does."""
    with pytest.raises(AssertionError):
        _hold(twin, 1_000)


async def test_key_added_while_worked_on_is_worked_on_once_more() -> None:
    """Ten adds during the work are one more piece of work, after it."""
    queue = WorkQueue[str]()
    queue.add("a")

    async with queue.taken() as key:
        for _ in range(10):
            queue.add(key)
        assert queue.metrics.depth == 0

    assert queue.metrics.depth == 1
    async with queue.taken():
        pass
    assert queue.metrics.depth == 0


async def test_done_without_get_is_refused() -> None:
    """Ending work that nobody does is the caller's mistake, and named."""
    queue = WorkQueue[str]()

    with pytest.raises(ValueError, match=r"done\('a'\): nobody works on it"):
        queue.done("a")


async def test_failed_block_ends_its_work() -> None:
    """Work that raises is done: the key can be taken again."""
    queue = WorkQueue[str]()
    queue.add("a")

    async def fail() -> None:
        async with queue.taken() as key:
            queue.add_rate_limited(key)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()

    assert queue.metrics.processing == 0
    assert queue.failures("a") == 1


async def test_earlier_delay_wins() -> None:
    """A key that comes back at two times comes back once, at the earlier one."""
    queue = WorkQueue[str]()
    queue.add_after("a", 3_600)
    queue.add_after("a", 0.001)
    queue.add_after("a", 7_200)

    async with asyncio.timeout(5):
        assert await queue.get() == "a"

    assert queue.metrics.delayed == 0
    queue.shut_down()


async def test_key_that_went_well_does_not_come_back() -> None:
    """What was delayed and is done before its time leaves nothing behind."""
    queue = WorkQueue[str]()
    queue.add_after("a", 0.001)
    queue.add_after("b", 0.001)

    queue.forget("a")

    async with asyncio.timeout(5):
        assert await queue.get() == "b"
    assert (queue.metrics.depth, queue.metrics.delayed) == (0, 0)


async def test_delay_that_is_over_is_none() -> None:
    """A key that was to be added in the past is added at once."""
    queue = WorkQueue[str]()

    queue.add_after("a", -1)

    assert (queue.metrics.depth, queue.metrics.delayed) == (1, 0)


async def test_shutdown_hands_out_what_waits_and_drops_what_is_delayed() -> None:
    """After the shutdown come the keys that waited, and then the end; adds are void."""
    queue = WorkQueue[str]()
    queue.add("waits")
    queue.add_after("is delayed", 0.001)

    queue.shut_down()
    queue.add("is late")

    assert await queue.get() == "waits"
    with pytest.raises(ShutDownError):
        await queue.get()
    assert queue.metrics.delayed == 0


async def test_drain_waits_for_the_work_under_way() -> None:
    """Draining returns when what waited was taken and done, and not before."""
    queue = WorkQueue[str]()
    queue.add("a")
    await queue.get()
    queue.add("a")

    draining = asyncio.create_task(queue.drain())
    await asyncio.sleep(0)
    queue.done("a")
    await asyncio.sleep(0)
    assert not draining.done()
    assert await queue.get() == "a"
    queue.done("a")

    async with asyncio.timeout(5):
        await draining


async def test_metrics_tell_depth_and_waits() -> None:
    """What operators read: how many wait, since when, and how long work takes."""
    queue = WorkQueue[str]()
    for key in "aab":
        queue.add(key)
    await asyncio.sleep(0.01)

    before = queue.metrics
    await queue.get()
    await asyncio.sleep(0.01)
    after = queue.metrics

    assert (before.depth, before.added, before.taken) == (2, 2, 0)
    assert before.oldest_s >= 0.005
    assert (after.depth, after.processing, after.taken) == (1, 1, 1)
    assert after.waited_s >= 0.005
    assert after.longest_running_s >= 0.005


@pytest.mark.parametrize("seed", range(5))
def test_waits_grow_to_their_cap(seed: int) -> None:
    """Each wait is between half of its step and the step; the steps end at the cap."""
    backoff = Backoff[str](base_s=0.1, cap_s=2.0, rng=random.Random(seed))

    waits = [backoff.next_s("a") for _ in range(2_000)]

    steps = [min(2.0, 0.1 * 2**failure) for failure in range(20)]
    assert all(
        step / 2 <= wait <= step for step, wait in zip(steps, waits, strict=False)
    )
    assert max(waits) <= 2.0
    assert backoff.failures("a") == 2_000


def test_waits_are_drawn_from_the_seed() -> None:
    """The same seed gives the same waits, another one others: keys come back apart."""

    def waits(seed: int) -> list[float]:
        backoff = Backoff[int](rng=random.Random(seed))
        return [backoff.next_s(key) for key in range(8)]

    assert waits(1) == waits(1) != waits(2)
    assert len(set(waits(1))) == 8


def test_success_forgets_failures() -> None:
    """The failure after a success waits as short as the first one."""
    backoff = Backoff[str](base_s=0.1, rng=random.Random(1))
    for _ in range(10):
        backoff.next_s("a")

    backoff.forget("a")

    assert backoff.next_s("a") <= 0.1
    assert len(backoff) == 1


async def test_hundred_workers_never_share_a_key() -> None:
    """A hundred workers and ten keys: nobody beside another, and no add is lost.

    What a worker saw last of a key is at least what was said before its last add.
    """
    queue = WorkQueue[int]()
    said, seen = [0] * 10, [0] * 10
    busy: set[int] = set()
    rng = random.Random(3)

    async def work() -> None:
        while True:
            try:
                async with queue.taken() as key:
                    assert key not in busy
                    busy.add(key)
                    seen[key] = said[key]
                    for _ in range(rng.randrange(3)):
                        await asyncio.sleep(0)
                    busy.discard(key)
            except ShutDownError:
                return

    async def tell() -> None:
        for _ in range(50):
            key = rng.randrange(10)
            said[key] += 1
            queue.add(key)
            await asyncio.sleep(0)

    workers = [asyncio.create_task(work()) for _ in range(100)]
    await asyncio.gather(*(tell() for _ in range(10)))
    async with asyncio.timeout(20):
        await queue.drain()
        await asyncio.gather(*workers)

    assert seen == said
    assert sum(said) == 500
