"""Strikes the faults of a schedule while a run goes: at the k-th suspension of a task.

A task suspends once per step, so its k-th suspension is where its k-th step ends.
Cancellation is tried there in three ways. As soon as the task waits, so that what it
waits for is cancelled too; at any time while it waits; and late, when the answer has come and the task is about to
take it, the case in which ``wait_for`` lost its result until 3.12 (gh-86296).
"""

import asyncio
import builtins
import fnmatch
import functools
import importlib
import os
import re
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from test_framework.core import UsageError
from test_framework.explore.decisions import Hook
from test_framework.explore.loop import ExplorationLoop
from test_framework.explore.schedule import (
    Backwards,
    Cancel,
    Disconnect,
    Expire,
    Fault,
    Fidelity,
    Interrupt,
    Raise,
)
from test_framework.explore.waits import (
    frames_of,
    is_foreign,
    own_frame,
    place,
    source,
)

INJECTED = "_isolation_audit_injected"
"""Attribute of the exceptions that faults raise."""

_SLEEP = asyncio.sleep.__code__
_ANYIO = f"{os.sep}anyio{os.sep}"


def follows(
    exc: BaseException,
    faults: tuple[type[BaseException], ...] = (),
    *,
    by_context: bool = False,
) -> bool:
    """Tell whether a fault explains an exception.

    It was injected, was raised ``from`` one that was, or is a group of such. What a
    handler raises by mistake has it as its context only, and is no consequence.

    Args:
        exc: The exception.
        faults: Exceptions that count as injected.
        by_context: Whether a context counts as a cause.
    """
    if isinstance(exc, BaseExceptionGroup):
        return all(
            follows(each, faults, by_context=by_context) for each in exc.exceptions
        )
    if hasattr(exc, INJECTED) or isinstance(exc, faults):
        return True
    if isinstance(exc, TimeoutError):
        # A timeout is raised from the cancellation that it made itself.
        return False
    cause = exc.__cause__ or (exc.__context__ if by_context else None)
    return cause is not None and follows(cause, faults, by_context=by_context)


class FaultPoints:
    """Collects the faults that can strike, from runs without any.

    Which suspensions a task has depends on the order, so every such run is looked at.
    A fault counts where it would apply: a timeout expires where one is armed.

    Args:
        cancel: Pattern of the tasks that may be cancelled, expire and lose their
            client, with ``*`` and ``?`` as wildcards; empty for none.
        errors: With which waits for the world outside may end.

    Attributes:
        found: The faults, in the order in which runs showed them.
        names: The tasks that waited in any run.
    """

    def __init__(self, cancel: str, errors: tuple[str, ...]) -> None:
        # Tasks have brackets in their names, so here they stand for themselves.
        self._is_meant = re.compile(
            fnmatch.translate(cancel.replace("[", "[[]")) if cancel else "(?!)"
        ).match
        self._errors = errors
        self.found: dict[Fault, None] = {}
        self.names: dict[str, None] = {}

    def watch(self, loop: ExplorationLoop) -> Hook:
        """Begin a run: return what is to be called after each of its steps."""
        counts: dict[int, int] = {}

        def note(number: int) -> None:
            task = loop.tasks[number]
            if not task.done():
                counts[number] = counts.get(number, 0) + 1
                self._note(loop, number, counts[number])

        return note

    def _note(self, loop: ExplorationLoop, number: int, count: int) -> None:
        if any(service.is_spared(number) for service in loop.services):
            return
        task, name = loop.tasks[number], loop.name(number)
        found = self.found
        self.names[name] = None
        if self._is_meant(name):
            if not any(service.is_inner(number) for service in loop.services):
                found[Cancel(name, count)] = None
                found[Cancel(name, count, late=True)] = None
                if loop.fidelity is Fidelity.FIFO and loop.io == "sim":
                    # In the others the step that a cancellation causes may come late.
                    found[Interrupt(name, count)] = None
            if loop.has_timeout(task):
                found[Expire(name, count)] = None
            if task in loop.disconnects:
                found[Disconnect(name, count)] = None
        if self._errors and _may_fail(loop, task):
            for error in self._errors:
                found[Raise(name, count, error)] = None


class FaultPlan:
    """Strikes given faults in one run.

    Args:
        loop: The loop of the run.
        faults: What to strike.

    Attributes:
        struck: The faults that found their task waiting, in order.
        strokes: Those in words: what was done to whom at which line.
    """

    def __init__(self, loop: ExplorationLoop, faults: tuple[Fault, ...]) -> None:
        self._loop = loop
        self._by_point: dict[tuple[str, int], list[Fault]] = {}
        for fault in faults:
            self._by_point.setdefault((fault.task, fault.suspension), []).append(fault)
        self._names = {fault.task for fault in faults}
        self._counts: dict[int, int] = {}
        self._late: dict[int, Fault] = {}
        self._interrupts: dict[int, int] = {}
        self.struck: list[Fault] = []
        self.strokes: list[str] = []

    def before(self, number: int) -> None:
        """Strike late faults: the task is about to go on."""
        event = self._interrupts.pop(number, None)
        if event is not None:
            self._loop.withdraw(event)
        fault = self._late.pop(number, None)
        if fault is not None:
            task = self._loop.tasks[number]
            if not task.done():
                self._strike(task, fault)

    def after(self, number: int) -> None:
        """Strike the faults of the suspension that the task just reached."""
        loop = self._loop
        task = loop.tasks[number]
        if task.done():
            return
        count = self._counts[number] = self._counts.get(number, 0) + 1
        for fault in self._by_point.get((loop.name(number), count), ()):
            if isinstance(fault, Cancel) and fault.late:
                self._late[number] = fault
            elif isinstance(fault, Interrupt):
                come = functools.partial(self._interrupt, number, fault)
                self._interrupts[number] = loop.interrupt(number, come)
            else:
                self._strike(task, fault)

    def _interrupt(self, number: int, fault: Fault) -> None:
        # It may have gone on in this very turn.
        if self._interrupts.pop(number, None) is not None:
            self._strike(self._loop.tasks[number], fault)

    def _strike(self, task: asyncio.Task[Any], fault: Fault) -> None:
        stroke = _stroke(task, fault)
        if strike(self._loop, task, fault):
            self.struck.append(fault)
            self.strokes.append(stroke)


_DONE = {
    Cancel: "was cancelled",
    Interrupt: "was cancelled",
    Expire: "ran into its timeout",
    Disconnect: "lost its client",
}


def _stroke(task: asyncio.Task[Any], fault: Fault) -> str:
    """Say what a fault does to a waiting task, and at which line of the program."""
    done = f"met {fault.error}" if isinstance(fault, Raise) else _DONE[type(fault)]
    frame = own_frame(task.get_coro())
    where = f"{place(frame)}  {source(frame)}" if frame is not None else "its arrival"
    return f"{fault.task} {done} at {where}"


def strike(loop: ExplorationLoop, task: asyncio.Task[Any], fault: Fault) -> bool:
    """Do to a waiting task what a fault says; False when it does not apply."""
    match fault:
        case Cancel() | Interrupt():
            loop.cancelled.add(task)
            return task.cancel()
        case Expire():
            return loop.expire(task)
        case Disconnect():
            leave = loop.disconnects.get(task)
            if leave is None:
                return False
            leave()
            return True
        case Raise(error=name) if loop.io == "sim":
            return _answer_with(task, error_named(name))
        case Raise(error=name):
            # Where there is a network, it is the connection that fails.
            return bool(loop.cut(task, error_named(name)))
        case Backwards():
            # It strikes no task.
            return False


def error_named(name: str) -> BaseException:
    """Make the exception that a schedule names: a builtin, or ``module:Name``.

    Raises:
        UsageError: There is no such exception.
    """
    module, _, attribute = name.rpartition(":")
    try:
        owner = importlib.import_module(module) if module else builtins
        made = getattr(owner, attribute)(f"injected {attribute}")
    except Exception as exc:
        raise UsageError(
            f"error {name!r} cannot be raised ({exc}): expected the name of a builtin "
            "exception or 'module:Name' of one that takes a message."
        ) from exc
    if not isinstance(made, Exception):
        raise UsageError(f"error {name!r} is not an exception: it makes {made!r}.")
    setattr(made, INJECTED, True)
    return made


def _answer_with(task: asyncio.Task[Any], error: BaseException) -> bool:
    """Let what the task waits for fail, where it waits for the world outside."""
    if not is_outside(task):
        return False
    waiter = getattr(task, "_fut_waiter", None)
    coroutine = task.get_coro()
    if isinstance(coroutine, Interposed) and (waiter is None or _is_sleep(coroutine)):
        coroutine.pending = error
        if waiter is not None:
            # Its timer may be due already, and sets no result of a cancelled future.
            waiter.cancel()
        return True
    if waiter is None:
        return False
    waiter.set_exception(error)
    return True


def _is_sleep(coroutine: Any) -> bool:
    return list(frames_of(coroutine))[-1].f_code is _SLEEP


def _may_fail(loop: Any, task: asyncio.Task[Any]) -> bool:
    if loop.io == "sim":
        return is_outside(task)
    return bool(loop.has_request(task))


def is_outside(task: asyncio.Task[Any]) -> bool:
    """Tell whether a suspended task waits for the world outside.

    That may fail; waiting for a lock, a queue or another task cannot by itself.
    """
    waiter = getattr(task, "_fut_waiter", None)
    if waiter is not None and (type(waiter) is not asyncio.Future or waiter.done()):
        return False
    frames = list(frames_of(task.get_coro()))
    if not frames:
        return False
    codes = [frame.f_code for frame in frames]
    if codes[-1].co_name == "external":
        return True
    if codes[-1] is not _SLEEP and codes[-1].co_name != "__sleep0":
        # A future of the program's own: another task or callback answers it.
        return False
    while len(codes) > 1 and (codes[-1] is _SLEEP or codes[-1].co_name == "__sleep0"):
        codes.pop()
    # Checkpoints and futures of anyio are means of order, as those of asyncio.
    return not is_foreign(codes[-1]) and _ANYIO not in codes[-1].co_filename


class Interposed(Coroutine[Any, Any, Any]):
    """A coroutine into which an exception can be thrown at a bare yield or a sleep.

    Args:
        inner: The coroutine it stands for.
    """

    def __init__(self, inner: Coroutine[Any, Any, Any]) -> None:
        self._inner = inner
        self.__name__ = getattr(inner, "__name__", type(inner).__name__)
        self.pending: BaseException | None = None

    def __getattr__(self, name: str) -> Any:
        """Return what the coroutine says of itself, such as its frame.

        anyio asks with :func:`inspect.getcoroutinestate`.
        """
        return getattr(self._inner, name)

    def send(self, value: Any) -> Any:
        """Go on, or raise what is pending at the await."""
        if self.pending is not None:
            error, self.pending = self.pending, None
            return self._inner.throw(error)
        return self._inner.send(value)

    def throw(self, *error: Any) -> Any:
        """Raise at the await: what is pending there, else what is thrown."""
        pending, self.pending = self.pending, None
        return self._inner.throw(*error if pending is None else (pending,))

    def close(self) -> None:
        """End the coroutine."""
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._inner.__await__()


def interposing(loop: ExplorationLoop) -> Callable[..., asyncio.Task[Any]]:
    """Return a task factory that lets faults raise at every await."""

    def make(
        _: object, coro: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        return asyncio.Task(Interposed(coro), loop=loop, **options)

    return make
