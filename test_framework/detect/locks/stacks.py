"""Where a task stands: lines of code, told late and only when somebody asks.

On the fast path a place is a code object and the offset of an instruction, which cost
a few nanoseconds; its line is looked up when an alarm is written. ``f_lineno`` would
walk the line table of the function at every acquire.
"""

import asyncio
import contextlib
import functools
import gc
import linecache
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, CoroutineType, FrameType
from typing import Any

ASYNCIO = str(Path(asyncio.__file__).parent)
_OURS = str(Path(__file__).parent)
_PACKAGES = tuple({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
_LIBRARIES = tuple({*_PACKAGES, sysconfig.get_path("stdlib")})
_PLUMBING = (ASYNCIO, _OURS, contextlib.__file__)
NOWHERE = "an unknown line"
MAX_FRAMES = 40
"""Frames of a stack that are told; deeper ones are recursion."""


@dataclass(frozen=True, slots=True)
class Place:
    """An instruction of the program.

    Attributes:
        code: Of which function.
        offset: Of the instruction, bytes from the start of the code.
    """

    code: CodeType
    offset: int

    @property
    def line(self) -> int:
        """Number of the source line; the function's first where it has no table."""
        for start, end, line in self.code.co_lines():
            if start <= self.offset < end and line is not None:
                return line
        return self.code.co_firstlineno

    def __str__(self) -> str:
        return f"{short_path(self.code.co_filename)}:{self.line}"


@functools.cache
def _here() -> str:
    # Asked once: in some containers it takes longer than a request.
    return str(Path.cwd())


@functools.lru_cache(maxsize=4096)
def short_path(filename: str) -> str:
    """Return a path relative to where the process began, or to installed packages."""
    path = Path(filename)
    # The longest first: an environment may stand in the folder of the program.
    for folder in (*_PACKAGES, _here()):
        if path.is_relative_to(folder):
            return str(path.relative_to(folder))
    return str(path)


def is_plumbing(code: CodeType) -> bool:
    """Tell whether code belongs to asyncio, contextlib or this watcher."""
    return code.co_filename.startswith(_PLUMBING)


def program_frame(frame: FrameType | None) -> FrameType | None:
    """Return the nearest caller that is neither asyncio nor ours."""
    while frame is not None and is_plumbing(frame.f_code):
        frame = frame.f_back
    return frame


_AWAITED = ("cr_await", "gi_yieldfrom", "ag_await")
_FRAMES = ("cr_frame", "gi_frame", "ag_frame")
_OPAQUE = frozenset(
    {
        "anext_awaitable",
        "async_generator_asend",
        "async_generator_athrow",
        "coroutine_wrapper",
    }
)
"""Awaitables of C that do not say what they await; the collector knows."""


def steps_of(task: asyncio.Task[Any]) -> list[Any]:
    """Return what a task awaits, from its coroutine down to its future.

    Every task that must wait looks at the holders so: 30 levels of a web framework
    take two microseconds, since frames are left alone.
    """
    steps: list[Any] = []
    step: Any = task.get_coro()
    while step is not None:
        kind = type(step)
        if kind is CoroutineType:
            steps.append(step)
            step = step.cr_await
        elif kind.__name__ in _OPAQUE:
            step = next((it for it in gc.get_referents(step) if _is_step(it)), None)
        else:
            steps.append(step)
            step = _first(step, _AWAITED)
    return steps


def frame_of(step: Any) -> FrameType | None:
    """Return the frame of what a task awaits, if it has one."""
    found: FrameType | None = _first(step, _FRAMES)
    return found


def frames_of(task: asyncio.Task[Any]) -> Iterator[FrameType]:
    """Yield the suspended frames of a task, outermost first."""
    for step in steps_of(task):
        frame = frame_of(step)
        if frame is not None:
            yield frame


def _first(step: Any, names: tuple[str, ...]) -> Any:
    return next((it for name in names if (it := getattr(step, name, None))), None)


def _is_step(thing: Any) -> bool:
    return type(thing).__name__ in _OPAQUE or any(hasattr(thing, n) for n in _AWAITED)


def _current_task() -> asyncio.Task[Any] | None:
    """Return the running task; None outside of tasks and of loops."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


_in_step: dict[Any, asyncio.Task[Any]] = getattr(asyncio.tasks, "_current_tasks", {})


def _current_task_of_3_11() -> asyncio.Task[Any] | None:
    """As above, without asking for the running loop.

    That calls ``getpid`` in CPython 3.11, which costs more than all the rest of an
    acquire. Its table holds a task for each loop that is inside of a step. With a loop
    in each of several threads, a callback that releases a lock may be taken for a task
    of another thread.
    """
    if not _in_step:
        return None
    if len(_in_step) == 1:
        for task in _in_step.values():
            return task
    return _current_task()


current_task = _current_task if sys.version_info >= (3, 12) else _current_task_of_3_11


def awaiter_of(task: asyncio.Task[Any]) -> asyncio.Task[Any] | None:
    """Return the task that waits for ``task``, if that is plain to see.

    ``asyncio.wait_for`` of CPython 3.11 runs what it is given in a task of its own,
    which ends before the caller goes on. Its callbacks lead to the caller: directly,
    or through the future that ``wait_for`` waits for.
    """
    for callback in _callbacks(task):
        for waiter in getattr(callback, "args", ()):
            if isinstance(waiter, asyncio.Future):
                for wakeup in _callbacks(waiter):
                    owner = getattr(wakeup, "__self__", None)
                    if isinstance(owner, asyncio.Task):
                        return owner
        owner = getattr(callback, "__self__", None)
        if isinstance(owner, asyncio.Task):
            return owner
    return None


def _callbacks(future: asyncio.Future[Any]) -> list[Any]:
    return [callback for callback, _ in getattr(future, "_callbacks", None) or ()]


def calling_place() -> Place | None:
    """Return the line of the program that called into asyncio."""
    frame = program_frame(sys._getframe(1))  # the documented way
    return None if frame is None else Place(frame.f_code, frame.f_lasti)


def running_frames(task: asyncio.Task[Any]) -> Iterator[FrameType]:
    """Yield the frames of the running task, innermost first, without ours.

    SQLAlchemy runs its drivers in a greenlet, whose frames end where it began; those
    of the task go on in its parent.
    """
    coroutine: Any = task.get_coro()
    outermost = getattr(coroutine, "cr_frame", None)
    greenlets: Any = sys.modules.get("greenlet")
    greenlet = None if greenlets is None else greenlets.getcurrent()
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if not is_plumbing(frame.f_code):
            yield frame
        if frame is outermost:
            return
        frame = frame.f_back
        if frame is None and greenlet is not None and greenlet.parent is not None:
            greenlet = greenlet.parent
            frame = greenlet.gr_frame


def own_place(task: asyncio.Task[Any]) -> Place:
    """Return the line of the running task that is not in an installed package.

    That of a package when there is no other.
    """
    nearest = None
    for frame in running_frames(task):
        if nearest is None:
            nearest = frame
        if not frame.f_code.co_filename.startswith(_LIBRARIES):
            nearest = frame
            break
    if nearest is None:  # it does nothing but to call us
        nearest = sys._getframe(1)
    return Place(nearest.f_code, nearest.f_lasti)


def stand_of(task: asyncio.Task[Any]) -> Place | None:
    """Return where a task is suspended; None when it is not, or only in asyncio."""
    for step in reversed(steps_of(task)):
        frame = frame_of(step)
        if frame is not None and not is_plumbing(frame.f_code):
            return Place(frame.f_code, frame.f_lasti)
    return None


def site_of(task: asyncio.Task[Any]) -> str:
    """Return the innermost line of a task that is not in an installed package."""
    site = NOWHERE
    is_own = False
    for frame in _frames(task):
        installed = frame.f_code.co_filename.startswith(_LIBRARIES)
        if not installed or not is_own:
            site = f"{short_path(frame.f_code.co_filename)}:{frame.f_lineno}"
            is_own = is_own or not installed
    return site


def stack(task: asyncio.Task[Any]) -> list[str]:
    """Return the lines at which a task is suspended, outermost first.

    Frames of asyncio are left out; of a task that runs there is none but its own.
    """
    lines = []
    for frame in _frames(task):
        code = frame.f_code
        text = linecache.getline(code.co_filename, frame.f_lineno).strip()
        where = f"{short_path(code.co_filename)}:{frame.f_lineno}"
        lines.append(f"{where} in {code.co_qualname}: {text}")
    return lines[-MAX_FRAMES:]


def _frames(task: asyncio.Task[Any]) -> Iterator[FrameType]:
    """Yield the frames of a task without asyncio's and ours, outermost first."""
    frames: Iterable[FrameType] = frames_of(task)
    if task is current_task():
        frames = reversed(list(running_frames(task)))
    for frame in frames:
        # Code that was compiled to C has no lines.
        if not is_plumbing(frame.f_code) and frame.f_lineno is not None:
            yield frame
