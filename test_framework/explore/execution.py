"""One run of a scenario under a scheduler and faults, judged.

What counts as a failure: an exception or failed assertion of the scenario, a broken
invariant, a deadlock, an exception that a task raised and nobody retrieved, an error
told to the loop's handler, and a task or dirty connection left over that the first run
did not leave.
A cancellation that a fault caused is no failure.
"""

import asyncio
import linecache
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace

from test_framework.core import InternalError, TargetError, UsageError
from test_framework.explore.decisions import Hook
from test_framework.explore.endings import (
    CutError,
    EndlessError,
    HookError,
    MisuseError,
    RunAgainError,
    RunOverError,
    StalledError,
    is_outcome_of_pytest,
)
from test_framework.explore.faults import (
    FaultPlan,
    FaultPoints,
    follows,
    interposing,
)
from test_framework.explore.leftovers import Leftover
from test_framework.explore.loop import ExplorationLoop
from test_framework.explore.ordered import begin_run
from test_framework.explore.scenario import CoroutineFunction, is_broken
from test_framework.explore.schedule import (
    Backwards,
    Cancel,
    Disconnect,
    Expire,
    Fault,
    Interrupt,
    Raise,
    Schedule,
)
from test_framework.explore.schedulers import Scheduler, segments_of
from test_framework.explore.waits import NOWHERE, Wait, cycle, innermost, short_path


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong in one run.

    Attributes:
        kind: ``assertion``, ``exception``, ``invariant``, ``deadlock``, ``endless``,
            ``lost-exception``, ``loop-error``, ``task-left``, ``dirty-pool``,
            ``dirty-connection`` or ``foreign-canary``.
        message: One sentence.
        where: ``file:line`` in the program; empty when there is none.
        details: Further lines, such as the wait-for graph.
        key: Place by which it is known again; empty where that is ``where``.
    """

    kind: str
    message: str
    where: str = ""
    details: tuple[str, ...] = ()
    key: str = ""

    @property
    def identity(self) -> tuple[str, str]:
        """What makes two failures the same bug: kind and place."""
        return self.kind, self.key or self.where


class _Everything(frozenset[str]):
    """Contains every name."""

    def __contains__(self, name: object) -> bool:
        return True


EVERYTHING = _Everything()
"""What a first run may leave over: it sets the norm."""


class BrokenInvariantError(RunOverError):
    """Raised through the loop when an invariant does not hold after a step."""


class Runner:
    """Runs one scenario again and again.

    Args:
        main: Makes the coroutine of task 0.
        loop: Where it runs; kept from run to run.

    Attributes:
        main: As given; another one may take its place.
        runs: How many runs were made.
        usual_left: Names of the tasks and connections that the first run left over.
        watches: Whether invariants are looked for after each step.
        struck: The faults of the last run that found their task waiting.
        strokes: Those in words: what was done to whom at which line.
        points: Collects where faults can strike; None when none are asked for.
        faulty: Runs with a fault (count).
        excused: Those among them that ended with what their fault caused.
    """

    def __init__(self, main: CoroutineFunction, loop: ExplorationLoop) -> None:
        self.main = main
        self.loop = loop
        self.runs = 0
        self.usual_left: frozenset[str] = frozenset()
        self.watches = True
        self.struck: list[Fault] = []
        self.strokes: list[str] = []
        self.points: FaultPoints | None = None
        self.faulty = self.excused = 0

    def run(
        self,
        scheduler: Scheduler,
        faults: tuple[Fault, ...] = (),
        *,
        after: Hook | None = None,
    ) -> Failure | None:
        """Make one run.

        Args:
            scheduler: Who goes next.
            faults: What is done to tasks.
            after: Also called after each step.

        Returns:
            What went wrong first, None when nothing did. ``loop`` keeps the order.

        Raises:
            UsageError: The scenario misuses the explorer.
            TargetError: A server does not answer.
            RunAgainError: The run says nothing and must be made again.
        """
        loop = self.loop
        self.runs += 1
        self.strokes = []
        before: Hook | None = None
        hooks: list[Hook] = [] if after is None else [after]
        loop.set_task_factory(None)
        strikes = tuple(f for f in faults if not isinstance(f, Backwards))
        begin_run(is_backwards=len(strikes) < len(faults))
        if strikes:
            self.faulty += 1
            plan = FaultPlan(loop, strikes)
            self.struck, self.strokes = plan.struck, plan.strokes
            before = _together([plan.before])
            hooks.append(plan.after)
            if any(isinstance(fault, Raise) for fault in strikes):
                loop.set_task_factory(interposing(loop))
        elif self.points is not None and not faults:
            hooks.append(self.points.watch(loop))
        if self.watches:
            # Until a run shows that the scenario has no invariants.
            hooks.append(self._check_invariants)
        try:
            loop.run(
                self.main(),
                scheduler.begin,
                before=before,
                after=_together(hooks),
            )
        except BaseException as exc:  # noqa: BLE001  # judged, and raised again if not of the scenario
            if not _is_consequence(exc, strikes, is_real=loop.io != "sim"):
                return self._explained(self._judge(exc))
            # The scenario was ended by the fault, so what it left is no wonder.
            self.excused += 1
            return self._judge_errors(only_own=True) or self._judge_leftovers()
        failure = None
        if loop.errors or loop.left or any(task._log_traceback for task in loop.tasks):
            failure = self._judge_errors() or self._judge_rest()
        return failure or self._judge_leftovers()

    def left_over(self) -> frozenset[str]:
        """Return what the last run left over: names of tasks and connections."""
        loop = self.loop
        names = [loop.name(number) for number in loop.left]
        return frozenset([*names, *(leftover.name for leftover in loop.leftovers)])

    def schedule(self, faults: tuple[Fault, ...] = ()) -> Schedule:
        """Return the last run as a schedule."""
        loop = self.loop
        return Schedule(loop.fidelity, segments_of(loop), faults, io=loop.io)

    def _check_invariants(self, _: int) -> None:
        for holds in self.loop.invariants:
            try:
                result = holds()
            except AssertionError as exc:
                told = _first_line(exc) or _source_raised(exc)
                raise BrokenInvariantError(told) from exc
            except Exception as exc:
                raise BrokenInvariantError(_words(exc)) from exc
            if is_broken(result):
                raise BrokenInvariantError(_told(holds, result))

    def _judge(self, exc: BaseException) -> Failure:
        match exc:
            case BrokenInvariantError():
                cause = exc.__cause__ or exc
                return Failure("invariant", str(exc), where_raised(cause))
            case StalledError(waits=waits, going=going):
                return _deadlock(waits, going)
            case EndlessError():
                last = self.loop.name(max(self.loop.current, 0))
                return Failure(
                    "endless",
                    f"The run did not end within {self.loop.max_steps:,} steps; "
                    f"{last} was running.",
                    exc.where,
                )
            case KeyboardInterrupt() | MisuseError() | UsageError() | TargetError():
                raise exc
            case HookError():
                raise InternalError(
                    f"What looks at each step failed: {_words(exc.__cause__ or exc)}."
                ) from exc
            case RunAgainError() | CutError():
                raise exc
            case asyncio.CancelledError():
                return Failure("exception", "The scenario was cancelled from inside.")
            case _:
                pass
        if is_outcome_of_pytest(exc):
            raise exc
        kind = "assertion" if isinstance(exc, AssertionError) else "exception"
        kind = getattr(exc, "failure_kind", kind)
        message = _words(exc) if kind == "exception" else _first_line(exc)
        where = where_raised(exc)
        if kind == "assertion" and not message:
            message = _source_raised(exc) or "The assertion is false."
        return Failure(kind, message, where)

    def _judge_errors(self, *, only_own: bool = False) -> Failure | None:
        """Judge what was told to the loop's handler; ``only_own``: errors of our kind."""
        for context in self.loop.errors:
            exc = context.get("exception")
            kind = getattr(exc, "failure_kind", None)
            if only_own and kind is None:
                continue
            text = context.get("message", "error in the loop")
            if exc is None:
                return Failure("loop-error", text)
            text = f"{text}: {_words(exc)}"
            return Failure(kind or "loop-error", text, where_raised(exc))
        return None

    def _judge_rest(self) -> Failure | None:
        """Judge lost exceptions and tasks left over."""
        loop = self.loop
        for number, task in enumerate(loop.tasks):
            # What __del__ of a task looks at, without waiting for it to be collected.
            if number and task._log_traceback and task in loop.done:  # no public way
                task._log_traceback = False
                lost = None if task.cancelled() else task.exception()
                if lost is not None:
                    return Failure(
                        "lost-exception",
                        f"{loop.name(number)} raised {_words(lost)}, and nobody "
                        "awaited it.",
                        where_raised(lost),
                    )
        for number in loop.left:
            name = loop.name(number)
            if number and name not in self.usual_left:
                return Failure(
                    "task-left",
                    f"{name} was still running when the scenario ended; in the order "
                    "of plain asyncio it is not.",
                )
        return None

    def _judge_leftovers(self) -> Failure | None:
        """Judge what the next user of a pool would find."""
        if not self.loop.left:
            # In a plain test nobody has looked; who goes on holds things by right.
            self.loop.look_for_leftovers()
        for leftover in self._unusual_leftovers():
            return Failure(
                leftover.kind,
                leftover.message,
                leftover.where,
                (*leftover.details, *self.strokes),
            )
        return None

    def _explained(self, failure: Failure) -> Failure:
        """Add to what failed what was left in pools before: it may be the cause."""
        told = list(failure.details)
        for leftover in self._unusual_leftovers():
            told += [leftover.message, *leftover.details]
        return replace(failure, details=tuple(told))

    def _unusual_leftovers(self) -> Iterator[Leftover]:
        for leftover in self.loop.leftovers:
            # Of a pool it was said when it is clean, so it is in no run usual.
            if leftover.kind == "dirty-pool" or leftover.name not in self.usual_left:
                yield leftover


def _is_consequence(
    exc: BaseException, faults: tuple[Fault, ...], *, is_real: bool
) -> bool:
    """Tell whether a fault explains that the scenario ended with ``exc``.

    Over real connections an error is a connection that is cut, of which a client tells
    by an exception of its own, often without naming the cause.
    """
    raised: list[type[BaseException]] = []
    for fault in faults:
        if isinstance(fault, Cancel | Interrupt | Disconnect):
            raised.append(asyncio.CancelledError)
        elif isinstance(fault, Expire):
            raised.append(TimeoutError)
        elif is_real:
            raised += [OSError, EOFError]
    return bool(faults) and follows(exc, tuple(raised), by_context=is_real)


def _together(hooks: list[Hook]) -> Hook | None:
    if not hooks:
        return None

    def call(number: int) -> None:
        try:
            for hook in hooks:
                hook(number)
        except RunOverError:
            raise
        except Exception as exc:
            # The loop would take it for an error of a callback of the program.
            raise HookError from exc

    return call


def _told(holds: object, result: object) -> str:
    """Return what an invariant returned, and the line where it is defined."""
    # Of a method as well, and of what a partial wraps.
    holds = getattr(holds, "func", holds)
    name = getattr(holds, "__qualname__", repr(holds)).rpartition("<locals>.")[2]
    told = f"{name} is {result!r}"
    code = getattr(holds, "__code__", None)
    if code is None:
        return told
    file, line = code.co_filename, code.co_firstlineno
    return (
        f"{told}: {linecache.getline(file, line).strip()}  at {short_path(file)}:{line}"
    )


def _first_line(exc: BaseException) -> str:
    try:
        return str(exc).partition("\n")[0]
    except Exception as broken:  # noqa: BLE001  # of the program's own class
        return f"(its __str__ raises {type(broken).__name__})"


def _words(exc: BaseException) -> str:
    words = f"{type(exc).__name__}: {_first_line(exc)}"
    if isinstance(exc, BaseExceptionGroup):
        words += f": {_words(exc.exceptions[0])}"
    return words


def where_raised(exc: BaseException) -> str:
    """Return ``file:line`` of the program's own frame that raised, else empty."""
    file, line = _raised_at(exc)
    return f"{short_path(file)}:{line}" if file else ""


def _source_raised(exc: BaseException) -> str:
    """Return the line of source that raised; empty where there is none."""
    return linecache.getline(*_raised_at(exc)).strip()


def _raised_at(exc: BaseException) -> tuple[str, int]:
    """Return file and line of the program's own frame that raised, else no file."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    lines = dict(traceback.walk_tb(exc.__traceback__))
    frame = innermost(lines)
    return ("", 0) if frame is None else (frame.f_code.co_filename, lines[frame])


def _deadlock(waits: tuple[Wait, ...], going: tuple[str, ...]) -> Failure:
    ring = cycle(waits)
    others = f"only {', '.join(going)} can go" if going else "nothing can go"
    if ring:
        names = " -> ".join(wait.task for wait in (*ring, ring[0]))
        message = f"Deadlock: {names}; {others}."
    else:
        names = ", ".join(wait.task for wait in waits)
        message = f"Deadlock: {others}; {names} wait for ever."
    # Not main that waits for everybody, nor a worker that waits for work. Not the ring
    # either to know it by, for who holds what is recorded only to tell a run.
    stuck = [wait for wait in waits if not wait.is_parent]
    busy = [wait for wait in stuck if not wait.is_idle]
    shown = (*busy, *stuck, *waits)
    details = []
    for wait in waits:
        held = f", held by {', '.join(wait.holders)}" if wait.holders else ""
        where = f"  at {wait.where}" if wait.where != NOWHERE else ""
        details.append(f"{wait.task} waits {wait.what}{held}{where}")
    where = (*ring, *shown)[0].where
    return Failure("deadlock", message, where, tuple(details), key=shown[0].where)
