"""Names of tasks that are the same in every run and every schedule.

Events from outside (a job, an answer) are numbered down from ``FIRST_EVENT`` and are
named by who waits for them and what for: ``user[3]/SELECT[0]``.

asyncio numbers unnamed tasks per process, and their order of creation depends on the
schedule. The path of creators does not: ``user[3]/send[0]`` is the first ``send`` that
``user[3]`` started. A task that was given a name keeps it as the last part.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import getweakrefcount

from test_framework.explore.leftovers import Leftover
from test_framework.explore.service import Service

_NAMES = [f"Task-{number}" for number in range(256)]


def default_name(number: int) -> str:
    """Return the name a task gets that was given none; the same in every run."""
    return _NAMES[number] if number < len(_NAMES) else f"Task-{number}"


def job_name(func: object) -> str:
    """Return the name of what an executor is to run, behind what wraps it."""
    while isinstance(func, partial):
        # asyncio.to_thread runs its function in a context, anyio a partial of it.
        is_in_context = getattr(func.func, "__name__", "") == "run" and func.args
        func = func.args[0] if is_in_context else func.func
    return getattr(func, "__qualname__", "job")


FIRST_EVENT = -3
"""Number of the first event from outside; the next one is one less."""


_OF_ASYNCIO = 1
"""Weak references to each task that asyncio has itself, for ``all_tasks``."""


class Finished:
    """What is kept of a task that is done: enough to tell of it, nothing that it held.

    A program may have weak references to its tasks, which go when it lets go of them.
    """

    _log_traceback = False
    _fut_waiter = None

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._name = task.get_name()
        self._coroutine = task.get_coro()
        self._is_cancelled = task.cancelled()

    def done(self) -> bool:
        """Return True."""
        return True

    def cancelled(self) -> bool:
        """Tell whether it was cancelled."""
        return self._is_cancelled

    def get_name(self) -> str:
        """Return its name."""
        return self._name

    def get_coro(self) -> Any:
        """Return its coroutine, which has no frame any more."""
        return self._coroutine


class NamedTasks:
    """The tasks and outside events of one run by number; 0 is main.

    Names are made when asked for.

    Attributes:
        tasks: In order of creation; of those that are done it may be ``Finished``.
        parents: Number of the task that created each; negative for none.
        current: Number of the task whose step or callback is running.
        io: What input and output the loop has: ``sim`` (none), ``gate`` or ``live``.
        is_waiting: The loop waits for a server, so that nothing moves is no hang.
        notes: What a reader of the report must know, in the order of its discovery.
        pools: What asks each watched pool whether it is clean.
        leftovers: What users of the run have left for the next one.
        has_looked: It was looked for leftovers in this run.
    """

    io: str = "sim"
    is_waiting: bool = False
    notes: dict[str, None] = {}  # noqa: RUF012  # empty where nothing is ever noted
    services: list[Service]
    tasks: list[asyncio.Task[Any]]
    parents: list[int]
    current: int
    pools: list[Callable[[], Leftover | None]]
    leftovers: list[Leftover]
    has_looked: bool
    _numbers: dict[Any, int]
    _names: list[str]
    _siblings: dict[tuple[int, str], int]
    _events: list[tuple[int, str]]

    def forget_tasks(self) -> None:
        """Begin a run without tasks."""
        self.tasks = []
        self.parents = []
        self.current = -1
        self.pools = []
        self.leftovers = []
        self.has_looked = False
        self._numbers = {}
        self._names = []
        self._siblings = {}
        self._events = []

    def is_dirty(self) -> bool:
        """Tell whether something is left now that a task may still clean."""
        return False

    def look_for_leftovers(self) -> None:
        """Ask once, when users are done, what they have left in pools."""
        if not self.has_looked:
            self.has_looked = True
            if self.pools:
                self.leftovers += filter(None, (ask() for ask in self.pools))

    def _register(self, task: asyncio.Task[Any]) -> int:
        number = self._numbers[task] = len(self.tasks)
        self.tasks.append(task)
        self.parents.append(self.current)
        return number

    def _release(self, number: int, task: Any) -> None:
        """Let go of a task that is done, as a loop does.

        Not of one whose exception nobody has seen yet: that is told at the end. Not
        either where a service asks which tasks were its own.

        Args:
            number: Its number.
            task: The task; has been let go of before when a callback of it comes late.
        """
        if (
            type(task) is Finished or task._log_traceback or self.services
        ):  # no public way
            return
        if (
            getweakrefcount(task) <= _OF_ASYNCIO
            and not task.cancelled()
            and (task.exception() or task.result()) is None
        ):
            # It holds nothing, and nobody would see it go.
            return
        del self._numbers[task]
        finished: Any = Finished(task)
        self.tasks[number] = finished

    def _register_event(self, label: str, owner: int | None = None) -> int:
        """Number an event that a task waits for: the current one, if none is given."""
        if owner is None:
            owner = self.current
        self._events.append((max(owner, 0), label))
        return FIRST_EVENT + 1 - len(self._events)

    def owner(self, number: int) -> int:
        """Return the task that waits for an event; of a task, itself."""
        return (
            self._events[FIRST_EVENT - number][0] if number <= FIRST_EVENT else number
        )

    def name(self, number: int) -> str:
        """Return the path name of a task, its creators and itself, or of an event.

        Children of main lack the prefix.
        """
        if number <= FIRST_EVENT:
            return self._event_name(FIRST_EVENT - number)
        names = self._names
        while len(names) <= number:
            names.append(self._make_name(len(names)))
        return names[number]

    def _make_name(self, number: int) -> str:
        if number == 0:
            return "main"
        task = self.tasks[number]
        label = task.get_name()
        is_own = label != default_name(number)
        # anyio names tasks by module and qualified name.
        label = label.rpartition("<locals>.")[2]
        if not is_own:
            code = task.get_coro()
            label = getattr(code, "__name__", type(code).__name__)
        parent = self.parents[number]
        count = self._siblings.get((parent, label), 0)
        self._siblings[parent, label] = count + 1
        if not is_own or count:
            label = f"{label}[{count}]"
        return label if parent <= 0 else f"{self.name(parent)}/{label}"

    def _event_name(self, index: int) -> str:
        owner, label = event = self._events[index]
        count = self._events[:index].count(event)
        # A label is any text; a schedule has one entry a line.
        words = " ".join(label.replace("#", " ").split()) or "event"
        return f"{self.name(owner)}/{words}[{count}]"


LOOPS: list[NamedTasks] = []
"""The loops whose runs go on in this process, the innermost last.

A list and no attribute of the class: to set one makes CPython forget what it has learned
of the class, and every run would pay a third more.
"""
