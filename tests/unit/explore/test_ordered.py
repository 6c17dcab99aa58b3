"""Runs are the same in every process: no order comes from addresses or hash seeds."""

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from test_framework.explore.explorer import prepared
from test_framework.explore.loop import ExplorationLoop
from test_framework.explore.ordered import (
    OrderedSet,
    begin_run,
    is_iterated,
    ordered_sets,
)
from test_framework.explore.schedule import Fidelity
from test_framework.explore.schedulers import Stock

SEEN: list[int] = []


async def abort_of_a_group() -> None:
    """Ten tasks are cancelled by their group; each notes when."""

    async def wait(number: int) -> None:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            SEEN.append(number)
            raise

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError

    # Other objects between the tasks, so that addresses differ from run to run.
    noise = [object() for _ in range(random.randrange(50))]  # noise is what is wanted
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(10):
                group.create_task(wait(number))
            group.create_task(fail())
    except* ValueError:
        del noise


async def results_as_completed() -> None:
    """Ten coroutines are given to ``as_completed``."""

    async def give(number: int) -> int:
        await asyncio.sleep(0)
        return number

    waiting = asyncio.as_completed([give(number) for number in range(10)])
    SEEN.extend([await one for one in waiting])


@pytest.mark.parametrize("program", [abort_of_a_group, results_as_completed])
@pytest.mark.parametrize("fidelity", [Fidelity.FIFO, Fidelity.AWAIT])
def test_sets_of_asyncio_keep_their_order(program: object, fidelity: Fidelity) -> None:
    """A hundred runs of one schedule are the same run."""
    loop = ExplorationLoop(fidelity)
    orders = set()
    with prepared(loop):
        for _ in range(100):
            SEEN.clear()
            loop.run(program(), Stock().begin)  # type: ignore[operator]  # async functions
            orders.add((*SEEN, *loop.order))

    assert len(orders) == 1


@pytest.mark.power
def test_sets_of_asyncio_differ_without_it() -> None:
    """The group cancels in another order nearly every time: the reason for it."""
    loop = ExplorationLoop(Fidelity.FIFO)
    orders = set()
    for _ in range(100):
        SEEN.clear()
        loop.run(abort_of_a_group(), Stock().begin)
        orders.add(tuple(SEEN))

    # 10! orders by address; a hundred runs that all agree would be a miracle.
    assert len(orders) > 1


def test_ordered_sets_are_taken_back() -> None:
    """Afterwards asyncio has its own sets again."""
    before = dict(vars(asyncio.taskgroups))
    with ordered_sets():
        assert vars(asyncio.taskgroups)["set"] is OrderedSet

    assert vars(asyncio.taskgroups) == before


def test_ordered_set_is_a_set() -> None:
    """It behaves as a set does, and iterates in order of insertion."""
    one = OrderedSet([3, 1, 2, 3])
    one.add(0)
    one.discard(1)
    one.discard(9)
    one.remove(2)
    one.update([7, 3], [5])

    assert list(one) == [3, 0, 7, 5]
    assert one == {0, 3, 5, 7}
    assert len(one) == 4
    assert one.copy().pop() == 3
    assert list(one.copy()) == list(one)
    with pytest.raises(KeyError):
        one.remove(9)
    one.clear()
    assert not one
    with pytest.raises(KeyError):
        one.pop()


@pytest.fixture
def _backwards() -> Iterator[None]:
    """Let sets be iterated backwards."""
    begin_run(is_backwards=True)
    yield
    begin_run(is_backwards=False)


@pytest.mark.usefixtures("_backwards")
def test_sets_go_backwards_from_who_came_last() -> None:
    """One order for all sets, as addresses give one: a copy does not turn it again."""
    one = OrderedSet([3, 1, 2])
    other = OrderedSet(one)
    turned = OrderedSet(list(one))

    assert list(one) == list(other) == list(turned) == [2, 1, 3]
    turned.add(0)
    assert turned.pop() == 0
    assert turned.pop() == 2


@pytest.mark.parametrize(("size", "is_seen"), [(0, False), (1, False), (2, True)])
def test_iteration_is_seen_where_it_has_an_order(size: int, *, is_seen: bool) -> None:
    """A set of one has no order that could matter."""
    begin_run(is_backwards=False)
    list(OrderedSet(range(size)))

    assert is_iterated() is is_seen
    begin_run(is_backwards=False)
    assert not is_iterated()


@pytest.mark.power
def test_plain_sets_of_asyncio_have_an_order_of_their_own() -> None:
    """On the loop of CPython, without our sets, ``done`` goes by where memory was free.

    A set of forty tasks spans more than its table does, so it cannot hold them by their
    addresses from the first to the last, let alone from the last to the first.
    """

    async def order_of_done() -> list[int]:
        tasks = [asyncio.create_task(asyncio.sleep(0, number)) for number in range(40)]
        done, _ = await asyncio.wait(tasks)
        return [task.result() for task in done]

    order = asyncio.run(order_of_done())

    assert sorted(order) == list(range(40))
    assert order not in (list(range(40)), list(reversed(range(40))))


PROGRAM = """
from tests.unit.explore.programs_sets import done_is_taken_to_be_in_order as SETS
from tests.unit.explore.test_explorer import CROSSED, LOST
from test_framework.explore import explore
for scenario in (LOST, CROSSED, SETS):
    report = explore(scenario, fidelity="await", seed=5)
    print(report.schedules, report.witness.schedule.text())
"""


@pytest.mark.slow
def test_exploration_is_the_same_under_other_hash_seeds() -> None:
    """Fresh processes with other hash seeds find the same witness after as many runs."""
    root = Path(__file__).parents[3]
    outputs = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=root,
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("0", "1", "4711")
    }

    assert len(outputs) == 1
