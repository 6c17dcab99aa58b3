"""One run of a scenario under a scheduler and faults, judged.

What counts as a failure: an exception or failed assertion of the scenario, a broken
invariant, a deadlock, an exception that a task raised and nobody retrieved, an error
told to the loop's handler, and a task or dirty connection left over that the first run
did not leave.
A cancellation that a fault caused is no failure.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

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
from test_framework.explore.failures import (
    Failure,
    broken_claim,
    deadlock,
    first_line,
    source_raised,
    where_raised,
    words,
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
        strikes = faults
        if faults:
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
                told = first_line(exc) or source_raised(exc)
                raise BrokenInvariantError(told) from exc
            except Exception as exc:
                raise BrokenInvariantError(words(exc)) from exc
            if is_broken(result):
                raise BrokenInvariantError(broken_claim(holds, result))

    def _judge(self, exc: BaseException) -> Failure:
        match exc:
            case BrokenInvariantError():
                cause = exc.__cause__ or exc
                return Failure("invariant", str(exc), where_raised(cause))
            case StalledError(waits=waits, going=going):
                return deadlock(waits, going)
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
                    f"What looks at each step failed: {words(exc.__cause__ or exc)}."
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
        message = words(exc) if kind == "exception" else first_line(exc)
        where = where_raised(exc)
        if kind == "assertion" and not message:
            message = source_raised(exc) or "The assertion is false."
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
            text = f"{text}: {words(exc)}"
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
                        f"{loop.name(number)} raised {words(lost)}, and nobody "
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
        loop = self.loop
        if not loop.left:
            # In a plain test nobody has looked; who goes on holds things by right.
            loop.look_for_leftovers()
        if not loop.leftovers:
            return None
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
