"""The end of a run: what is ready ends, what is left over is cancelled.

As ``asyncio.run`` does it, but for tasks that could go on by themselves: they may.
"""

import asyncio
import contextlib
from typing import Any

from test_framework.explore.decisions import CLOCK
from test_framework.explore.loop.clock import VirtualTime

_MAX_CLEANUP_STEPS = 10_000
# Until main's end is noticed by those who can go on; a task that spins does not end.
_MAX_SETTLING_STEPS = 1_000


def cancel_quietly(task: asyncio.Task[Any]) -> None:
    """Cancel a task that is left over.

    Tasks that wait for each other in a ring pass the request on for ever; they stay.
    """
    with contextlib.suppress(RecursionError):
        task.cancel()


class CleanUp(VirtualTime):
    """The part of ``ExplorationLoop`` that cleans up after main.

    Attributes:
        done: Tasks that were done when main was.
        left: Numbers of tasks that were not.
    """

    def _reset(self) -> None:
        super()._reset()
        self.done: set[asyncio.Task[Any]] = set()
        self.left: list[int] = []

    def _clean_up(self) -> None:
        """Let ready steps end, then cancel what is left, as ``asyncio.run`` does."""
        tasks = self.tasks
        self.done = {task for task in tasks if task.done()}
        is_moving = self._ready or self._callbacks or self._due or self._generators
        if not is_moving and len(self.done) == len(tasks):
            self._numbers = {}
            return
        # A task that could go on by itself is not left over: it is just not done yet.
        if self._ready or self._callbacks or self._due:
            self._drain(_MAX_SETTLING_STEPS, with_externals=False)
        for number, task in enumerate(tasks):
            if not task.done():
                self.left.append(number)
        if self.left:
            for number in self.left:
                cancel_quietly(tasks[number])
            self._drain()
        if self._generators:
            closing = self.create_task(self.shutdown_asyncgens())
            self._drain()
            closing.cancel()
        for task in tasks:
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
            ready = self._first_ready(with_externals=with_externals)
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

    def _first_ready(self, *, with_externals: bool) -> int | None:
        """Return the first option that is not of the world outside, unless that counts."""
        options = self._options
        if with_externals or not options:
            return 0 if options else None
        return next((at for at, number in enumerate(options) if number > CLOCK), None)
