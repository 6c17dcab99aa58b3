"""The loop of a tracked run: tells the recorder which step makes what ready."""

import asyncio
import functools
import sys
from collections.abc import Callable, Coroutine
from types import BuiltinFunctionType
from typing import Any

from test_framework.explore.decisions import Choose, Hook
from test_framework.explore.handles import STEP, Entry
from test_framework.explore.loop import ExplorationLoop
from test_framework.explore.loop.clock import is_read_by_program
from test_framework.explore.names import default_name
from test_framework.explore.reduction.tracked import Recorder
from test_framework.explore.reduction.tracked_asyncio import TrackedFuture, TrackedTask
from test_framework.explore.reduction.watched import record_with, recorder
from test_framework.explore.schedule import Fidelity


class TrackedLoop(ExplorationLoop):
    """Runs a scenario while a recorder notes what its steps do.

    Args:
        recorder: Notes the steps.
        max_steps: Steps of a run before it counts as endless.
    """

    def __init__(self, recorder: Recorder, *, max_steps: int) -> None:
        self._recorder = recorder
        recorder.loop = self
        super().__init__(Fidelity.AWAIT, max_steps=max_steps)

    def run(
        self,
        main: Coroutine[Any, Any, Any],
        begin: Callable[[ExplorationLoop], Choose],
        *,
        before: Hook | None = None,  # noqa: ARG002  # faults are not struck in tracked runs
        after: Hook | None = None,
    ) -> Any:
        """Run a coroutine to its end; see ``ExplorationLoop.run``."""
        recorder = self._recorder
        stepped = functools.partial(recorder.stepped, after)
        old = record_with(recorder)
        try:
            return super().run(main, begin, before=recorder.begin, after=stepped)
        finally:
            record_with(old)

    def _may_lapse(self) -> bool:
        if super()._may_lapse():
            self._recorder.refuse("an answer may outlast what it reads of the clock")
        return False

    def _wait_for_clock(self) -> None:
        # Nothing is ready; what looks at a stalled run is no part of its last step.
        self._recorder.close()
        super()._wait_for_clock()

    def _clean_up(self) -> None:
        self._recorder.end()
        super()._clean_up()

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Entry | None:
        """Queue a callback, and note whose step made a task ready."""
        kind = type(callback)
        if kind is STEP or (
            kind is BuiltinFunctionType and callback.__name__ == "task_wakeup"
        ):
            task = callback.__self__
            number = self._numbers.get(task)
            if number is None:
                number = self._register(task)
            else:
                self._recorder.woke(number)
            self._ready.append((context, callback, args))
            self._options.append(number)
            return None
        self._recorder.called_soon()
        return super().call_soon(callback, *args, context=context)

    def _release(self, number: int, task: Any) -> None:
        """Keep it: locations are told apart by where objects lie."""

    def _register(self, task: asyncio.Task[Any]) -> int:
        number = super()._register(task)
        if type(task) is not TrackedTask and recorder() is not None:
            self._recorder.refuse("a task was made without the loop")
        self._recorder.spawned(number, task)
        return number

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future that reports its use."""
        future: asyncio.Future[Any] = TrackedFuture(loop=self)
        return future

    def create_task(
        self, coro: Coroutine[Any, Any, Any], *, name: object = None, **options: Any
    ) -> asyncio.Task[Any]:
        """Start a task that reports its use."""
        number = len(self.tasks)
        task: asyncio.Task[Any] = TrackedTask(
            coro,
            loop=self,
            name=default_name(number) if name is None else str(name),
            **options,
        )
        if task not in self._numbers:
            self._register(task)
        return task

    def _add_external(self, entry: Entry, label: str) -> None:
        callback = entry.callback

        def come(*args: Any) -> None:
            self._recorder.begin(entry.event)
            callback(*args)
            self._recorder.stepped(None, entry.event)

        entry.callback = come
        super()._add_external(entry, label)

    def _register_event(self, label: str, owner: int | None = None) -> int:
        number = super()._register_event(label, owner)
        self._recorder.spawned(number)
        return number

    def time(self) -> float:
        """Return the virtual time; each reading depends on those before."""
        if not self._is_clock_read:
            self._is_clock_read = is_read_by_program(
                sys._getframe(1)
            )  # the documented way to a caller
        active = recorder()
        if active is not None:
            active.write(active.location("clock"))
        return super().time()

    def call_at(
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> Entry:
        """Queue a callback; whether time passes before other steps is no conflict."""
        self._recorder.called_soon()
        count = self._timer_count
        entry = super().call_at(when, callback, *args, context=context)
        if self._timer_count != count and recorder() is not None:
            self._recorder.refuse("it waits for time to pass (a sleep or a timeout)")
        return entry
