"""The proof by classes: as few runs as there are classes, and none too few.

The heart is the comparison with the enumeration of all orders on drawn programs: a
wrong reduction is a proof of something false, and nobody would notice.
"""

import asyncio
import contextlib
import itertools
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from test_framework.explore.execution import EVERYTHING, Runner
from test_framework.explore.failures import Failure
from test_framework.explore.loop import ExplorationLoop
from test_framework.explore.ordered import ordered_sets
from test_framework.explore.reduction.classes import Reduction
from test_framework.explore.reduction.shared import shared
from test_framework.explore.scenario import invariant
from test_framework.explore.schedule import Fidelity
from test_framework.explore.systematic import Systematic
from tests.unit.explore.programs_shared import (
    THEMES,
    Operation,
    Program,
    draw,
    main_of,
)

Main = Callable[[], Coroutine[Any, Any, None]]

MAX_STEPS = 2_000
MAX_ORDERS = 300
"""Orders of a drawn program beyond which the enumeration is not worth its time."""

PROGRAMS = 25
"""Programs of each theme that are compared."""


class Counter:
    """A shared counter."""

    def __init__(self) -> None:
        self.value = 0


def lost_update(tasks: int) -> Main:
    """Return a scenario of tasks that read, await, and write one counter."""

    async def add(counter: Counter) -> None:
        value = counter.value
        await asyncio.sleep(0)
        counter.value = value + 1

    async def main() -> None:
        counter = shared(Counter())
        await asyncio.gather(*(add(counter) for _ in range(tasks)))

    return main


def locked_update(tasks: int) -> Main:
    """Return a scenario of tasks that do the same under a lock."""

    async def add(counter: Counter, lock: asyncio.Lock) -> None:
        async with lock:
            value = counter.value
            await asyncio.sleep(0)
            counter.value = value + 1

    async def main() -> None:
        counter, lock = shared(Counter()), asyncio.Lock()
        await asyncio.gather(*(add(counter, lock) for _ in range(tasks)))
        assert counter.value == tasks

    return main


def locked_by_attribute(tasks: int) -> Main:
    """Return the same with the lock where services keep it: beside what it guards."""

    class Locked(Counter):
        def __init__(self) -> None:
            super().__init__()
            self.lock = asyncio.Lock()

    async def add(counter: Locked) -> None:
        async with counter.lock:
            value = counter.value
            await asyncio.sleep(0)
            counter.value = value + 1

    async def main() -> None:
        counter = shared(Locked())
        await asyncio.gather(*(add(counter) for _ in range(tasks)))
        assert counter.value == tasks

    return main


def lock_made_late(tasks: int) -> Main:
    """Return tasks of which each makes the lock if it sees none: two may hold one each."""

    class Lazy(Counter):
        lock: asyncio.Lock | None = None

    async def add(counter: Lazy) -> None:
        if counter.lock is None:
            await asyncio.sleep(0)
            counter.lock = asyncio.Lock()
        async with counter.lock:
            value = counter.value
            await asyncio.sleep(0)
            counter.value = value + 1

    async def main() -> None:
        counter = shared(Lazy())
        await asyncio.gather(*(add(counter) for _ in range(tasks)))
        assert counter.value == tasks

    return main


def run_classes(
    main: Main, tell: Callable[[Failure | None], object] = lambda _: None
) -> Reduction:
    """Run every class, whatever fails; ``tell`` gets what went wrong in each."""
    reduction = Reduction(
        main, usual_left=EVERYTHING, max_steps=MAX_STEPS, watches=True
    )
    with ordered_sets(), reduction.prepared():
        while not reduction.is_done and not reduction.refusal:
            failure = reduction.run()
            if reduction.is_whole:
                tell(failure)
    return reduction


@pytest.mark.parametrize(
    ("tasks", "classes"),
    [(2, 4), (3, 36), (4, 576), pytest.param(5, 14_400, marks=pytest.mark.long)],
)
def test_lost_update_takes_one_run_for_each_class(tasks: int, classes: int) -> None:
    """Reads commute, so n tasks have (n!)² classes; no run is made that repeats one."""
    runs: list[Failure | None] = []

    reduction = run_classes(lost_update(tasks), runs.append)

    assert (reduction.classes, len(runs), reduction.cut) == (classes, classes, 0)


@pytest.mark.parametrize(("tasks", "orders"), [(2, 2), (3, 6), (4, 24)])
@pytest.mark.parametrize("locked", [locked_update, locked_by_attribute])
def test_a_lock_leaves_only_the_orders_of_its_holders(
    locked: Callable[[int], Main], tasks: int, orders: int
) -> None:
    """Who waits for a held lock makes no step, so n tasks have n! classes."""
    runs: list[Failure | None] = []

    reduction = run_classes(locked(tasks), runs.append)

    assert (reduction.classes, len(runs), reduction.cut) == (orders, orders, 0)
    assert not any(runs)


def failures_of_classes(main: Main) -> set[str]:
    """Return the kinds of what goes wrong in some class."""
    kinds: set[str] = set()
    run_classes(main, lambda failure: kinds.add(failure.kind if failure else ""))
    return kinds - {""}


@pytest.mark.power
def test_rare_order_is_found_by_classes_alone() -> None:
    """One order of 12,870 breaks it, and only what was read there tells."""

    async def main() -> None:
        log = shared([], "log")
        state = shared({"step": 0}, "state")

        async def walk(user: int) -> None:
            for _ in range(8):
                await asyncio.sleep(0)
            if user == 1 and state["step"] == 1:
                log.append("seen")
            state["step"] += 1
            await asyncio.sleep(0)
            state["step"] += 1

        await asyncio.gather(walk(0), walk(1))
        assert not log

    assert failures_of_classes(main) == {"assertion"}


@pytest.mark.power
@pytest.mark.parametrize("are_swapped", [False, True])
def test_deadlock_is_found_whoever_comes_first(are_swapped: bool) -> None:  # noqa: FBT001  # a parameter of the test
    """Tasks that wait for a lock make no step, and still a deadlock of them is seen."""

    async def main() -> None:
        state = shared({}, "state")
        locks = [asyncio.Lock(), asyncio.Lock()]

        async def hold(first: int) -> None:
            async with locks[first]:
                state[first] = 1
                await asyncio.sleep(0)
                async with locks[1 - first]:
                    state[first] = 2

        await asyncio.gather(hold(int(are_swapped)), hold(1 - are_swapped))

    assert failures_of_classes(main) == {"deadlock"}


@pytest.mark.power
def test_invariant_between_two_writes_is_found_broken() -> None:
    """Writers of what an invariant looks at have an order, even of different things."""

    async def main() -> None:
        state = shared({"left": 1, "right": 1}, "state")

        async def move(source: str, target: str) -> None:
            state[source] -= 1
            await asyncio.sleep(0)
            state[target] += 1

        invariant(lambda: state["left"] + state["right"] > 0)
        await asyncio.gather(move("left", "right"), move("right", "left"))

    assert failures_of_classes(main) == {"invariant"}


@pytest.mark.power
def test_callback_of_a_callback_comes_a_step_late() -> None:
    """The loop runs a step before it, and which one that is makes a difference."""

    async def main() -> None:
        state = shared({"done": 0}, "state")
        first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        second: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        first.add_done_callback(lambda _: second.set_result(None))
        second.add_done_callback(lambda _: state.update(done=1))

        async def look() -> None:
            await asyncio.sleep(0)
            assert state["done"] == 0

        async def finish() -> None:
            first.set_result(None)

        await asyncio.gather(look(), finish())

    assert failures_of_classes(main) == {"assertion"}


@pytest.mark.power
def test_waiting_for_a_lock_counts_when_it_is_cancelled() -> None:
    """Whether the waiter had come to the lock or not yet begun is no longer the same."""

    async def main() -> None:
        state = shared({"queued": False}, "state")
        lock = asyncio.Lock()

        async def hold() -> None:
            async with lock:
                await asyncio.sleep(0)
                await asyncio.sleep(0)

        async def wait() -> None:
            try:
                await lock.acquire()
            except asyncio.CancelledError:
                state["queued"] = True
            else:
                lock.release()

        async def cancel(task: asyncio.Task[None]) -> None:
            task.cancel()

        holder = asyncio.create_task(hold())
        waiter = asyncio.create_task(wait())
        await asyncio.gather(cancel(waiter), holder, waiter, return_exceptions=True)
        assert state["queued"] or not waiter.cancelled()

    assert failures_of_classes(main) == {"assertion"}


@pytest.mark.power
def test_group_that_ends_before_it_is_cancelled_is_seen() -> None:
    """The last task of a group and whoever cancels the group race."""

    async def main() -> None:
        state = shared({"is_over": False}, "state")

        async def touch() -> None:
            len(state)

        async def nest() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(touch())
                group.create_task(touch())
            state["is_over"] = True

        async def fail() -> None:
            raise ValueError

        with contextlib.suppress(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
                group.create_task(nest())
        assert not state["is_over"]

    assert failures_of_classes(main) == {"assertion"}


def test_a_lock_that_is_put_there_late_is_no_constant() -> None:
    """Whoever reads the attribute before and after it is set is told apart."""
    runs: list[Failure | None] = []

    run_classes(lock_made_late(2), runs.append)

    assert any(runs)
    assert not all(runs)


@pytest.mark.power
def test_a_lock_that_is_replaced_guards_two_who_read_different_ones() -> None:
    """One took the old lock, the other the new one: who read before the change matters."""

    class Rotated(Counter):
        def __init__(self) -> None:
            super().__init__()
            self.lock = asyncio.Lock()

    async def main() -> None:
        counter = shared(Rotated())

        async def add() -> None:
            async with counter.lock:
                value = counter.value
                await asyncio.sleep(0)
                counter.value = value + 1

        async def rotate() -> None:
            await asyncio.sleep(0)
            counter.lock = asyncio.Lock()

        await asyncio.gather(add(), add(), rotate())
        assert counter.value == 2

    assert failures_of_classes(main) == {"assertion"}


def outcomes_of_all_orders(program: Program) -> set[object] | None:
    """Return how the runs of a program end, by every order; None if there are many."""
    ends: list[object] = []
    loop = ExplorationLoop(Fidelity.AWAIT, max_steps=MAX_STEPS)
    runner = Runner(main_of(program, ends.append), loop)
    runner.usual_left = EVERYTHING
    systematic = Systematic()
    seen: set[object] = set()
    with ordered_sets():
        for _ in range(MAX_ORDERS):
            if not systematic.advance():
                return seen
            seen.add(_outcome(runner.run(systematic), ends))
    return None


def outcomes_of_classes(program: Program) -> tuple[set[object], Reduction]:
    """Return how the runs of a program end, by one order of every class."""
    ends: list[object] = []
    seen: set[object] = set()
    reduction = run_classes(
        main_of(program, ends.append),
        lambda failure: seen.add(_outcome(failure, ends)),
    )
    return seen, reduction


def _outcome(failure: Failure | None, ends: list[object]) -> object:
    # A run that stalls tells when it is cleaned up, which goes by age of its tasks.
    end = repr(ends[-1]) if ends else ""
    ends.clear()
    if failure is None:
        return end
    if failure.kind == "deadlock":
        places = tuple(detail.rpartition(" at ")[2] for detail in failure.details)
        return failure.message, places
    return failure.kind, end


@pytest.mark.slow
@pytest.mark.parametrize("theme", THEMES)
def test_classes_end_in_every_way_that_orders_do(theme: str) -> None:
    """Drawn programs end in the same ways by classes as by all orders.

    Seeds are fixed: the first ``PROGRAMS`` of each theme that have at most
    ``MAX_ORDERS`` orders.
    """
    compared = 0
    for seed in itertools.count():
        program = draw(random.Random(f"{theme} {seed}"), theme)
        by_orders = outcomes_of_all_orders(program)
        if by_orders is None:
            continue
        compared += 1
        by_classes, reduction = outcomes_of_classes(program)

        assert reduction.refusal == "", program
        assert by_classes == by_orders, program
        if compared == PROGRAMS:
            return


def is_broken_in_some_order(main: Main) -> bool | None:
    """Tell whether an order breaks the invariant; None when there are many orders."""
    runner = Runner(main, ExplorationLoop(Fidelity.AWAIT, max_steps=MAX_STEPS))
    runner.usual_left = EVERYTHING
    systematic = Systematic()
    with ordered_sets():
        for _ in range(MAX_ORDERS):
            if not systematic.advance():
                return False
            failure = runner.run(systematic)
            if failure is not None and failure.kind == "invariant":
                return True
    return None


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["values", "locks", "semaphores", "groups"])
def test_invariants_break_in_some_class_if_in_some_order(theme: str) -> None:
    """What is true only for a moment, between two steps, is seen by classes too."""
    verdicts = set()
    compared = 0
    for seed in itertools.count():
        rng = random.Random(f"invariant {theme} {seed}")
        program = draw(rng, theme)
        forbidden = rng.choice(_pairs_written(program))
        main = main_of(program, lambda _: None, forbidden)
        by_orders = is_broken_in_some_order(main)
        if by_orders is None:
            continue
        compared += 1
        verdicts.add(by_orders)

        assert ("invariant" in failures_of_classes(main)) is by_orders, (
            program,
            forbidden,
        )
        if compared == PROGRAMS:
            break
    assert verdicts == {True, False}


def _pairs_written(program: Program) -> list[tuple[int, int]]:
    """Return pairs of what a program may write to its two numbers."""
    numbers: dict[str, set[int]] = {"a": {0, 1}, "b": {0, 1}}

    def collect(body: tuple[Operation, ...]) -> None:
        for operation in body:
            if operation.name == "write":
                numbers[operation.thing].add(operation.number)
            collect(operation.body)

    for body in program.bodies:
        collect(body)
    pairs = itertools.product(sorted(numbers["a"]), sorted(numbers["b"]))
    return [pair for pair in pairs if pair != (0, 0)]


@pytest.mark.parametrize("seed", [9003, 9087])
def test_last_of_a_nested_gather_makes_a_difference(seed: int) -> None:
    """Only the last child causes the callbacks of a result, so children do not commute.

    Programs on which that was once missed.
    """
    program = draw(random.Random(f"results {seed}"), "results")
    by_orders = outcomes_of_all_orders(program)

    by_classes, _ = outcomes_of_classes(program)

    assert by_orders is not None
    assert by_classes == by_orders
