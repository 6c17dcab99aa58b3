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
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, CoroutineType, FrameType
from typing import Any

from test_framework.detect.scope import operation_of

ASYNCIO = str(Path(asyncio.__file__).parent)
_OURS = str(Path(__file__).parent)
_PACKAGES = tuple({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
_LIBRARIES = tuple({*_PACKAGES, sysconfig.get_path("stdlib")})
_PACKAGE = Path(__file__).parents[2]
_TOOLS = tuple(
    str(_PACKAGE / name) for name in ("detect", "services", "pytest_detect.py")
)
"""What stands around a service or a test and is neither."""

_LOOP = (asyncio.base_events.__file__, asyncio.runners.__file__)
_GENERATED = "<"
_PLUMBING = (ASYNCIO, _OURS, contextlib.__file__)
_DRIVERS = ("asyncpg/", "sqlalchemy/", "redis/", "psycopg/")
NOWHERE = "an unknown line"
MAX_FRAMES = 10
"""Frames of a stack that are told, the innermost ones."""


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
    return _is_plumbing(code.co_filename)


def is_installed(code: CodeType) -> bool:
    """Tell whether code is of an installed package, generated, or a tool's."""
    return _is_installed(code.co_filename)


# Asked for each frame below each checkout of a connection, of few hundred files.
@functools.lru_cache(maxsize=4096)
def _is_plumbing(filename: str) -> bool:
    return filename.startswith(_PLUMBING)


@functools.lru_cache(maxsize=4096)
def _is_installed(filename: str) -> bool:
    return filename.startswith((*_LIBRARIES, *_TOOLS, _GENERATED))


def is_driver(code: CodeType) -> bool:
    """Tell whether code talks to a server on behalf of who has a connection."""
    return any(name in code.co_filename for name in _DRIVERS)


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


in_step: dict[Any, asyncio.Task[Any]] = (
    getattr(asyncio.tasks, "_current_tasks", {}) if sys.version_info < (3, 12) else {}
)
"""The task of each loop that is inside of a step; not asked for from 3.12 on."""


def _current_task_of_3_11() -> asyncio.Task[Any] | None:
    """As above, without asking for the running loop.

    That calls ``getpid`` in CPython 3.11, which costs more than all the rest of an
    acquire. Its table holds a task for each loop that is inside of a step. With a loop
    in each of several threads, a callback that releases a lock may be taken for a task
    of another thread.
    """
    if not in_step:
        return None
    if len(in_step) == 1:
        for task in in_step.values():
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
    """Return the line that called into asyncio; None when the loop itself did.

    The innermost line of the service, or else of a package.
    """
    nearest: FrameType | None = None
    frame: FrameType | None = sys._getframe(1)  # the documented way
    while frame is not None and not frame.f_code.co_filename.startswith(_LOOP):
        if not is_plumbing(frame.f_code):
            nearest = nearest or frame
            if not is_installed(frame.f_code):
                nearest = frame
                break
        frame = frame.f_back
    return None if nearest is None else Place(nearest.f_code, nearest.f_lasti)


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
    """Return the innermost line of the service in the running task.

    That of a package when there is no other, and that has a file.
    """
    nearest = None
    for frame in running_frames(task):
        if not is_installed(frame.f_code):
            nearest = frame
            break
        if nearest is None and not frame.f_code.co_filename.startswith(_GENERATED):
            nearest = frame
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


def name_of(task: asyncio.Task[Any]) -> str:
    """Return how a task is told: ``request 7``, or ``task 'sweeper'``.

    A task outside of any request goes by its name, and by what it runs when nobody gave
    it one.
    """
    operation = operation_of(task)
    if operation is not None:
        return f"request {operation}"
    name = task.get_name()
    runs = getattr(task.get_coro(), "__qualname__", None)
    if runs is None or not name.startswith("Task-"):
        return f"task {name!r}"
    return f"task {name!r} ({runs})"


def names_of(tasks: Iterable[asyncio.Task[Any]]) -> list[str]:
    """Return how tasks are told that stand side by side.

    Those of one request go by what they run as well.
    """
    told = [(name_of(task), task) for task in tasks]
    counts = Counter(name for name, _ in told)
    return [
        f"{name} in {getattr(task.get_coro(), '__qualname__', task.get_name())}"
        if counts[name] > 1
        else name
        for name, task in told
    ]


def site_of(task: asyncio.Task[Any]) -> str:
    """Return the innermost line of the service at which a task stands.

    That of a package when there is no other.
    """
    frames = [
        frame
        for frame in _frames(task)
        if not frame.f_code.co_filename.startswith(_GENERATED)
    ]
    own = [frame for frame in frames if not is_installed(frame.f_code)]
    if not frames:
        return NOWHERE
    return _line_of((own or frames)[-1])


def stack(task: asyncio.Task[Any]) -> list[str]:
    """Return the lines of the service at which a task stands, outermost first.

    Of the packages below it the innermost line alone is told, and above it none.
    """
    frames = list(_frames(task))
    told = [
        frame
        for index, frame in enumerate(frames)
        if index == len(frames) - 1 or not is_installed(frame.f_code)
    ]
    return [
        f"{_line_of(frame)} in {frame.f_code.co_qualname}: {_text_of(frame)}"
        for frame in told[-MAX_FRAMES:]
    ]


def _line_of(frame: FrameType) -> str:
    return f"{short_path(frame.f_code.co_filename)}:{frame.f_lineno}"


def _text_of(frame: FrameType) -> str:
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()


def _frames(task: asyncio.Task[Any]) -> Iterator[FrameType]:
    """Yield the frames of a task without asyncio's and ours, outermost first."""
    frames: Iterable[FrameType] = frames_of(task)
    if task is current_task():
        frames = reversed(list(running_frames(task)))
    for frame in frames:
        # Code that was compiled to C has no lines.
        if not is_plumbing(frame.f_code) and frame.f_lineno is not None:
            yield frame
