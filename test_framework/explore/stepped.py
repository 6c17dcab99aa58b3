"""The loop of CPython, told who goes: what runs on it can be followed step by step.

Queue, turns and timers are those of ``asyncio.BaseEventLoop``. What is added: tasks have
names that are the same in every run, every step is told to hooks, time is virtual, and
what comes from outside (executor jobs, :func:`external` answers) waits until the
scheduler lets it in. The subclasses decide when that is.
"""

import asyncio
import contextvars
import heapq
import math
import sys
from asyncio import base_events, events
from collections.abc import Callable, Coroutine
from types import BuiltinFunctionType
from typing import TYPE_CHECKING, Any

from test_framework.explore.decisions import Choose, Hook
from test_framework.explore.endings import EndlessError, RunOverError, StalledError
from test_framework.explore.handles import STEP
from test_framework.explore.jobs import Job, Landings, Workers
from test_framework.explore.loop.clock import (
    READING_S,
    START_S,
    give_up,
    is_read_by_program,
)
from test_framework.explore.loop.limits import MAX_STEPS, PATIENCE, SUSPECT_STEPS
from test_framework.explore.names import LOOPS, NamedTasks, default_name, job_name
from test_framework.explore.schedule import Fidelity
from test_framework.explore.waits import stuck_waits, waits_of

if TYPE_CHECKING:
    from test_framework.explore.service import Service

# Its queue and timers have no type: they are private.
_Base: Any = base_events.BaseEventLoop


class SteppedLoop(NamedTasks, _Base):  # type: ignore[misc]  # see _Base
    """Has the face of ``ExplorationLoop``, so that the same runner judges its runs.

    Attributes:
        order, errors, left, jobs, choices, invariants, disconnects, services, cancelled,
            stranger: As there.
    """

    fidelity = Fidelity.FIFO
    max_steps = MAX_STEPS

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._own_factory: Any = None
        self._forget_run()

    def _forget_run(self) -> None:
        """Begin without anything of an earlier run."""
        self.forget_tasks()
        self.order: list[int] = []
        self.errors: list[dict[str, Any]] = []
        self.left: list[int] = []
        self.jobs = 0
        self.choices = 0
        self.invariants: list[Callable[[], object]] = []
        self.disconnects: dict[asyncio.Task[Any], Callable[[], object]] = {}
        self.services: list[Service] = []
        self.cancelled: set[asyncio.Task[Any]] = set()
        self.done: set[asyncio.Task[Any]] = set()
        self.stranger: str | None = None
        self._clock_resolution = 0.0
        self._now = START_S
        self._readings = 0
        self._is_clock_read = False
        self._is_turning = False
        self._externals: list[tuple[int, Callable[[], object]]] = []
        self._choose: Choose = lambda _: 0
        self._before: Hook | None = None
        self._after: Hook | None = None
        self._over: RunOverError | None = None
        self._steps = 0
        self._movers: set[int] = set()
        self._limit = min(self.max_steps, SUSPECT_STEPS * PATIENCE)
        self._job_context = contextvars.Context()
        self._workers = Workers()
        self._pool: Any = None
        self._landings = Landings()

    def time(self) -> float:
        """Return the virtual time; ``_run_once`` gets it without the readings."""
        if self._is_turning:
            self._is_turning = False
            # It takes what is due before its reading; due now is due.
            return math.nextafter(self._now, math.inf)
        if not self._is_clock_read:
            self._is_clock_read = is_read_by_program(
                sys._getframe(1)
            )  # the documented way to a caller
        self._readings += 1
        return self._now + self._readings * READING_S

    def _process_events(self, event_list: list[Any]) -> None:  # noqa: ARG002  # the signature of the base
        """Nothing comes by itself; next the turn reads the clock again."""
        self._is_turning = True

    def call_at(self, when: float, callback: Any, *args: Any, **options: Any) -> Any:
        """Queue a callback; what is due by a reading of the clock is due in the turn."""
        if when <= self._now + self._readings * READING_S:
            # In their order, and before all timers that time made due.
            when -= 1.0
        elif when == math.inf:
            return events.TimerHandle(
                when, callback, args, self, options.get("context")
            )
        return super().call_at(when, callback, *args, **options)

    def call_soon(self, callback: Any, *args: Any, **options: Any) -> Any:
        """Queue a callback; steps of tasks are told to the hooks when they run."""
        kind = type(callback)
        if kind is STEP or (
            kind is BuiltinFunctionType and callback.__name__ == "task_wakeup"
        ):
            task = callback.__self__
            if task not in self._numbers:
                self._register(task)
            return super().call_soon(self._step, callback, args, **options)
        return super().call_soon(callback, *args, **options)

    def _step(self, callback: Any, args: tuple[Any, ...]) -> None:
        number = self.current = self._numbers[callback.__self__]
        self._steps += 1
        try:
            if self._before is not None:
                self._before(number)
            callback(*args)
            if self._after is not None:
                self._after(number)
            if self._steps > self._limit // 2:
                self._movers.add(number)
            if self._steps > self._limit:
                self._look_for_stuck()
            task = callback.__self__
            if self.io == "sim" and number and task.done():
                self._release(number, task)
        except RunOverError as exc:
            self._over = exc

    def create_task(self, coro: Any, *, name: object = None, **options: Any) -> Any:
        """Start a task with a name that does not depend on the process."""
        label = default_name(len(self.tasks)) if name is None else str(name)
        if self._own_factory is not None:
            task = self._own_factory(self, coro, **options)
            task.set_name(label)
        else:
            task = asyncio.Task(coro, loop=self, name=label, **options)
        if task not in self._numbers:
            self._register(task)
        return task

    def set_task_factory(self, factory: Any) -> None:
        """Use ``factory(loop, coro, **options)`` for tasks."""
        self._own_factory = factory

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        """Queue a job; it runs when its result arrives."""
        executor = executor or self._pool
        job = Job(self, func, args)
        future = job.future
        label = job_name(func)
        owner = self.current

        def run() -> None:
            self.jobs += 1
            job.run(self._job_context)
            self._workers.end(executor)

        def begin() -> None:
            event = self._register_event(label, owner)
            self._externals.append((event, run))
            if self.io == "sim":
                # Real sockets decide nothing in the middle of a turn.
                self._landings.begin(event, self._ready)

        self._workers.begin(executor, job, begin)
        return future

    def set_default_executor(self, executor: Any) -> None:
        """Give it the jobs for which no executor is named; the base would shut it down."""
        self._pool = executor

    def external_event(self, label: str) -> asyncio.Future[None]:
        """Return a future that is done when the scheduler says so."""
        future: asyncio.Future[None] = self.create_future()

        def answer() -> None:
            if not future.done():
                future.set_result(None)

        self._externals.append((self._register_event(label), answer))
        return future

    def interrupt(self, number: int, strike: Callable[[], None]) -> int:
        """Let a task be struck when the scheduler says so; see ``ExplorationLoop``."""
        event = self._register_event("interrupt", number)
        self._externals.append((event, strike))
        return event

    def withdraw(self, event: int) -> None:
        """Let an event that has not come never come."""
        self._externals[:] = [one for one in self._externals if one[0] != event]

    def expire(self, task: asyncio.Task[Any]) -> bool:
        """Let time pass until a timeout of ``task`` is due; False if there is none."""
        deadline = self._timeout_of(task)
        if deadline is None:
            return False
        self._now = max(self._now, deadline)
        return True

    def has_timeout(self, task: asyncio.Task[Any]) -> bool:
        """Tell whether a timeout is armed by ``task``."""
        return self._timeout_of(task) is not None

    def _timeout_of(self, task: asyncio.Task[Any]) -> float | None:
        waiter = getattr(task, "_fut_waiter", None)
        for handle in sorted(self._scheduled):
            owner = getattr(handle._callback, "__self__", None)
            is_timeout = (
                isinstance(owner, asyncio.Timeout)
                and getattr(owner, "_task", None) is task
            )
            is_wait = (
                handle._args is not None
                and waiter in handle._args
                and owner is None
                and handle._callback.__name__ == "_release_waiter"
            )
            if not handle._cancelled and (is_timeout or is_wait):
                return float(handle._when)
        return None

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Collect what went wrong outside of any awaiting task."""
        self.errors.append(context)
        handler = self.get_exception_handler()
        if handler is not None:
            handler(self, context)

    # -- running -------------------------------------------------------------------

    def run(
        self,
        main: Coroutine[Any, Any, Any],
        begin: Callable[[Any], Choose],
        *,
        before: Hook | None = None,
        after: Hook | None = None,
    ) -> Any:
        """Run a coroutine to its end; see ``ExplorationLoop.run``."""
        self._choose = begin(self)
        self._before, self._after = before, after
        running = events._get_running_loop()
        events._set_running_loop(None)
        LOOPS.append(self)
        task = self.create_task(main)
        try:
            return self.run_until_complete(task)
        except StalledError as exc:
            exc.waits = exc.waits or waits_of(self)
            raise
        finally:
            self.done = {task for task in self.tasks if task.done()}
            self._clean_up()
            self.close()
            LOOPS.pop()
            events._set_running_loop(running)

    def _turn(self) -> None:
        """Make one turn of the stock loop."""
        self._is_turning = True
        super()._run_once()
        if self._over is not None:
            raise self._over

    def _clean_up(self) -> None:
        """End what the scenario left running."""
        raise NotImplementedError

    def _look_for_stuck(self) -> None:
        """Judge a run that is long; see ``ExplorationLoop``."""
        waits = stuck_waits(self, self._movers)
        if waits:
            going = tuple(self.name(number) for number in sorted(self._movers))
            raise StalledError(waits, going)
        if self._limit >= self.max_steps:
            raise EndlessError
        self._limit = self.max_steps

    def _drop_cancelled_timers(self) -> None:
        while self._scheduled and self._scheduled[0]._cancelled:
            # As _run_once does it.
            self._timer_cancelled_count -= 1
            handle = heapq.heappop(self._scheduled)
            handle._scheduled = False

    def _next_deadline(self, *, is_idle: bool = True) -> float | None:
        """Return the earliest deadline that is not due yet."""
        waits_for_nothing = is_idle and not self._externals
        return min(
            (
                handle._when
                for handle in self._scheduled
                if not handle._cancelled
                and handle._when > self._now
                and (handle._callback is not give_up or waits_for_nothing)
            ),
            default=None,
        )
