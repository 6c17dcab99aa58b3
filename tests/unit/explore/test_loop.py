"""The loop: what asyncio offers works on it, time is virtual, runs are apart."""

import asyncio
import contextvars
import random
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from test_framework.explore.decisions import CLOCK, Choose
from test_framework.explore.endings import EndlessError, MisuseError, StalledError
from test_framework.explore.loop import ExplorationLoop
from test_framework.explore.loop.clock import LAG_S
from test_framework.explore.schedule import Fidelity
from test_framework.explore.schedulers import Reverse, Stock, Uniform, segments_of
from test_framework.explore.stock import StockLoop

Program = Callable[[], Coroutine[Any, Any, object]]
FIDELITIES = tuple(Fidelity)


def run(program: Program, fidelity: Fidelity, seed: int = 1) -> ExplorationLoop:
    """Run a program once in a random order; return the loop."""
    loop = ExplorationLoop(fidelity)
    loop.run(program(), Uniform(random.Random(seed)).begin)
    return loop


async def timeouts() -> None:
    """Timeouts fire when they should."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await asyncio.sleep(2)
    async with asyncio.timeout(2):
        await asyncio.sleep(1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), 1)


async def groups() -> None:
    """A group waits for its tasks."""
    seen = []

    async def note(value: int) -> None:
        await asyncio.sleep(0)
        seen.append(value)

    async with asyncio.TaskGroup() as group:
        for value in range(3):
            group.create_task(note(value))
    assert sorted(seen) == [0, 1, 2]


async def primitives() -> None:
    """Every primitive hands over."""
    queue: asyncio.Queue[int] = asyncio.Queue(1)
    condition, barrier = asyncio.Condition(), asyncio.Barrier(2)
    semaphore, event = asyncio.Semaphore(1), asyncio.Event()

    async def produce() -> None:
        for value in range(3):
            await queue.put(value)
        async with condition:
            condition.notify_all()
        await barrier.wait()
        event.set()

    async def consume() -> None:
        assert [await queue.get() for _ in range(3)] == [0, 1, 2]
        await barrier.wait()
        await event.wait()
        async with semaphore:
            pass

    await asyncio.gather(produce(), consume())


async def generators() -> None:
    """Generators close."""
    closed = []

    async def count() -> Any:  # noqa: ANN401  # an async generator
        try:
            for value in range(3):
                await asyncio.sleep(0)
                yield value
        finally:
            closed.append(True)

    async for value in count():
        if value == 1:
            break
    assert [value async for value in count()] == [0, 1, 2]
    while len(closed) < 2:  # noqa: ASYNC110  # an event would be one more primitive
        await asyncio.sleep(1)


async def executors() -> None:
    """Jobs run outside of the loop."""

    def job(value: int) -> int:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return value

    loop = asyncio.get_running_loop()
    first, second = await asyncio.gather(
        asyncio.to_thread(job, 1), loop.run_in_executor(None, job, 2)
    )
    assert (first, second) == (1, 2)


async def waits() -> None:
    """wait, as_completed and shield."""
    tasks = [asyncio.create_task(asyncio.sleep(n, n)) for n in (3, 1, 2)]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    assert done
    results = [await task for task in asyncio.as_completed(tasks)]
    assert sorted(results) == [1, 2, 3]
    assert await asyncio.shield(asyncio.sleep(0, "kept")) == "kept"


async def eager() -> None:
    """Eager tasks, where there are any."""
    factory = getattr(asyncio, "eager_task_factory", None)
    asyncio.get_running_loop().set_task_factory(factory)
    assert sum(await asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0, 2))) == 3


@pytest.mark.parametrize("fidelity", FIDELITIES)
@pytest.mark.parametrize(
    "program", [timeouts, groups, primitives, generators, executors, waits, eager]
)
def test_asyncio_works_on_the_loop(program: Program, fidelity: Fidelity) -> None:
    """What asyncio offers runs unchanged, in any order of ten."""
    if program is timeouts and fidelity is Fidelity.ANY:
        pytest.skip("at fidelity any a timeout may fire before a shorter sleep")
    for seed in range(10):
        loop = run(program, fidelity, seed)

        assert loop.errors == []
        assert loop.left == []


def test_time_is_virtual() -> None:
    """A day of sleep passes in no time, and is no longer than a day."""

    async def sleeper() -> float:
        begun = asyncio.get_running_loop().time()
        await asyncio.sleep(86_400)
        return asyncio.get_running_loop().time() - begun

    slept = ExplorationLoop().run(sleeper(), Stock().begin)

    assert slept == pytest.approx(86_400, abs=1e-6)


def test_loop_runs_are_apart() -> None:
    """Nothing of a run that failed is seen by the next one on the same loop."""
    loop = ExplorationLoop()

    async def leave_a_mess() -> None:
        task = asyncio.create_task(asyncio.Event().wait())
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(1, task.cancel)
        raise KeyError("mess")

    async def clean() -> int:
        return len(asyncio.all_tasks())

    with pytest.raises(KeyError):
        loop.run(leave_a_mess(), Stock().begin)

    assert loop.run(clean(), Stock().begin) == 1
    assert (loop.left, loop.errors, loop.order) == ([], [], [0])


async def lag() -> None:
    """A timer is soon due while a task goes on, so the loop may lag that much."""

    async def go_on() -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    await asyncio.gather(asyncio.sleep(LAG_S * 0.8), go_on())


async def abandon_job() -> None:
    """A job has begun and nobody waits for its end."""
    asyncio.get_running_loop().run_in_executor(None, int)
    await asyncio.sleep(0)


@pytest.mark.parametrize("earlier", [lag, abandon_job])
def test_used_loop_makes_the_run_of_a_new_one(earlier: Program) -> None:
    """Neither lag that was spent nor a job that never ended is seen by the next run."""

    def hurry(_: ExplorationLoop) -> Choose:
        return lambda options: options.index(CLOCK) if CLOCK in options else 0

    used, new = ExplorationLoop(Fidelity.FIFO), ExplorationLoop(Fidelity.FIFO)
    used.run(earlier(), hurry)

    used.run(lag(), hurry)
    new.run(lag(), hurry)

    assert CLOCK in new.order
    assert (used.order, used.choices) == (new.order, new.choices)


def test_loop_is_put_back_when_the_clean_up_fails() -> None:
    """A task that ends the process while it is cancelled leaves no loop running."""

    async def resist() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise SystemExit(7) from None

    async def main() -> None:
        asyncio.get_running_loop().keep = asyncio.create_task(resist())  # type: ignore[attr-defined]  # a place to keep it
        await asyncio.sleep(0)

    before = sys.get_asyncgen_hooks()
    with pytest.raises(SystemExit):
        ExplorationLoop().run(main(), Stock().begin)

    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()
    assert sys.get_asyncgen_hooks() == before


def test_stalled_run_says_who_waits() -> None:
    """A run in which nothing can go ends with what each task waits for."""

    async def stall() -> None:
        lock = asyncio.Lock()
        await lock.acquire()
        await lock.acquire()

    with pytest.raises(StalledError) as caught:
        ExplorationLoop().run(stall(), Stock().begin)

    assert [wait.task for wait in caught.value.waits] == ["main"]
    assert caught.value.waits[0].what == "to acquire Lock lock"
    assert "test_loop.py" in caught.value.waits[0].where


def test_endless_run_is_cut_off() -> None:
    """A run that spins ends after its bound of steps and says where it stood."""

    async def spin() -> None:
        while True:  # noqa: ASYNC110  # the mistake under test
            await asyncio.sleep(0)

    with pytest.raises(EndlessError) as caught:
        ExplorationLoop(max_steps=50).run(spin(), Stock().begin)

    assert "test_loop.py" in caught.value.where


def test_callbacks_that_requeue_themselves_let_tasks_go() -> None:
    """A callback that queues itself until a task is done (as anyio does) ends."""

    async def work() -> None:
        await asyncio.sleep(0)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(work())

        def again() -> None:
            if not task.done():
                loop.call_soon(again)

        again()
        await task

    for fidelity in FIDELITIES:
        run(main, fidelity)


@pytest.mark.parametrize("name", ["create_connection", "add_reader", "getaddrinfo"])
def test_real_io_is_refused_with_a_cure(name: str) -> None:
    """A scenario that opens a socket gets a sentence that names the other mode."""

    async def connect() -> None:
        getattr(asyncio.get_running_loop(), name)("localhost")

    with pytest.raises(MisuseError, match=rf"loop\.{name}.* isolation-audit run"):
        ExplorationLoop().run(connect(), Stock().begin)


def test_names_are_paths_of_creators() -> None:
    """A task is named by who started it, whatever the order."""

    async def leaf() -> None:
        await asyncio.sleep(0)

    async def user() -> None:
        await asyncio.gather(leaf(), leaf())

    async def main() -> None:
        await asyncio.gather(
            *(asyncio.create_task(user(), name=f"user[{n}]") for n in range(2))
        )

    wanted = {"main"} | {
        name
        for n in range(2)
        for name in (f"user[{n}]", f"user[{n}]/leaf[0]", f"user[{n}]/leaf[1]")
    }
    for seed in range(5):
        loop = run(main, Fidelity.AWAIT, seed)

        assert {loop.name(number) for number in range(len(loop.tasks))} == wanted


def test_context_of_a_task_is_its_own() -> None:
    """Context variables follow tasks and callbacks as in asyncio."""
    variable = contextvars.ContextVar("variable", default="none")
    seen = []

    async def user(name: str) -> None:
        variable.set(name)
        asyncio.get_running_loop().call_soon(lambda: seen.append(variable.get()))
        await asyncio.sleep(0)
        assert variable.get() == name

    async def main() -> None:
        await asyncio.gather(user("a"), user("b"))
        await asyncio.sleep(1)

    run(main, Fidelity.AWAIT)

    assert sorted(seen) == ["a", "b"]


def test_same_seed_same_order_other_seed_other_order() -> None:
    """Seeded runs agree, and runs of other seeds differ."""

    def order(seed: int) -> list[int]:
        return run(groups, Fidelity.AWAIT, seed).order

    assert order(3) == order(3)
    # 1,680 interleavings of three tasks with three steps: eight draws that all agree
    # have odds of about 10^-22.
    assert len({tuple(order(seed)) for seed in range(8)}) > 1


@pytest.mark.parametrize(
    "program", [groups, primitives, generators, executors, waits, timeouts]
)
def test_fifo_agrees_with_the_stock_loop(program: Program) -> None:
    """The same decisions give the same arrivals on CPython's own loop."""
    for scheduler in (Stock, Reverse):
        ours, stock = ExplorationLoop(Fidelity.FIFO), StockLoop()
        ours.run(program(), scheduler().begin)
        stock.run(program(), scheduler().begin)

        assert segments_of(ours) == segments_of(stock)


def test_lost_wakeups_of_jobs_are_choices() -> None:
    """Executor jobs end in every order, even in fifo."""
    ends = set()

    async def main() -> None:
        ended: list[str] = []

        async def job(name: str) -> None:
            await asyncio.to_thread(ended.append, name)

        await asyncio.gather(job("a"), job("b"))
        ends.add(tuple(ended))

    for seed in range(20):
        run(main, Fidelity.FIFO, seed)

    assert ends == {("a", "b"), ("b", "a")}
