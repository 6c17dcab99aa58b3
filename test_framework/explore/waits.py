"""Who waits for what, read from the suspended frames of a stalled run.

The chain of a task's coroutines ends in the primitive it waits for; the frame of
``Lock.acquire`` has the lock, the frame of ``Queue.get`` the queue. Who holds a lock
is not written anywhere in asyncio; :class:`Holders` records it while it is installed,
which the explorer does only to explain a run that is already known to stall.
"""

import asyncio
import functools
import gc
import linecache
import os
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from test_framework.explore.names import NamedTasks

_ASYNCIO = str(Path(asyncio.__file__).parent)
_OURS = str(Path(__file__).parent)
_PACKAGES = tuple(sysconfig.get_path(kind) for kind in ("purelib", "platlib", "stdlib"))
_LIBRARIES = ("<frozen ", *_PACKAGES)
NOWHERE = "?"
"""The place of a task that has no line of the program."""

_VERBS = {
    "Lock.acquire": "to acquire",
    "Semaphore.acquire": "to acquire",
    "BoundedSemaphore.acquire": "to acquire",
    "Event.wait": "for the event",
    "Condition.wait": "to be notified by",
    "Condition.wait_for": "to be notified by",
    "Queue.get": "for an item of",
    "Queue.put": "for room in",
    "Queue.join": "for the work of",
    "Barrier.wait": "at",
}


@dataclass(frozen=True, slots=True)
class Wait:
    """One task that cannot go on.

    Attributes:
        task: Its path name.
        what: What it waits for, as words.
        where: ``file:line`` of the program's own await.
        code: That source line.
        holders: Who holds it, as ``TASK since file:line``; empty when unknown.
        blockers: Path names of the tasks it waits for, as far as known.
        is_parent: It waits for tasks that it has started or was given.
        is_idle: It waits for an item of a queue, as workers do that have nothing to do.
    """

    task: str
    what: str
    where: str
    code: str
    holders: tuple[str, ...] = ()
    blockers: tuple[str, ...] = ()
    is_parent: bool = False
    is_idle: bool = False


def is_foreign(code: CodeType) -> bool:
    """Tell whether code belongs to asyncio or to the explorer."""
    return code.co_filename.startswith((_ASYNCIO, _OURS))


def _is_ours(code: CodeType) -> bool:
    return code.co_filename.startswith(_OURS)


def frames_of(coroutine: Any) -> Iterator[FrameType]:
    """Yield the suspended frames of a coroutine, outermost first."""
    while coroutine is not None:
        if type(coroutine).__name__ in _OPAQUE:
            referents = gc.get_referents(coroutine)
            coroutine = next((it for it in referents if _is_awaited(it)), None)
            continue
        frame = (
            getattr(coroutine, "cr_frame", None)
            or getattr(coroutine, "gi_frame", None)
            or getattr(coroutine, "ag_frame", None)
        )
        if frame is not None:
            yield frame
        coroutine = (
            getattr(coroutine, "cr_await", None)
            or getattr(coroutine, "gi_yieldfrom", None)
            or getattr(coroutine, "ag_await", None)
        )


_OPAQUE = {
    "anext_awaitable",
    "async_generator_asend",
    "async_generator_athrow",
    "coroutine_wrapper",
}
"""Awaitables of C that do not say what they await; the collector knows."""


def _is_awaited(thing: Any) -> bool:
    return type(thing).__name__ in _OPAQUE or any(
        hasattr(thing, name) for name in ("cr_await", "ag_await", "gi_yieldfrom")
    )


def is_library(code: CodeType) -> bool:
    """Tell whether code is installed rather than the program's own."""
    # Of code that was compiled to C the name is relative, and no file is there.
    return code.co_filename.startswith(_LIBRARIES) or code.co_filename.endswith(".pyx")


def is_program_file(filename: str) -> bool:
    """Tell whether a file is neither installed nor of the explorer."""
    return not filename.startswith((*_LIBRARIES, _OURS))


def own_frame(coroutine: Any) -> FrameType | None:
    """Return the innermost suspended frame of the program itself.

    That is not in an installed package, if there is one: the reader knows their own
    line and not that of a client's pool.
    """
    return innermost(frames_of(coroutine))


def calling_frame(frame: FrameType | None = None) -> FrameType | None:
    """Return the frame of the program that called ``frame``, or what is running."""
    if frame is None:
        frame = sys._getframe(1)  # the documented way to a caller's line
    frames: list[FrameType] = []
    # Down to the loop that runs the step, past our own frames on top.
    while frame is not None and not (frames and _is_ours(frame.f_code)):
        if frames or not _is_ours(frame.f_code):
            frames.append(frame)
        frame = frame.f_back
    return innermost(reversed(frames))


def innermost(frames: Iterable[FrameType]) -> FrameType | None:
    """Return the last frame of the program, else of a library.

    Args:
        frames: Outermost first.
    """
    own = library = None
    for frame in frames:
        # Code that was compiled to C has no lines.
        if is_foreign(frame.f_code) or frame.f_lineno is None:
            continue
        if is_library(frame.f_code):
            library = frame
        else:
            own = frame
    return own or library


def place(frame: FrameType | None) -> str:
    """Return ``file:line``, the file without its folders when they are long."""
    if frame is None:
        return NOWHERE
    return f"{short_path(frame.f_code.co_filename)}:{frame.f_lineno}"


def short_path(filename: str) -> str:
    """Return a path as a reader would type it: relative to here, or to the packages."""
    return _short_path(filename, os.getcwd())  # noqa: PTH109  # once a step, ten times as fast


@functools.lru_cache(maxsize=4096)
def _short_path(filename: str, here: str) -> str:
    path = Path(filename)
    # The longest first: an environment may stand in the folder of the program.
    for folder in (*_PACKAGES, here):
        if path.is_relative_to(folder):
            return str(path.relative_to(folder))
    return str(path)


def source(frame: FrameType | None) -> str:
    """Return the source line at which a frame is suspended."""
    if frame is None:
        return ""
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()


def waits_of(loop: NamedTasks) -> tuple[Wait, ...]:
    """Return what every unfinished task of a run waits for."""
    return tuple(
        _wait_of(loop, number, task)
        for number, task in enumerate(loop.tasks)
        if not task.done()
    )


def _wait_of(loop: NamedTasks, number: int, task: asyncio.Task[Any]) -> Wait:
    frames = list(frames_of(task.get_coro()))
    own = own_frame(task.get_coro())
    target = None
    what = "for a future that nobody completes"
    for frame in frames:
        verb = _VERBS.get(frame.f_code.co_qualname)
        if verb is not None and is_foreign(frame.f_code):
            # The outermost is what the program called: Queue.join has an Event inside.
            target = frame.f_locals.get("self")
            what = f"{verb} {_name_of(target, own)}"
            break
    blockers: list[str] = []
    if target is None:
        blockers = [
            loop.name(loop.tasks.index(child))
            for child in _tasks_awaited(task, frames)
            if child in loop.tasks and not child.done()
        ]
        if blockers:
            what = "for " + ", ".join(blockers)
    is_parent = bool(blockers)
    holders = []
    if _recorded is not None and target is not None:
        for holder, since in _recorded.of(target):
            holders.append(f"{holder} since {since}")
            blockers.append(holder)
    return Wait(
        loop.name(number),
        what,
        place(own),
        source(own),
        tuple(holders),
        tuple(blockers),
        is_parent=is_parent,
        is_idle=isinstance(target, asyncio.Queue) and what.startswith("for an item"),
    )


_AWAITED: dict[str, Callable[[Any], Iterable[Any]]] = {
    "TaskGroup.__aexit__": lambda names: names["self"]._tasks,
    "wait": lambda names: names["fs"],
    "wait_for": lambda names: [names["fut"]],
    "Connection.wait": lambda names: [names["self"].task],
    "Connection.receive": lambda names: [names["self"].client],
}
"""How to find what a task waits for among the locals of a function of asyncio or ours."""


def _tasks_awaited(
    task: asyncio.Task[Any], frames: list[FrameType]
) -> list[asyncio.Task[Any]]:
    """Return the tasks that a task waits for: by itself, gathered, or in a group."""
    waiter = getattr(task, "_fut_waiter", None)
    awaited = [waiter, *(getattr(waiter, "_children", None) or ())]
    for frame in frames:
        find = _AWAITED.get(frame.f_code.co_qualname)
        if find is not None and is_foreign(frame.f_code):
            awaited += find(frame.f_locals)
    tasks = [thing for thing in awaited if isinstance(thing, asyncio.Task)]
    return list(dict.fromkeys(tasks))


def _name_of(thing: Any, frame: FrameType | None) -> str:
    """Return how the program calls ``thing``: ``lock``, ``self.lock``, ``state.lock``."""
    kind = type(thing).__name__
    if frame is not None:
        for name, value in frame.f_locals.items():
            if value is thing:
                return f"{kind} {name}"
            inner = getattr(value, "__dict__", None)
            if isinstance(inner, dict):
                for attribute, held in inner.items():
                    if held is thing:
                        return f"{kind} {name}.{attribute}"
    return f"a {kind}"


def stuck_waits(loop: NamedTasks, movers: set[int]) -> tuple[Wait, ...]:
    """Return the waits of the tasks that did not go on, if main is stuck with them.

    Args:
        loop: The loop of a run that does not end.
        movers: Numbers of the tasks that still go on.

    Returns:
        Empty when main goes on or waits for a task that does.
    """
    waits = {wait.task: wait for wait in waits_of(loop)}
    going = {loop.name(number) for number in movers}
    reached, waiting = {"main"}, ["main"]
    while waiting:
        wait = waits.get(waiting.pop())
        fresh = set(wait.blockers if wait is not None else ()) - reached
        reached |= fresh
        waiting += fresh
    if reached & going:
        return ()
    return tuple(wait for name, wait in waits.items() if name not in going)


def cycle(waits: tuple[Wait, ...]) -> tuple[Wait, ...]:
    """Return a cycle among waits, each waiting for the next; empty when none is known."""
    by_name = {wait.task: wait for wait in waits}
    for start in waits:
        path: list[Wait] = []
        current: Wait | None = start
        while current is not None and current not in path:
            path.append(current)
            current = next(
                (by_name[name] for name in current.blockers if name in by_name), None
            )
        if current is not None:
            return tuple(path[path.index(current) :])
    return ()


class Holders:
    """Who holds which lock or semaphore, while installed.

    Args:
        loop: The loop whose tasks acquire.
    """

    def __init__(self, loop: NamedTasks) -> None:
        self._loop = loop
        self._held: dict[int, list[tuple[str, str]]] = {}

    def of(self, target: Any) -> list[tuple[str, str]]:
        """Return task and place of each holder of ``target``."""
        if isinstance(target, asyncio.Condition):
            return []
        return self._held.get(id(target), [])

    def take(self, target: Any) -> None:
        """Note that the running task acquired ``target``."""
        name = self._loop.name(max(self._loop.current, 0))
        frame: FrameType | None = sys._getframe(
            2
        )  # the documented way to a caller's line
        while frame is not None and is_foreign(frame.f_code):
            frame = frame.f_back
        self._held.setdefault(id(target), []).append((name, place(frame)))

    def give(self, target: Any) -> None:
        """Note that ``target`` was released by somebody."""
        held = self._held.get(id(target), [])
        if held:
            held.pop(0)


_recorded: Holders | None = None


@contextmanager
def holders_recorded(loop: NamedTasks) -> Iterator[Holders]:
    """Record holders of locks and semaphores meanwhile."""
    global _recorded  # noqa: PLW0603  # read where a stall is described, deep in the loop
    holders = Holders(loop)
    saved = [
        (kind, kind.acquire, kind.release) for kind in (asyncio.Lock, asyncio.Semaphore)
    ]

    def wrap(kind: Any, acquire: Any, release: Any) -> None:
        async def recorded_acquire(self: Any) -> Any:
            result = await acquire(self)
            holders.take(self)
            return result

        def recorded_release(self: Any) -> None:
            holders.give(self)
            release(self)

        kind.acquire = recorded_acquire
        kind.release = recorded_release

    for kind, acquire, release in saved:
        wrap(kind, acquire, release)
    _recorded = holders
    try:
        yield holders
    finally:
        _recorded = None
        for kind, acquire, release in saved:
            kind.acquire, kind.release = acquire, release  # type: ignore[method-assign]  # put back
