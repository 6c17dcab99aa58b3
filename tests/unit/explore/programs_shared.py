"""Small random programs of tasks that share state, for the proof by classes.

A program is drawn as data: nested lists of operations on a few shared things. It keeps
a log for each of its tasks, so two runs with equal logs are equal to every observer.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from test_framework.explore import external, invariant, shared

THEMES = {
    "values": "read write increase copy if_set pause",
    "dictionary": "put_key get_key count_keys drop_key loop_keys pause",
    "locks": "read write increase lock lock pause",
    "asked locks": "write read pause lock is_locked spawn",
    "events": "read write set clear is_set wait pause",
    "queues": "read write put get get_nowait pause",
    "semaphores": "read write increase semaphore pause",
    "conditions": "notify await_notice write pause",
    "futures": "settle await_future is_settled read write",
    "tasks": "spawn join is_done read write pause gather",
    "cancellation": "spawn cancel join write read pause lock",
    "groups": "group read write pause",
    "failures": "spawn fail join gather group write read",
    "waits": "spawn wait_some shield as_completed write read",
    "outside": "outside job read write lock",
    "barriers": "barrier read write pause",
    "work": "put get task_done join_queue write pause",
    "results": "nested wait_for shield ask_gather write write",
    "everything": (
        "read write increase copy if_set pause lock set wait put get spawn join cancel "
        "gather semaphore outside settle await_future is_done put_key count_keys"
    ),
}
_FAN_OUT = {"gather", "group", "nested", "ask_gather"}
_STARTING = _FAN_OUT | {"wait_some", "wait_for", "shield", "as_completed"}
_NESTING = _STARTING | {"if_set", "lock", "semaphore", "spawn"}
_DEPTH = 2


@dataclass(frozen=True)
class Operation:
    """One operation: on which of two things, with which number, around what."""

    name: str
    thing: str
    number: int
    body: "tuple[Operation, ...]" = ()


@dataclass(frozen=True)
class Program:
    """What some tasks do, how they are started, and whether all are awaited."""

    bodies: tuple[tuple[Operation, ...], ...]
    start: str
    awaits_all: bool


def draw(rng: random.Random, theme: str) -> Program:
    """Draw a program; one whose operations start tasks has fewer of its own."""
    names = THEMES[theme].split()
    is_wide = any(name in _STARTING for name in names)
    tasks = rng.choice((1, 2, 2)) if is_wide else rng.choice((2, 2, 3))
    return Program(
        tuple(_body(rng, names, 2 if is_wide else 3, 0) for _ in range(tasks)),
        rng.choice(("gather", "group", "one by one")),
        rng.random() < 0.75,  # three of four
    )


def _body(
    rng: random.Random, names: list[str], most: int, depth: int
) -> tuple[Operation, ...]:
    operations = []
    for _ in range(rng.randint(1, most)):
        name = rng.choice(names)
        if depth == _DEPTH and name in _NESTING:
            name = rng.choice(("read", "write"))
        body: tuple[Operation, ...] = ()
        if name in _NESTING:
            body = _body(rng, names, 1 if name in _STARTING else 2, depth + 1)
        operations.append(Operation(name, rng.choice("ab"), rng.randint(1, 9), body))
    return tuple(operations)


class Values:
    """Two numbers."""

    def __init__(self) -> None:
        self.a = 0
        self.b = 0


@dataclass
class World:
    """What the tasks of one run share, and what each of them saw."""

    values: Values = field(default_factory=lambda: shared(Values(), "values"))
    keys: dict[str, int] = field(default_factory=lambda: shared({}, "keys"))
    locks: dict[str, asyncio.Lock] = field(default_factory=lambda: _two(asyncio.Lock))
    events: dict[str, asyncio.Event] = field(
        default_factory=lambda: _two(asyncio.Event)
    )
    semaphores: dict[str, asyncio.Semaphore] = field(
        default_factory=lambda: {"a": asyncio.Semaphore(1), "b": asyncio.Semaphore(2)}
    )
    conditions: dict[str, asyncio.Condition] = field(
        default_factory=lambda: _two(asyncio.Condition)
    )
    queues: dict[str, asyncio.Queue[int]] = field(
        default_factory=lambda: {"a": asyncio.Queue(), "b": asyncio.Queue(1)}
    )
    barriers: dict[str, asyncio.Barrier] = field(
        default_factory=lambda: {"a": asyncio.Barrier(2), "b": asyncio.Barrier(1)}
    )
    futures: dict[str, asyncio.Future[int]] = field(
        default_factory=lambda: _two(asyncio.get_running_loop().create_future)
    )
    logs: dict[str, list[Any]] = field(default_factory=dict)
    started: list[asyncio.Task[None]] = field(
        default_factory=lambda: shared([], "started")
    )

    def seen(self) -> tuple[Any, ...]:
        """Return all that can be told about the run."""
        return (
            self.values.a,
            self.values.b,
            tuple(sorted(self.keys.items())),
            tuple(sorted((name, tuple(log)) for name, log in self.logs.items())),
        )


def _two(make: Callable[[], Any]) -> dict[str, Any]:
    return {"a": make(), "b": make()}


def main_of(
    program: Program,
    tell: Callable[[object], object],
    forbidden: tuple[int, int] | None = None,
) -> Callable[[], Coroutine[object, object, None]]:
    """Return the scenario of a program.

    Args:
        program: What it does.
        tell: Gets how each run ended.
        forbidden: Values that the two numbers must never have together.
    """

    async def main() -> None:
        world = World()
        if forbidden is not None:
            values = world.values
            invariant(lambda: (values.a, values.b) != forbidden)
        try:
            await _start(world, program)
            if program.awaits_all and world.started:
                await asyncio.gather(*world.started, return_exceptions=True)
        except BaseException as exc:
            tell((type(exc).__name__, *world.seen()))
            raise
        tell(("ended", *world.seen()))

    return main


async def _start(world: World, program: Program) -> None:
    users = [
        _Task(world, str(number)).run(body)
        for number, body in enumerate(program.bodies)
    ]
    if program.start == "gather":
        await asyncio.gather(*users)
    elif program.start == "group":
        async with asyncio.TaskGroup() as group:
            for user in users:
                group.create_task(user)
    else:
        for task in [asyncio.create_task(user) for user in users]:
            await task


class _Task:
    """Does the operations of one task."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.log: list[Any] = []
        world.logs[name] = self.log
        self.children: list[asyncio.Task[None]] = []
        self.count = 0

    async def run(self, body: tuple[Operation, ...]) -> None:
        for operation in body:
            await self.do(operation)

    async def do(self, operation: Operation) -> None:
        act: Callable[[Operation], Awaitable[None]] = getattr(
            self, f"do_{operation.name}"
        )
        try:
            await act(operation)
        except asyncio.CancelledError:
            self.log.append("cancelled")
            raise
        except ExceptionGroup as group:
            self.log.append(sorted(str(exc) for exc in group.exceptions))
        except ValueError as exc:
            if operation.name == "fail":
                raise
            self.log.append(str(exc))

    def child(self, operation: Operation) -> Coroutine[object, object, None]:
        self.count += 1
        return _Task(self.world, f"{self.name}.{self.count}").run(operation.body)

    def start(self, operation: Operation) -> asyncio.Task[None]:
        task = asyncio.create_task(self.child(operation))
        self.children.append(task)
        self.world.started.append(task)
        return task

    def some_child(self, operation: Operation) -> asyncio.Task[None] | None:
        if not self.children:
            return None
        return self.children[operation.number % len(self.children)]

    # -- values and dictionaries

    async def do_read(self, operation: Operation) -> None:
        self.log.append(getattr(self.world.values, operation.thing))

    async def do_write(self, operation: Operation) -> None:
        setattr(self.world.values, operation.thing, operation.number)

    async def do_increase(self, operation: Operation) -> None:
        value = getattr(self.world.values, operation.thing)
        await asyncio.sleep(0)
        setattr(self.world.values, operation.thing, value + 1)

    async def do_copy(self, operation: Operation) -> None:
        other = "b" if operation.thing == "a" else "a"
        setattr(self.world.values, other, getattr(self.world.values, operation.thing))

    async def do_if_set(self, operation: Operation) -> None:
        if getattr(self.world.values, operation.thing):
            await self.run(operation.body)

    async def do_pause(self, _: Operation) -> None:
        await asyncio.sleep(0)

    async def do_put_key(self, operation: Operation) -> None:
        self.world.keys[operation.thing] = operation.number

    async def do_get_key(self, operation: Operation) -> None:
        self.log.append(self.world.keys.get(operation.thing))

    async def do_drop_key(self, operation: Operation) -> None:
        self.log.append(self.world.keys.pop(operation.thing, None))

    async def do_count_keys(self, _: Operation) -> None:
        self.log.append(len(self.world.keys))

    async def do_loop_keys(self, _: Operation) -> None:
        try:
            for key, value in self.world.keys.items():
                self.log.append((key, value))
                await asyncio.sleep(0)
        except RuntimeError:
            self.log.append("changed in a loop")

    # -- primitives

    async def do_lock(self, operation: Operation) -> None:
        async with self.world.locks[operation.thing]:
            await self.run(operation.body)

    async def do_is_locked(self, operation: Operation) -> None:
        self.log.append(self.world.locks[operation.thing].locked())

    async def do_semaphore(self, operation: Operation) -> None:
        async with self.world.semaphores[operation.thing]:
            await self.run(operation.body)

    async def do_set(self, operation: Operation) -> None:
        self.world.events[operation.thing].set()

    async def do_clear(self, operation: Operation) -> None:
        self.world.events[operation.thing].clear()

    async def do_is_set(self, operation: Operation) -> None:
        self.log.append(self.world.events[operation.thing].is_set())

    async def do_wait(self, operation: Operation) -> None:
        await self.world.events[operation.thing].wait()

    async def do_put(self, operation: Operation) -> None:
        await self.world.queues[operation.thing].put(operation.number)

    async def do_get(self, operation: Operation) -> None:
        self.log.append(await self.world.queues[operation.thing].get())

    async def do_get_nowait(self, operation: Operation) -> None:
        queue = self.world.queues[operation.thing]
        self.log.append(None if queue.empty() else queue.get_nowait())

    async def do_task_done(self, operation: Operation) -> None:
        self.world.queues[operation.thing].task_done()

    async def do_join_queue(self, operation: Operation) -> None:
        await self.world.queues[operation.thing].join()

    async def do_barrier(self, operation: Operation) -> None:
        self.log.append(await self.world.barriers[operation.thing].wait())

    async def do_notify(self, operation: Operation) -> None:
        condition = self.world.conditions[operation.thing]
        async with condition:
            condition.notify(1 + operation.number % 2)

    async def do_await_notice(self, operation: Operation) -> None:
        condition = self.world.conditions[operation.thing]
        async with condition:
            await condition.wait()

    # -- futures and tasks

    async def do_settle(self, operation: Operation) -> None:
        future = self.world.futures[operation.thing]
        if not future.done():
            future.set_result(operation.number)

    async def do_await_future(self, operation: Operation) -> None:
        self.log.append(await self.world.futures[operation.thing])

    async def do_is_settled(self, operation: Operation) -> None:
        self.log.append(self.world.futures[operation.thing].done())

    async def do_spawn(self, operation: Operation) -> None:
        self.start(operation)

    async def do_join(self, operation: Operation) -> None:
        task = self.some_child(operation)
        if task is not None:
            await task

    async def do_is_done(self, operation: Operation) -> None:
        task = self.some_child(operation)
        self.log.append(task is not None and task.done())

    async def do_cancel(self, operation: Operation) -> None:
        task = self.some_child(operation)
        if task is not None:
            task.cancel()

    async def do_gather(self, operation: Operation) -> None:
        await asyncio.gather(
            self.child(operation),
            self.child(operation),
            return_exceptions=operation.number % 2 == 0,
        )

    async def do_group(self, operation: Operation) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.child(operation))
            group.create_task(self.child(operation))

    async def do_wait_some(self, operation: Operation) -> None:
        self.start(operation)
        when = (asyncio.FIRST_COMPLETED, asyncio.ALL_COMPLETED)[operation.number % 2]
        done, pending = await asyncio.wait(self.children, return_when=when)
        self.log.append((len(done), len(pending)))

    async def do_as_completed(self, operation: Operation) -> None:
        self.start(operation)
        for coming in asyncio.as_completed(self.children):
            await coming
            self.log.append("came")

    async def do_ask_gather(self, operation: Operation) -> None:
        both = asyncio.gather(self.child(operation), self.child(operation))
        await asyncio.sleep(0)
        self.log.append(both.done())
        await both

    async def do_nested(self, operation: Operation) -> None:
        both = asyncio.gather(self.child(operation), self.start(operation))
        await asyncio.gather(both, self.child(operation), return_exceptions=True)

    async def do_wait_for(self, operation: Operation) -> None:
        await asyncio.wait_for(self.start(operation), None)

    async def do_shield(self, operation: Operation) -> None:
        await asyncio.shield(self.start(operation))

    async def do_outside(self, _: Operation) -> None:
        await external("answer")

    async def do_job(self, operation: Operation) -> None:
        def job() -> int:
            number: int = getattr(self.world.values, operation.thing)
            setattr(self.world.values, operation.thing, number + 1)
            return number

        self.log.append(await asyncio.to_thread(job))

    async def do_fail(self, operation: Operation) -> None:
        raise ValueError(operation.number)
