"""Who told whom, by an event, a queue, a condition or a future, that something is ready.

A worker that fills in a job and then sets its event has announced what it wrote, and
whoever waited for the event may read it. Locks and semaphores are no announcements:
two short critical sections, one after the other, still lose an update.

Only the direct announcement counts, from the writer to the reader. Were it passed on,
every request that goes through one shared worker would be excused.

Source: ad-hoc synchronisation in Raychev et al., EventRacer (OOPSLA 2013).
"""

import weakref
from types import FrameType
from typing import Any, Final, Protocol

from test_framework.detect.access.books import Birth, TaskState

MOST_TOLD: Final = 256
"""A queue that is never empty hears of every request there ever was."""


class Tasks(Protocol):
    """The books, as far as they say who runs."""

    def state(self) -> TaskState | None:
        """Return the state of the running task; None outside of tasks."""

    def state_of(self, task: object) -> TaskState | None:
        """Return the state of a task that has not ended."""


class Signals:
    """What was announced by what, and by whom, at which of their steps.

    Args:
        tasks: Knows the tasks that run.
    """

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._told: weakref.WeakKeyDictionary[Any, dict[int, int]]
        self._told = weakref.WeakKeyDictionary()

    def tell(self, source: Any) -> None:
        """Note that the running task announces what it did so far."""
        state = self._tasks.state()
        if state is not None:
            told = self._told.setdefault(source, {})
            told[state.number] = state.step
            _shorten(told)

    def tell_end(self, task: Any, state: TaskState) -> None:
        """Note that a task has ended."""
        self._told[task] = {state.number: state.step}

    def who(self) -> TaskState | None:
        """Return the state of the running task."""
        return self._tasks.state()

    def hear(self, source: Any, state: TaskState | None = None) -> None:
        """Note that a task, by default the running one, waited for an announcement."""
        state = state or self._tasks.state()
        if state is None:
            return
        state.heard.update(self._told.get(source, {}))
        _shorten(state.heard)
        ended = self._tasks.state_of(source)
        if ended is not None:
            # A task that is done, of whose end we are told after its waiter.
            state.heard[ended.number] = ended.step
        for part in getattr(source, "_children", ()):
            # Of asyncio.gather.
            self.hear(part, state)

    def take(self, lock: Any) -> None:
        """Note that the running task is about to take a lock, or to wait for it."""
        state = self._tasks.state()
        if state is not None:
            # It holds it when the await is over, and what it used before is not inside.
            state.locks[id(lock)] = (state.step + 1, lock)

    def release(self, lock: Any) -> None:
        """Note that the running task gave a lock back."""
        state = self._tasks.state()
        if state is not None:
            state.locks.pop(id(lock), None)


def bear(lock: Any, frame: FrameType) -> None:
    """Note in a lock where it is made: a table of all locks takes longer to ask."""
    vars(lock)[_BIRTH] = (frame.f_code.co_filename, frame.f_lineno)


def birth_of(lock: Any) -> Birth | None:
    """Return where a lock was made; None when nobody looked on."""
    birth: Birth | None = vars(lock).get(_BIRTH)
    return birth


_BIRTH: Final = "@birth"


def _shorten(told: dict[int, int]) -> None:
    """Forget those that were told of longest ago."""
    if len(told) > MOST_TOLD:
        for number in list(told)[: MOST_TOLD // 2]:
            del told[number]
