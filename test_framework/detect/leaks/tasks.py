"""Tasks that outlive the request that started them.

A task runs in a copy of the context of whoever started it, so the operation in that
context says for whom it still works. Server and drivers start theirs outside of any
operation and are left alone.
"""

import asyncio
import contextvars
import gc
from dataclasses import dataclass
from typing import Any

from test_framework.detect.leaks.modules import relative_site
from test_framework.detect.scope import current_operation


@dataclass(frozen=True, slots=True)
class LeakedTask:
    """A task that is not done.

    Attributes:
        name: Of the task.
        coroutine: Qualified name of what it runs.
        site: Line that it waits at, the innermost of its own coroutines.
        stack: Lines it stands at, outermost first.
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
    # The innermost line outside of installed packages: where the service waits.
    own = [line for line in stack if not line.startswith("/")]
    return LeakedTask(
        name=task.get_name(),
        coroutine=getattr(coroutine, "__qualname__", type(coroutine).__qualname__),
        site=(own or stack or [""])[-1].partition(" ")[0],
        stack=tuple(stack),
        operation=_operation(task),
    )


def _operation(task: asyncio.Task[Any]) -> int | None:
    # Task.get_context is new in Python 3.12; the collector has always known it.
    for held in gc.get_referents(task):
        if type(held) is contextvars.Context:
            return held.copy().run(current_operation)
    return None


def _stack(coroutine: Any) -> list[str]:  # noqa: ANN401  # coroutines, generators, awaitables
    lines = []
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(
            coroutine, "gi_frame", None
        )
        if frame is None:
            break
        code = frame.f_code
        lines.append(
            f"{relative_site(code.co_filename, frame.f_lineno)} in {code.co_qualname}"
        )
        coroutine = getattr(coroutine, "cr_await", None) or getattr(
            coroutine, "gi_yieldfrom", None
        )
    return lines
