"""What waits in the loop: steps of tasks, callbacks, and events from outside.

In ``await`` and ``any`` each of them is an option of the scheduler by itself. In ``fifo``
there is one queue, as in ``BaseEventLoop``, and beside it the events that may arrive.
"""

import asyncio
import collections
import contextvars
import threading
from collections.abc import Callable
from types import BuiltinFunctionType
from typing import Any

from test_framework.explore.handles import STEP, Entry
from test_framework.explore.jobs import Job, Landings, Workers
from test_framework.explore.loop.face import Face
from test_framework.explore.names import job_name
from test_framework.explore.schedule import Fidelity


def answer(future: "asyncio.Future[None]") -> None:
    """Let a future be done, unless a fault has answered it before."""
    if not future.done():
        future.set_result(None)


class Queues(Face):
    """The part of ``ExplorationLoop`` that takes callbacks, jobs and events.

    Attributes:
        fidelity: Which orders are possible.
        order: Number of every step and event so far; in ``fifo`` of every arrival and
            contested turn.
        choices: Decisions with more than one option so far.
        jobs: Executor jobs run so far.
        stranger: Name of a foreign thread that called in; None when none did.
    """

    fidelity: Fidelity
    _is_fifo: bool
    _is_any: bool
    _thread: int
    _landings: Landings
    _workers: Workers

    def _reset(self) -> None:
        super()._reset()
        self.order: list[int] = []
        self.choices = 0
        self.jobs = 0
        self.stranger: str | None = None
        self._callbacks: collections.deque[Entry] = collections.deque()
        # Context, callback and arguments of each option.
        self._ready: list[tuple[Any, Any, tuple[Any, ...]]] = []
        self._options: list[int] = []
        self._externals: list[Entry] = []
        self._job_context: contextvars.Context | None = None
        if self._workers.are_used:
            self._workers = Workers()
            self._landings.forget()

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

    def external_event(self, label: str) -> asyncio.Future[None]:
        """Return a future that is done when the scheduler says so.

        Args:
            label: What the world outside is asked for; shown in witnesses.
        """
        future = self.create_future()
        entry = Entry(answer, (future,), contextvars.Context(), self.current)
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
