"""Tell a run in source lines: who went from where to where, and what struck."""

import contextlib

from test_framework.explore.endings import RunAgainError
from test_framework.explore.execution import Failure, Runner
from test_framework.explore.report import Line
from test_framework.explore.schedule import Fault
from test_framework.explore.schedulers import Scheduler
from test_framework.explore.waits import (
    NOWHERE,
    holders_recorded,
    own_frame,
    place,
    source,
)

Step = tuple[str, str, str]
"""Task, ``file:line`` and source line after a step; the last two empty at its end."""


class Tracer:
    """Notes after each step where its task stands.

    Args:
        runner: Whose run is traced.

    Attributes:
        steps: Task, ``file:line`` and source line of every step; the last two are
            empty when the task ended with it.
    """

    def __init__(self, runner: Runner) -> None:
        self._loop = runner.loop
        self.steps: list[Step] = []

    def note(self, number: int) -> None:
        """Note the step that ``number`` just made."""
        task = self._loop.tasks[number]
        name = self._loop.name(number)
        if task.done():
            self.steps.append((name, "", ""))
            return
        frame = own_frame(task.get_coro())
        self.steps.append((name, place(frame), source(frame)))


def traced(
    runner: Runner, scheduler: Scheduler, faults: tuple[Fault, ...] = ()
) -> tuple[Failure | None, list[Step]]:
    """Make one run and return its failure and its steps; locks know their holders."""
    while True:
        tracer = Tracer(runner)
        with holders_recorded(runner.loop), contextlib.suppress(RunAgainError):
            failure = runner.run(scheduler, faults, after=tracer.note)
            return failure, tracer.steps


def tell(steps: list[Step], faults: tuple[Fault, ...]) -> tuple[Line, ...]:
    """Return traced steps as lines, the steps of one task in a row as one.

    Main's steps that only start tasks and wait for them are told as well: they show
    where the users begin.
    """
    lines: list[Line] = []
    at: dict[str, str] = {}
    counts: dict[str, int] = {}
    for name, where, code in steps:
        counts[name] = counts.get(name, 0) + 1
        fault = _fault_at(name, counts[name], faults)
        if where == NOWHERE and name == "main" and not fault:
            # It is ours and only starts the users of a Scenario.
            continue
        last = lines[-1] if lines else None
        if last is not None and last.task == name and not last.fault:
            lines[-1] = Line(name, last.steps + 1, last.start, where, code, fault)
        else:
            lines.append(Line(name, 1, at.get(name, ""), where, code, fault))
        at[name] = where
    return tuple(lines)


def _fault_at(name: str, count: int, faults: tuple[Fault, ...]) -> str:
    for fault in faults:
        if fault.task == name and fault.suspension == count:
            late = " just before it goes on" if getattr(fault, "late", False) else ""
            return f"{type(fault).__name__.lower()}{late}"
    return ""
