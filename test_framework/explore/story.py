"""Tell a run in source lines: who went from where to where, and what struck."""

import contextlib
from pathlib import Path
from types import CodeType
from typing import NamedTuple

from test_framework.explore.endings import RunAgainError
from test_framework.explore.execution import Runner
from test_framework.explore.failures import Failure
from test_framework.explore.names import FIRST_EVENT
from test_framework.explore.report import Line
from test_framework.explore.scenario import arrive
from test_framework.explore.schedule import Fault
from test_framework.explore.schedulers import Scheduler
from test_framework.explore.waits import (
    NOWHERE,
    holders_recorded,
    is_foreign,
    is_library,
    own_frame,
    place,
    source,
)

_EXPLORER = str(Path(__file__).parent)
_NOT_ARRIVED = "waits to arrive"


class _Step(NamedTuple):
    task: str
    where: str
    code: str


class Step(_Step):
    """Where a task stands after a step, or when a request of it left.

    Equal to another one of the same task and place, whatever was asked for: keys may be
    random where orders are not.

    Attributes:
        task: Its path name.
        where: ``file:line``; empty when the step was its last.
        code: That source line, or what else it waits for.
        request: What left, in words; empty for a step.
        is_own: The task belongs to the program and not to one of its libraries.
    """

    request: str = ""
    is_own: bool = True


class Tracer:
    """Notes after each step where its task stands, and which requests left before it.

    Args:
        runner: Whose run is traced.

    Attributes:
        steps: Every step and every request, in order.
    """

    def __init__(self, runner: Runner) -> None:
        self._loop = runner.loop
        self._seen = 0
        self._at: dict[int, Step] = {}
        self._own: set[int] = set()
        self.steps: list[Step] = []

    def note(self, number: int) -> None:
        """Note the step that ``number`` just made."""
        self.note_requests()
        task = self._loop.tasks[number]
        name = self._loop.name(number)
        coroutine = task.get_coro()
        code = getattr(coroutine, "cr_code", None)
        if task.done():
            step = Step(name, "", "")
        else:
            frame = own_frame(coroutine)
            step = Step(name, place(frame), source(frame))
            if frame is None and code is arrive.__code__:
                step = Step(name, NOWHERE, _NOT_ARRIVED)
            if frame is not None and not is_library(frame.f_code):
                self._own.add(number)
        if _is_own(code):
            self._own.add(number)
        step.is_own = number in self._own
        self._at[number] = step
        self.steps.append(step)

    def note_requests(self) -> None:
        """Note the requests that have left since the last step."""
        # Only a loop over real sockets has them.
        requests: dict[int, str] = getattr(self._loop, "requests", {})
        order = self._loop.order
        fresh = order[self._seen :] if requests else ()
        self._seen = len(order)
        for event in fresh:
            if event > FIRST_EVENT or event not in requests:
                continue
            number = self._loop.owner(event)
            # Clients send from tasks of their own.
            while number > 0 and number not in self._own:
                number = self._loop.parents[number]
            at = self._at.get(number)
            where, code = (at.where, at.code) if at is not None else ("", "")
            step = Step(self._loop.name(max(number, 0)), where, code)
            step.request = requests[event]
            self.steps.append(step)


def _is_own(code: CodeType | None) -> bool:
    """Tell whether a coroutine is of the program, or a user that the explorer starts."""
    if code is None:
        return False
    is_ours = code.co_filename.startswith(_EXPLORER)
    return is_ours or not (is_library(code) or is_foreign(code))


def traced(
    runner: Runner, scheduler: Scheduler, faults: tuple[Fault, ...] = ()
) -> tuple[Failure | None, list[Step]]:
    """Make one run and return its failure and its steps; locks know their holders."""
    while True:
        tracer = Tracer(runner)
        with holders_recorded(runner.loop), contextlib.suppress(RunAgainError):
            failure = runner.run(scheduler, faults, after=tracer.note)
            tracer.note_requests()
            return failure, tracer.steps


def tell(steps: list[Step], faults: tuple[Fault, ...]) -> tuple[Line, ...]:
    """Return traced steps as lines, the steps of one task in a row as one.

    Main's steps that only start tasks and wait for them are told as well: they show
    where the users begin. Over real services it is told which requests left when. There
    tasks of clients are left out, for their requests are told as those of the task that
    started them.
    """
    lines: list[Line] = []
    at: dict[str, str] = {}
    counts: dict[str, int] = {}
    own = {step.task for step in steps if step.is_own}
    has_requests = any(step.request for step in steps)
    for step in steps:
        name, where, code = step
        requests = (step.request,) if step.request else ()
        fault = ""
        if not requests:
            counts[name] = counts.get(name, 0) + 1
            fault = _fault_at(name, counts[name], faults)
        if where == NOWHERE and name == "main" and not fault and not requests:
            # It is ours and only starts the users of a Scenario.
            continue
        if has_requests and name not in own and not fault:
            continue
        last = lines[-1] if lines else None
        count = 0 if requests else 1
        # A request leaves from where its task stands, so what follows it at another place
        # is another line.
        if (
            last is not None
            and last.task == name
            and not last.fault
            and (not last.requests or last.stop == where)
        ):
            lines[-1] = Line(
                name,
                last.steps + count,
                last.start,
                where,
                code,
                fault,
                last.requests + requests,
            )
        else:
            lines.append(
                Line(name, count, at.get(name, ""), where, code, fault, requests)
            )
        at[name] = where
    return tuple(lines)


def _fault_at(name: str, count: int, faults: tuple[Fault, ...]) -> str:
    for fault in faults:
        if fault.task == name and fault.suspension == count:
            late = " just before it goes on" if getattr(fault, "late", False) else ""
            return f"{type(fault).__name__.lower()}{late}"
    return ""
