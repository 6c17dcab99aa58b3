"""The exploration loop at ``fifo`` does what CPython's own loop does, step by step."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from test_framework.explore import Conclusion, Fidelity, explore, external
from test_framework.explore.execution import Runner
from test_framework.explore.explorer import prepared
from test_framework.explore.faults import FaultPoints
from test_framework.explore.loop import ExplorationLoop
from test_framework.explore.schedule import Fault  # noqa: TC001  # read where it is used
from test_framework.explore.schedulers import Replay, Reverse, Uniform
from test_framework.explore.stock import StockLoop

KINDS = [
    "call_later",
    "call_soon",
    "condition",
    "event",
    "executor",
    "group",
    "lock",
    "nap",
    "put",
    "queue",
    "semaphore",
    "set",
    "shield",
    "spawn",
    "timeout",
    "turn",
    "wait_for",
    "wait",
]

Log = list[tuple[object, ...]]


class World:
    """What the users of one drawn program share in one run."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.lock, self.semaphore = asyncio.Lock(), asyncio.Semaphore(2)
        self.condition, self.event = asyncio.Condition(), asyncio.Event()
        self.queue: asyncio.Queue[int] = asyncio.Queue(2)
        self.spawned: list[asyncio.Task[None]] = []

    async def child(self, name: str, delay: int) -> None:
        """Wait for the outside or for a while."""
        self.log.append((name, "begins"))
        if delay % 2:
            await external("child")
        else:
            await asyncio.sleep(0.01 * delay)
        self.log.append((name, "ends"))

    async def do(self, user: int, kind: str, delay: int) -> None:
        """Use one primitive of asyncio once."""
        loop = asyncio.get_running_loop()
        name = f"child of {user}"
        match kind:
            case "turn":
                await asyncio.sleep(0)
            case "nap":
                await asyncio.sleep(0.01 * (1 + delay))
            case "wait":
                await external("wait")
            case "executor":
                await asyncio.to_thread(self.log.append, (user, "job"))
            case "call_soon":
                loop.call_soon(self.log.append, (user, "soon"))
            case "call_later":
                loop.call_later(0.01 * delay, self.log.append, (user, "later"))
            case "spawn":
                self.spawned.append(asyncio.create_task(self.child(name, delay)))
            case "set":
                self.event.set()
            case "event":
                async with asyncio.timeout(0.03):
                    await self.event.wait()
            case "put":
                await asyncio.wait_for(self.queue.put(user), 0.02)
            case "queue":
                got = await asyncio.wait_for(self.queue.get(), 0.02)
                self.log.append((user, "got", got))
            case "timeout":
                async with asyncio.timeout(0.01 * (1 + delay)):
                    await external("in time")
            case "wait_for":
                await asyncio.wait_for(self.child(name, delay), 0.01)
            case "shield":
                await asyncio.wait_for(asyncio.shield(self.child(name, delay)), 0.01)
            case "group":
                async with asyncio.TaskGroup() as group:
                    group.create_task(self.child(name, delay))
                    group.create_task(self.child(name, delay + 1))
            case "condition" if delay % 2:
                async with self.condition:
                    self.condition.notify_all()
            case "condition":
                async with self.condition, asyncio.timeout(0.02):
                    await self.condition.wait()
            case _:
                async with self.lock if kind == "lock" else self.semaphore:
                    self.log.append((user, kind))
                    await (external("held") if delay % 2 else asyncio.sleep(0.01))


def drawn_program(
    rng: random.Random, logs: list[Log]
) -> Callable[[], Coroutine[Any, Any, None]]:
    """Draw users that use primitives at random; each run writes the last of ``logs``."""
    plans = [
        [(rng.choice(KINDS), rng.randrange(4)) for _ in range(rng.randint(1, 4))]
        for _ in range(rng.randint(2, 4))
    ]

    async def user(world: World, number: int) -> None:
        for kind, delay in plans[number]:
            world.log.append((number, kind))
            with contextlib.suppress(TimeoutError):
                await world.do(number, kind, delay)
        world.log.append((number, "ends"))

    async def main() -> None:
        world = World(logs[-1])
        users = [user(world, number) for number in range(len(plans))]
        await asyncio.gather(*users, return_exceptions=True)
        await asyncio.gather(*world.spawned, return_exceptions=True)
        world.log.append(("main", "ends"))

    return main


def until_main_ends(log: Log) -> Log:
    """Leave out what the clean-up of a loop did."""
    end = ("main", "ends")
    return log[: log.index(end)] if end in log else log


@pytest.mark.power
@pytest.mark.parametrize("first_seed", range(0, 150, 50))
def test_stock_loop_follows_every_drawn_schedule_to_the_same_steps(
    first_seed: int,
) -> None:
    """What the picture of asyncio gets wrong would part the two within some programs."""
    for seed in range(first_seed, first_seed + 50):
        rng = random.Random(seed)
        logs: list[Log] = []
        main = drawn_program(rng, logs)
        loop = ExplorationLoop(Fidelity.FIFO)
        runner = Runner(main, loop)
        runner.points = FaultPoints("user*", ("OSError",))
        with prepared(loop):
            for run in range(10):
                points = list(runner.points.found) if run > 4 else []
                faults: tuple[Fault, ...] = (rng.choice(points),) if points else ()
                logs.append([])
                runner.run(Uniform(rng), faults)
                schedule = runner.schedule(faults)
                logs.append([])
                Runner(main, StockLoop()).run(Replay(schedule.segments), faults)
                ours, stock = (until_main_ends(log) for log in logs[-2:])
                assert ours == stock, f"seed {seed}, run {run}: {schedule.text()}"


@pytest.mark.power
def test_first_of_two_equal_timeouts_may_be_handled_before_the_second_fires() -> None:
    """Two timeouts of one second that were armed one after the other are two instants."""

    async def program() -> None:
        late: list[int] = []
        seen: list[int] = []

        async def user(number: int) -> None:
            try:
                async with asyncio.timeout(1):
                    await asyncio.Event().wait()
            except TimeoutError:
                seen.append(len(late))
                late.append(number)
                await asyncio.sleep(0)
                late.remove(number)

        await asyncio.gather(user(0), user(1))
        assert seen != [0, 0]

    report = explore(program, budget=60, seed=1)

    assert report.conclusion is Conclusion.FOUND, report.text()
    assert report.witness is not None
    assert report.witness.is_confirmed


@pytest.mark.parametrize("loop", [ExplorationLoop, StockLoop])
def test_cancelled_tasks_get_answers_while_they_clean_up(
    loop: Callable[[], ExplorationLoop],
) -> None:
    """After a deadlock a clean-up that asks the outside ends; it does not lie about.

    What is left of it would go on when it is collected, in the middle of something else.
    """
    ended: list[str] = []

    async def program() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await external("tell the others")
            ended.append("main")

    failure = Runner(program, loop()).run(Uniform(random.Random(1)))

    assert failure is not None
    assert failure.kind == "deadlock"
    assert ended == ["main"]


@pytest.mark.parametrize("loop", [ExplorationLoop, StockLoop])
def test_callback_that_raises_does_not_end_its_turn(loop: Callable[..., Any]) -> None:
    """What arrives is queued behind the rest of the turn and what the rest queues."""
    log: list[object] = []

    def fail() -> None:
        raise ValueError

    async def answer() -> None:
        await external("answer")
        log.append("answer")

    async def program() -> None:
        answered = asyncio.create_task(answer())
        asyncio.get_running_loop().call_soon(fail)
        for turn in range(4):
            await asyncio.sleep(0)
            log.append(turn)
        await answered

    made = loop(Fidelity.FIFO) if loop is ExplorationLoop else loop()
    failure = Runner(program, made).run(Reverse())

    assert failure is not None
    assert failure.kind == "loop-error"
    assert log == [0, 1, 2, "answer", 3]
