"""Names of tasks that are the same in every run and every schedule.

asyncio numbers unnamed tasks per process, and their order of creation depends on the
schedule. The path of creators does not: ``user[3]/send[0]`` is the first ``send`` that
``user[3]`` started. A task that was given a name keeps it as the last part.
"""

import asyncio
from typing import Any

_NAMES = [f"Task-{number}" for number in range(256)]


def default_name(number: int) -> str:
    """Return the name a task gets that was given none; the same in every run."""
    return _NAMES[number] if number < len(_NAMES) else f"Task-{number}"


class NamedTasks:
    """The tasks of one run by number, 0 is main; names are made when asked for.

    Attributes:
        tasks: In order of creation.
        parents: Number of the task that created each; negative for none.
        current: Number of the task whose step or callback is running.
    """

    tasks: list[asyncio.Task[Any]]
    parents: list[int]
    current: int
    _numbers: dict[Any, int]
    _names: list[str]
    _siblings: dict[tuple[int, str], int]

    def forget_tasks(self) -> None:
        """Begin a run without tasks."""
        self.tasks = []
        self.parents = []
        self.current = -1
        self._numbers = {}
        self._names = []
        self._siblings = {}

    def _register(self, task: asyncio.Task[Any]) -> int:
        number = self._numbers[task] = len(self.tasks)
        self.tasks.append(task)
        self.parents.append(self.current)
        return number

    def name(self, number: int) -> str:
        """Return the path name of a task: its creators and itself.

        Children of main lack the prefix.
        """
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
        if not is_own:
            code = task.get_coro()
            label = getattr(code, "__name__", type(code).__name__)
        parent = self.parents[number]
        count = self._siblings.get((parent, label), 0)
        self._siblings[parent, label] = count + 1
        if not is_own or count:
            label = f"{label}[{count}]"
        return label if parent <= 0 else f"{self.name(parent)}/{label}"
