"""Tasks that outlive the request that started them.

A task runs in a copy of the context of whoever started it, so the operation in that
context says for whom it still works. Server and drivers start theirs outside of any
operation and are left alone.
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

from test_framework.detect.leaks.modules import relative_site
from test_framework.detect.scope import operation_of


@dataclass(frozen=True, slots=True)
class LeakedTask:
    """A task that is not done.

    Attributes:
        name: Of the task.
        coroutine: Qualified name of what it runs.
        site: Line that it waits at, the innermost of the service's; where it runs none,
            that which started it, if asyncio is in debug mode, or else the innermost.
        stack: Lines of the service it stands at, outermost first; else as ``site``.
        operation: The request of the audit that started it; None when none did.
    """

    name: str
    coroutine: str
    site: str
    stack: tuple[str, ...]
    operation: int | None


def describe_task(task: asyncio.Task[Any]) -> LeakedTask:
    """Return where a task stands and for whom it works."""
    coroutine = task.get_coro()
    stack = _stack(coroutine)
    # Lines outside of installed packages: where the service waits.
    own = [line for line in stack if not line.startswith("/")]
    # That of who started it is known to asyncio's debug mode alone.
    started = [] if own else _started(task)
    return LeakedTask(
        name=task.get_name(),
        coroutine=getattr(coroutine, "__qualname__", type(coroutine).__qualname__),
        site=(own or started or stack or [""])[-1].partition(" ")[0],
        stack=tuple(own or [*started[-1:], *stack[-1:]]),
        operation=operation_of(task),
    )


def locals_holding(
    wanted: Collection[int], tasks: Iterable[asyncio.Task[Any]]
) -> Iterator[str]:
    """Yield where tasks that wait hold objects in variables of their own.

    Args:
        wanted: The ``id`` of each object; they must be alive.
        tasks: The tasks to look at, not the running one.
    """
    for task in tasks:
        for frame in _frames(task.get_coro()):
            for name, value in frame.f_locals.items():
                if id(value) in wanted:
                    yield f"{_line(frame)} of task {task.get_name()} holds it as {name}"


def _started(task: asyncio.Task[Any]) -> list[str]:
    frames = getattr(task, "_source_traceback", None) or ()
    lines = (
        f"{relative_site(one.filename, one.lineno)} in {one.name}" for one in frames
    )
    return [line for line in lines if not line.startswith("/")]


def _stack(coroutine: object) -> list[str]:
    return [_line(frame) for frame in _frames(coroutine)]


def _line(frame: FrameType) -> str:
    code = frame.f_code
    return f"{relative_site(code.co_filename, frame.f_lineno)} in {code.co_qualname}"


def _frames(coroutine: Any) -> Iterator[FrameType]:  # noqa: ANN401  # coroutines, generators, awaitables
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(
            coroutine, "gi_frame", None
        )
        if frame is None:
            return
        yield frame
        coroutine = getattr(coroutine, "cr_await", None) or getattr(
            coroutine, "gi_yieldfrom", None
        )
