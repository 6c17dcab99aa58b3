"""An event loop whose every choice belongs to a scheduler; no selector, no threads.

Tasks and futures are those of CPython, so ``timeout``, ``TaskGroup``, ``shield``,
locks, queues and async generators run unchanged. What differs is who goes next:

* ``await``: every ready task step may be delayed, so the scheduler picks among them.
  Callbacks without a task (of ``gather``, of timers) run first and in order: shuffling
  them produces states that no program of asyncio can reach.
* ``fifo``: the ready queue is run in turns exactly as ``BaseEventLoop._run_once``
  does; the scheduler only decides when events from outside arrive (:func:`external`
  answers between turns, executor jobs in the middle of one as well) and when a sleep
  elapses a little early because the loop lagged. What this fidelity finds, stock asyncio
  can do.
* ``any``: as ``await``, and timers and callbacks are choices too.

Time is virtual: it jumps to the next deadline when nothing else can go. A short sleep
may also elapse while tasks are ready, since a slow await of one user is a long time for
another; a timeout may not, or every timeout of every program would fire. Deadlines keep
their order in all fidelities.

A loop is reused from run to run; nothing of one run is seen by the next.
"""

import asyncio
import bisect
import collections
import contextlib
import contextvars
import heapq
import math
import operator
import sys
import threading
from asyncio import events
from collections.abc import Callable, Coroutine
from types import BuiltinFunctionType, FrameType
from typing import TYPE_CHECKING, Any

from test_framework.explore.endings import (
    EndlessError,
    RunOverError,
    StalledError,
)
from test_framework.explore.face import Face
from test_framework.explore.handles import STEP, Entry
from test_framework.explore.jobs import Job, Landings, Workers
from test_framework.explore.names import LOOPS, job_name
from test_framework.explore.schedule import Fidelity
from test_framework.explore.waits import (
    own_frame,
    place,
    stuck_waits,
    waits_of,
)

if TYPE_CHECKING:
    from test_framework.explore.service import Service

CONTINUE = -1
"""Option in ``fifo``: run the queued turn, let nothing arrive."""

CLOCK = -2
"""Option: time passes until the next deadline."""

ELAPSE_S = 0.5
"""Longest sleep that may elapse while tasks are ready, seconds, in ``await``.

A short sleep stands for I/O, and a slow step of one user may outlast it; a long one is
meant as time, and its relation to timeouts is part of the program.
"""

LAG_S = 0.05
"""Seconds that a loop may lag behind its timers in one run, in ``fifo``.

A busy machine delays a loop that much; a program whose result depends on two timers
this close to each other races.
"""

START_S = 100_000.0
"""Time at which a run begins, seconds; zero often means "never" in programs."""

READING_S = 1e-9
"""Seconds by which the clock goes on at each reading, as real ones do.

So no two timers are due at the same instant unless the program says so, and whoever
asked first comes first.
"""

READINGS_S = 1e-4
"""How much of a bound in time the readings of the clock may use up."""

LAPSE_S = 86_400.0
"""How long an answer may take where no timer bounds it, seconds: a day, longer than leases.

Offered only where it can be seen: to a program that has read the clock.
"""

MAX_STEPS = 100_000
"""Steps after which a run counts as endless."""

SUSPECT_STEPS = 2_000
PATIENCE = 50
"""When a run is looked at for tasks that are stuck while others, such as a heartbeat, go on.

After so many steps main and whom it waits for may look stuck; if nobody has joined them
after ``PATIENCE`` times as many, they are.
"""

Choose = Callable[[list[int]], int]
"""Gets the numbers of what may go next, returns a position in that list.

Tasks are 0 and up; ``CONTINUE`` and ``CLOCK`` are -1 and -2, events from outside below.
"""

Hook = Callable[[int], None]

sleep_is_over = asyncio.futures._set_result_unless_cancelled  # type: ignore[attr-defined]  # how a sleep is told from a timeout
_MAX_CLEANUP_STEPS = 10_000
# Until main's end is noticed by those who can go on; a task that spins does not end.
_MAX_SETTLING_STEPS = 1_000
# Rounds of callbacks that only queue callbacks, after which time passes.
_MAX_ROUNDS = 100


def is_read_by_program(frame: FrameType) -> bool:
    """Tell whether a reading of the clock is one by the program itself.

    asyncio and anyio read it to arm timers, which a schedule rules anyway.

    Args:
        frame: Of who reads.
    """
    module: str = frame.f_globals.get("__name__", "")
    return not module.startswith(_OWN_READERS)


_OWN_READERS = ("asyncio.", "anyio.", "test_framework.explore.")


def _answer(future: "asyncio.Future[None]") -> None:
    # A fault may have answered it before.
    if not future.done():
        future.set_result(None)


def _deadline(entry: Entry) -> float:
    return entry.deadline


def give_up(future: "asyncio.Future[None]") -> None:
    """End a wait whose timer fires only when nothing else can go, in every fidelity."""
    _answer(future)


def cancel_quietly(task: asyncio.Task[Any]) -> None:
    """Cancel a task that is left over.

    Tasks that wait for each other in a ring pass the request on for ever; they stay.
    """
    with contextlib.suppress(RecursionError):
        task.cancel()


class ExplorationLoop(Face):
    """Runs one scenario after the other under schedulers.

    Args:
        fidelity: Which orders are possible.
        max_steps: Steps of a run before it counts as endless.

    Attributes:
        order: Number of every step and event so far; in ``fifo`` of every arrival and
            contested turn.
        errors: Contexts given to ``call_exception_handler``.
        left: Numbers of tasks that were not done when main was.
        jobs: Executor jobs run so far.
        invariants: What must hold after every step.
        disconnects: How the client of a request goes away, by task of the request.
        services: What serves users and is settled before the state is checked.
        cancelled: Tasks that a fault cancelled.
        done: Tasks that were done when main was.
        stranger: Name of a foreign thread that called in; None when none did.
        choices: Decisions with more than one option so far.
        patience: How many times longer than ``SUSPECT_STEPS`` others are waited for.
    """

    def __init__(
        self, fidelity: Fidelity = Fidelity.AWAIT, *, max_steps: int = MAX_STEPS
    ) -> None:
        self.patience = PATIENCE
        self.fidelity = fidelity
        self.max_steps = max_steps
        self._is_fifo = fidelity is Fidelity.FIFO
        self._is_any = fidelity is Fidelity.ANY
        self._thread = threading.get_ident()
        self._is_running = False
        self._handler: Callable[[Any, dict[str, Any]], object] | None = None
        self._task_factory: Any = None
        self._landings = Landings()
        self._reset()

    def _reset(self) -> None:
        self.order: list[int] = []
        self.forget_tasks()
        # After the tasks: futures that die with them report to the old list.
        self.errors: list[dict[str, Any]] = []
        self.left: list[int] = []
        self.invariants: list[Callable[[], object]] = []
        self.disconnects: dict[asyncio.Task[Any], Callable[[], object]] = {}
        self.services: list[Service] = []
        self.cancelled: set[asyncio.Task[Any]] = set()
        self.done: set[asyncio.Task[Any]] = set()
        self.jobs = 0
        self.choices = 0
        self._callbacks: collections.deque[Entry] = collections.deque()
        # Context, callback and arguments of each option.
        self._ready: list[tuple[Any, Any, tuple[Any, ...]]] = []
        self._options: list[int] = []
        self._externals: list[Entry] = []
        self._timers: list[tuple[float, int, Entry]] = []
        self._due: list[Entry] = []
        self._now = START_S
        self._lag_left = LAG_S
        self._open_until = 0.0
        self._open_readings = 0
        self._timer_count = 0
        self._readings = 0
        self._is_clock_read = False
        self._generators = None
        self._job_context: contextvars.Context | None = None
        self._workers = Workers()
        self._default_executor = None
        self._landings.forget()
        self._limit = min(self.max_steps, SUSPECT_STEPS)
        self._is_suspect = False
        self._steps = 0
        self._movers: set[int] = set()
        self.stranger: str | None = None

    # -- what asyncio asks of a loop ----------------------------------------------

    def time(self) -> float:
        """Return the virtual time, seconds since the run began."""
        if not self._is_clock_read:
            self._is_clock_read = is_read_by_program(
                sys._getframe(1)
            )  # the documented way to a caller
        self._readings += 1
        return self._now + self._readings * READING_S

    def is_running(self) -> bool:
        """Tell whether a run is going on."""
        return self._is_running

    def call_soon(
        self,
        callback: Any,
        *args: Any,
        context: Any = None,
    ) -> Entry | None:
        """Queue a callback; a step of a task becomes an option of the scheduler."""
        kind = type(callback)
        if kind is STEP or (
            kind is BuiltinFunctionType and callback.__name__ == "task_wakeup"
        ):
            task = callback.__self__
            number = self._numbers.get(task)
            if number is None:
                number = self._register(task)
            if not self._is_fifo:
                # A task keeps no handle of its steps, so none is made.
                self._ready.append((context, callback, args))
                self._options.append(number)
                return None
            entry = Entry(callback, args, context, number)
            self._callbacks.append(entry)
            return entry
        if context is None:
            context = contextvars.copy_context()
        entry = Entry(callback, args, context, self.current)
        if self._is_any:
            self._ready.append((context, entry.run, ()))
            self._options.append(self.current)
        else:
            self._callbacks.append(entry)
        return entry

    def call_soon_threadsafe(
        self,
        callback: Any,
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Entry | None:
        """Queue a callback; from another thread it is noted, for no order is ours."""
        if threading.get_ident() != self._thread:
            self.stranger = threading.current_thread().name
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Any,
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Entry:
        """Queue a callback for ``delay`` seconds of virtual time from now."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Any,
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Entry:
        """Queue a callback for an instant of virtual time."""
        if context is None:
            context = contextvars.copy_context()
        entry = Entry(callback, args, context, self.current)
        entry.deadline = when
        if when == math.inf:
            return entry
        if when <= self._now + self._readings * READING_S:
            # No clock is needed: it is due in the next turn of any loop.
            if self._is_any:
                self._ready.append((context, entry.run, ()))
                self._options.append(self.current)
            else:
                bisect.insort(self._due, entry, key=_deadline)
            return entry
        # Ties by age: the heap of asyncio leaves them open, and so a program that
        # depends on them would depend on luck.
        self._timer_count += 1
        heapq.heappush(self._timers, (when, self._timer_count, entry))
        return entry

    def run_in_executor(
        self,
        executor: Any,
        func: Callable[..., Any],
        *args: Any,
    ) -> Any:
        """Queue a job; it runs as one step when the scheduler lets it.

        An executor with so many workers has so many jobs that may go at one time.
        """
        executor = executor or self._default_executor
        job = Job(self, func, args)
        future = job.future
        label = job_name(func)
        owner = self.current

        def begin() -> None:
            entry = Entry(self._run_job, (job, executor), contextvars.Context(), owner)
            self._add_external(entry, label)
            if self._is_fifo:
                self._landings.begin(entry.event, self._callbacks)

        self._workers.begin(executor, job, begin)
        return future

    # -- events from outside --------------------------------------------------------

    def external_event(self, label: str) -> asyncio.Future[None]:
        """Return a future that is done when the scheduler says so.

        Args:
            label: What the world outside is asked for; shown in witnesses.
        """
        future = self.create_future()
        entry = Entry(_answer, (future,), contextvars.Context(), self.current)
        self._add_external(entry, label)
        return future

    def interrupt(self, number: int, strike: Callable[[], None]) -> int:
        """Let a task be struck when the scheduler says so; return the event's number."""
        entry = Entry(strike, (), contextvars.Context(), number)
        self._add_external(entry, "interrupt")
        return entry.event

    def withdraw(self, event: int) -> None:
        """Let an event that has not come never come."""
        self._externals[:] = [one for one in self._externals if one.event != event]

    def _add_external(self, entry: Entry, label: str) -> None:
        entry.event = number = self._register_event(label, entry.owner)
        if self._is_fifo:
            self._externals.append(entry)
        else:
            self._ready.append((entry.context, entry.callback, entry.args))
            self._options.append(number)

    def _run_job(self, job: Job, executor: Any) -> None:
        self.jobs += 1
        if self._job_context is None:
            # One thread of a pool keeps its context from job to job.
            self._job_context = contextvars.Context()
        job.run(self._job_context)
        self._workers.end(executor)

    # -- running --------------------------------------------------------------------

    def run(
        self,
        main: Coroutine[Any, Any, Any],
        begin: Callable[["ExplorationLoop"], Choose],
        *,
        before: Hook | None = None,
        after: Hook | None = None,
    ) -> Any:
        """Run a coroutine to its end and clean up after it.

        Args:
            main: The scenario; becomes task 0.
            begin: Makes the function that is called at every decision with more than
                one option.
            before: Called with the number of a task before each of its steps.
            after: Called with the number of a task after each of its steps.

        Returns:
            What ``main`` returned.

        Raises:
            StalledError: Nothing can go and main is not done.
            EndlessError: The run exceeded ``max_steps``.
        """
        self._reset()
        choose = begin(self)
        running = events._get_running_loop()
        events._set_running_loop(self)
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(self._first_iteration, self._finalise)
        self._is_running = True
        LOOPS.append(self)
        try:
            task = self.create_task(main)
            drive = self._drive_turns if self._is_fifo else self._drive_steps
            while not drive(task, choose, before, after):
                pass
            return task.result()
        except StalledError as exc:
            exc.waits = exc.waits or waits_of(self)
            raise
        except EndlessError as exc:
            exc.where = place(own_frame(self.tasks[max(self.current, 0)].get_coro()))
            raise
        finally:
            try:
                self._clean_up()
            finally:
                # Also when a task that is cancelled there ends the process.
                self._is_running = False
                LOOPS.pop()
                sys.set_asyncgen_hooks(*hooks)
                events._set_running_loop(running)

    def _drive_steps(
        self,
        main: asyncio.Task[Any],
        choose: Choose,
        before: Hook | None,
        after: Hook | None,
    ) -> bool:
        """Run steps until main is done; False when a callback raised: call again."""
        callbacks, ready, options, order = (
            self._callbacks,
            self._ready,
            self._options,
            self.order,
        )
        due, tasks = self._due, self.tasks
        timers, is_any, limit = self._timers, self._is_any, self._limit
        rounds = 0
        entry = None
        try:
            while len(order) < limit:
                # Those queued now: anyio cancels a scope by a callback that queues itself
                # until the tasks are gone, so tasks must get their turn in between.
                if due:
                    callbacks.extend(due)
                    due.clear()
                for _ in range(len(callbacks)):
                    entry = callbacks.popleft()
                    if not entry.is_cancelled:
                        self.current = entry.owner
                        entry.context.run(entry.callback, *entry.args)
                if (callbacks or due) and not options:
                    rounds += 1
                    if rounds == _MAX_ROUNDS:
                        rounds = 0
                        if not timers:
                            break
                        self._wait_for_clock()
                    continue
                if (timers and self._may_elapse_early()) or (
                    self._is_clock_read and self._may_lapse()
                ):
                    options.append(CLOCK)
                    self.choices += len(options) > 1
                    try:
                        position = choose(options) if len(options) > 1 else 0
                    finally:
                        # Also when the scheduler cuts the run.
                        options.pop()
                    if position == len(options):
                        order.append(CLOCK)
                        if not (self._is_clock_read and self._lapse()):
                            self._fire(callbacks)
                        continue
                elif len(options) > 1:
                    self.choices += 1
                    position = choose(options)
                elif options:
                    position = 0
                else:
                    self._wait_for_clock()
                    continue
                if is_any:
                    # Callbacks of one task stay in order among themselves.
                    position = options.index(options[position])
                number = options.pop(position)
                context, callback, args = ready.pop(position)
                order.append(number)
                if number < 0:
                    self.current = self.owner(number)
                    context.run(callback, *args)
                    continue
                self.current = number
                if before is not None:
                    before(number)
                context.run(callback, *args)
                if after is not None:
                    after(number)
                if tasks[number].done():
                    if tasks[number] is main:
                        return True
                    self._release(number, tasks[number])
                    # Callbacks run before these are bound anew.
                    del context, callback, args
        except (SystemExit, KeyboardInterrupt, RunOverError):
            raise
        except Exception as exc:  # noqa: BLE001  # of a callback: stock asyncio tells the handler
            self._tell(exc, entry)
            return False
        late = order[limit // 2 :]
        movers = {self.owner(number) for number in late if number != CLOCK}
        self._look_for_stuck(movers, [self.owner(number) for number in options])
        return False

    def _look_for_stuck(self, movers: set[int], ready: list[int]) -> None:
        """Judge a run that has reached its limit, or let it go on for longer.

        Args:
            movers: Tasks that went on in the later half of the run.
            ready: Tasks that could go on now, or wait for the world outside.

        Raises:
            StalledError: Main waits for ever; others merely go on.
            EndlessError: The run is as long as it may be.
        """
        waits = stuck_waits(self, movers) if movers.issuperset(ready) else ()
        if waits and self._is_suspect:
            going = tuple(self.name(number) for number in sorted(movers))
            raise StalledError(waits, going)
        if not waits and self._limit >= self.max_steps:
            raise EndlessError
        self._is_suspect = bool(waits)
        self._limit *= self.patience
        if not waits:
            self._limit = min(self._limit, self.max_steps)

    def _drive_turns(
        self,
        main: asyncio.Task[Any],
        choose: Choose,
        before: Hook | None,
        after: Hook | None,
    ) -> bool:
        """Run turns until main is done; False when the run got long: call again."""
        queue, movers, limit = self._callbacks, self._movers, self._limit
        steps = self._steps
        half = limit // 2
        try:
            while steps < limit:
                self._let_arrive(choose)
                for _ in range(len(queue)):
                    entry = queue.popleft()
                    if entry.is_cancelled:
                        continue
                    steps += 1
                    number = self.current = entry.owner
                    if steps > half:
                        movers.add(number)
                    task: Any = getattr(entry.callback, "__self__", None)
                    is_step = isinstance(task, asyncio.Task) and task in self._numbers
                    if is_step and before is not None:
                        before(number)
                    try:
                        entry.context.run(entry.callback, *entry.args)
                    except (SystemExit, KeyboardInterrupt, RunOverError):
                        raise
                    except Exception as exc:  # noqa: BLE001  # of a callback: stock asyncio tells the handler
                        # The turn goes on: nothing arrives in the middle of it.
                        self._tell(exc, entry)
                    if not is_step:
                        continue
                    if after is not None:
                        after(number)
                    if task.done():
                        if task is main:
                            return True
                        self._release(number, task)
        finally:
            self._steps = steps
        waiting = (*queue, *self._due, *self._externals)
        self._look_for_stuck(set(movers), [entry.owner for entry in waiting])
        movers.clear()
        return False

    def _let_arrive(self, choose: Choose) -> None:
        """Between two turns: let events arrive, in an order of the scheduler.

        As in ``BaseEventLoop._run_once``: first what the selector has, then the timers
        that are due. So after a timer nothing arrives before the next turn.
        """
        queue, externals, due = self._callbacks, self._externals, self._due
        if self._landings.after:
            self._let_land(choose)
        timers_came = False
        while True:
            is_busy = bool(queue or due)
            options = [CONTINUE] if is_busy else []
            if not timers_came:
                options += [entry.event for entry in externals]
            if (self._timers and self._may_elapse_early(is_idle=not is_busy)) or (
                self._is_clock_read and self._may_lapse()
            ):
                options.append(CLOCK)
            if not options:
                raise StalledError
            position = 0
            if len(options) > 1:
                self.choices += 1
                position = choose(options)
            number = options[position]
            if len(options) > 1 or number != CONTINUE:
                self.order.append(number)
            if number < CLOCK:
                if not is_busy and self._timers:
                    # It ended a wait, which may have lasted until just before the next
                    # deadline. As long as nobody looks at the clock, that is open.
                    self._open_until = self._timers[0][0]
                    self._open_readings = self._readings
                queue.append(externals.pop(position - (options[0] == CONTINUE)))
                self._landings.after.pop(number, None)
                continue
            queue.extend(due)
            due.clear()
            if number == CONTINUE:
                return
            if self._is_clock_read and self._lapse():
                continue
            timers_came = True
            is_lag = is_busy and not self._is_open()
            lag = self._fire(queue)
            if is_lag:
                self._lag_left -= lag

    def _let_land(self, choose: Choose) -> None:
        """Let jobs have ended in the middle of the turn that is over."""

        def decide(jobs: list[int]) -> int | None:
            options = [CONTINUE, *jobs]
            self.choices += 1
            number = options[choose(options)]
            self.order.append(number)
            return None if number == CONTINUE else number

        def take(event: int) -> Entry:
            job = next(entry for entry in self._externals if entry.event == event)
            self._externals.remove(job)
            return job

        self._landings.let_land(self._callbacks, decide, take)

    def _is_open(self) -> bool:
        """Tell whether it may be as late as the next deadline by now."""
        return (
            self._timers[0][0] <= self._open_until
            and self._readings == self._open_readings
        )

    def _may_elapse_early(self, *, is_idle: bool = False) -> bool:
        """Tell whether the next timer may fire although tasks are ready."""
        self._drop_cancelled_timers()
        timers = self._timers
        if not timers:
            return False
        if timers[0][2].callback is give_up:
            return is_idle and not self._externals
        if self._is_fifo:
            lag = timers[0][0] - self._now
            return is_idle or lag <= self._lag_left + READINGS_S or self._is_open()
        if self._is_any or (
            timers[0][2].callback is sleep_is_over
            and timers[0][0] - self._now <= ELAPSE_S + READINGS_S
        ):
            return True
        # Only the world outside can go on, and no timeout outlasts it for sure.
        return max(self._options, default=CONTINUE) < CLOCK

    def _lapse_end(self) -> float:
        """Return until when awaited answers may take: the next deadline, or a day."""
        self._drop_cancelled_timers()
        if self._timers:
            return self._timers[0][0] - READINGS_S
        return self._now + LAPSE_S

    def _may_lapse(self) -> bool:
        """Tell whether time may pass while answers are on their way.

        Only where the program has read the clock: of time that passes before that, or
        again before its next reading, nobody knows.
        """
        is_waiting = (
            not (self._callbacks or self._due)
            and bool(self._externals or self._options)
            and max(self._options, default=CLOCK - 1) < CLOCK
        )
        return is_waiting and self._lapse_end() > self._now

    def _lapse(self) -> bool:
        """Let time pass as while an answer is on its way; False where it may not."""
        if not self._may_lapse():
            return False
        self._now = self._lapse_end()
        self._is_clock_read = False
        return True

    def _drop_cancelled_timers(self) -> None:
        timers = self._timers
        while timers and timers[0][2].is_cancelled:
            heapq.heappop(timers)

    def _wait_for_clock(self) -> None:
        """Nothing is ready: let time pass until a timer fires."""
        self._drop_cancelled_timers()
        if not self._timers:
            raise StalledError
        self._fire(self._callbacks)

    def _fire(self, queue: collections.deque[Entry] | list[Entry]) -> float:
        """Let time pass to the next deadline and queue what is due at that instant.

        Returns:
            How long that was, seconds.
        """
        timers, before = self._timers, self._now
        while timers:
            when, _, entry = heapq.heappop(timers)
            if entry.is_cancelled:
                continue
            self._now = max(self._now, when)
            queue.append(entry)
            if not (timers and timers[0][0] == when):
                break
        return self._now - before

    def expire(self, task: asyncio.Task[Any]) -> bool:
        """Let time pass until a timeout armed by ``task`` fires; False if there is none.

        Everything due before it fires too, as on a loop that was blocked that long.
        """
        wanted = self._timeout_of(task)
        if wanted is None:
            return False
        # In fifo they come after what this turn has queued and after what arrives.
        queue = self._due if self._is_fifo else self._callbacks
        while wanted not in queue:
            self._fire(queue)
        return True

    def has_timeout(self, task: asyncio.Task[Any]) -> bool:
        """Tell whether a timeout is armed by ``task``."""
        return self._timeout_of(task) is not None

    def _timeout_of(self, task: asyncio.Task[Any]) -> Entry | None:
        if not self._timers:
            return None
        waiter = getattr(task, "_fut_waiter", None)
        for timer in sorted(self._timers, key=operator.itemgetter(0, 1)):
            entry = timer[2]
            owner = getattr(entry.callback, "__self__", None)
            is_timeout = (
                isinstance(owner, asyncio.Timeout)
                and getattr(owner, "_task", None) is task
            )
            # wait_for of 3.11 arms a plain timer that releases the waiter.
            is_wait = entry.callback is not sleep_is_over and waiter in entry.args
            if not entry.is_cancelled and (is_timeout or is_wait):
                return entry
        return None

    def _clean_up(self) -> None:
        """Let ready steps end, then cancel what is left, as ``asyncio.run`` does."""
        self.done = {task for task in self.tasks if task.done()}
        # A task that could go on by itself is not left over: it is just not done yet.
        if self._ready or self._callbacks or self._due:
            self._drain(_MAX_SETTLING_STEPS, with_externals=False)
        for number, task in enumerate(self.tasks):
            if not task.done():
                self.left.append(number)
        if self.left:
            for number in self.left:
                cancel_quietly(self.tasks[number])
            self._drain()
        if self._generators:
            closing = self.create_task(self.shutdown_asyncgens())
            self._drain()
            closing.cancel()
        for task in self.tasks:
            if not task.done():
                # It resisted cancellation; its destruction is no news.
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # no public switch
        self._numbers = {}

    def _drain(
        self, most: int = _MAX_CLEANUP_STEPS, *, with_externals: bool = True
    ) -> None:
        """Run what is ready, in order, but no more than ``most`` steps."""
        # Callbacks in rounds: anyio cancels a scope by one that queues itself until the
        # tasks are gone, and they go only if a step comes in between.
        in_round = len(self._callbacks)
        for _ in range(most):
            entry = None
            # The first that is not of the world outside, unless that may come too.
            ready = next(
                (
                    position
                    for position, number in enumerate(self._options)
                    if with_externals or number > CLOCK
                ),
                None,
            )
            if self._callbacks and (in_round or ready is None):
                in_round = max(0, in_round - 1)
                entry = self._callbacks.popleft()
                context, callback, args = entry.context, entry.run, ()
            elif ready is not None:
                context, callback, args = self._ready.pop(ready)
                self._options.pop(ready)
                in_round = len(self._callbacks)
            elif self._due:
                entry = self._due.pop(0)
                context, callback, args = entry.context, entry.run, ()
            elif self._externals and with_externals:
                entry = self._externals.pop(0)
                context, callback, args = entry.context, entry.run, ()
            else:
                return
            try:
                context.run(callback, *args)
            except Exception as exc:  # noqa: BLE001  # of a callback: stock asyncio tells the handler
                self._tell(exc, entry)
