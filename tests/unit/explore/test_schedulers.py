"""Schedulers: URW is uniform, PCT and POS reach late bugs, replay repeats."""

import asyncio
import math
import random
from collections import Counter
from collections.abc import Callable

import pytest

from test_framework.explore import Segment
from test_framework.explore.loop import ExplorationLoop
from test_framework.explore.schedulers import (
    Pct,
    Pos,
    Profile,
    Replay,
    Reverse,
    Scheduler,
    Stay,
    Stock,
    Uniform,
    Urw,
    segments_of,
)
from test_framework.explore.systematic import Systematic


async def two_and_four() -> None:
    """Two tasks of three and five steps: C(8, 3) = 56 interleavings."""

    async def steps(count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    await asyncio.gather(steps(2), steps(4))


def learned() -> tuple[ExplorationLoop, Profile]:
    """Return a loop and the profile of the program on it."""
    loop, profile = ExplorationLoop(), Profile()
    loop.run(two_and_four(), Stock().begin)
    profile.learn(loop.order)
    return loop, profile


def test_urw_draws_interleavings_uniformly() -> None:
    """Over many runs no interleaving is more likely than another.

    Chi-square over 56 cells, 5,600 draws of a fixed seed: the statistic is below 110
    with odds of 1 - 10^-5; a random walk has about 10,000.
    """
    loop, profile = learned()
    urw = Urw(random.Random(1), profile)
    seen: Counter[tuple[int, ...]] = Counter()
    for _ in range(5_600):
        loop.run(two_and_four(), urw.begin)
        seen[tuple(loop.order)] += 1

    assert len(seen) == math.comb(8, 3)
    assert sum((count - 100) ** 2 / 100 for count in seen.values()) < 110


def test_uniform_walk_is_not_uniform_over_interleavings() -> None:
    """The plain random walk prefers some orders: the reason for URW."""
    loop, _ = learned()
    walk = Uniform(random.Random(1))
    seen: Counter[tuple[int, ...]] = Counter()
    for _ in range(5_600):
        loop.run(two_and_four(), walk.begin)
        seen[tuple(loop.order)] += 1

    assert sum((count - 100) ** 2 / 100 for count in seen.values()) > 1_000


@pytest.mark.parametrize(
    "make",
    [
        lambda rng, profile: Pct(rng, profile, depth=3),
        lambda rng, _: Pos(rng),
        lambda rng, _: Uniform(rng),
        Urw,
    ],
    ids=["pct", "pos", "uniform", "urw"],
)
def test_random_schedulers_repeat_by_seed(
    make: Callable[[random.Random, Profile], Scheduler],
) -> None:
    """The same seed makes the same orders, another seed others."""

    def orders(seed: int) -> list[list[int]]:
        loop, profile = learned()
        scheduler = make(random.Random(seed), profile)
        found = []
        for _ in range(10):
            loop.run(two_and_four(), scheduler.begin)
            found.append(list(loop.order))
        return found

    assert orders(1) == orders(1)
    assert orders(1) != orders(2)


@pytest.mark.parametrize("scheduler", [Stock(), Reverse(), Stay()])
def test_replay_repeats_any_order(scheduler: Scheduler) -> None:
    """The segments of a run, followed, make the same run."""
    loop, _ = learned()
    loop.run(two_and_four(), scheduler.begin)
    wanted, segments = list(loop.order), segments_of(loop)

    replay = Replay(segments)
    loop.run(two_and_four(), replay.begin)

    assert loop.order == wanted
    assert replay.parted is None


def test_stale_replay_says_where_it_parted() -> None:
    """A schedule of another program is followed as far as it goes."""
    loop, _ = learned()
    loop.run(two_and_four(), Stay().begin)
    first, *rest = segments_of(loop)
    replay = Replay((first, Segment("gone[7]", 2), *rest))
    loop.run(two_and_four(), replay.begin)

    assert replay.parted == 1


def test_systematic_runs_each_interleaving_once() -> None:
    """The enumeration has every interleaving exactly once, few preemptions first."""
    loop, _ = learned()
    systematic = Systematic()
    seen: Counter[tuple[int, ...]] = Counter()
    bounds = []
    while systematic.advance():
        loop.run(two_and_four(), systematic.begin)
        seen[tuple(loop.order)] += 1
        bounds.append(systematic.bound)

    assert len(seen) == math.comb(8, 3)
    assert set(seen.values()) == {1}
    assert bounds == sorted(bounds)
