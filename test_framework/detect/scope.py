"""For which operation of the audit a line of the service runs.

A context variable, so tasks that a request starts inherit it. The probe in front of
the service sets it; a detector reads it to tell users apart.
"""

import asyncio
import contextlib
import contextvars
import gc
from collections.abc import Iterator
from typing import Any

_OPERATION: contextvars.ContextVar[int | None] = contextvars.ContextVar(
    "isolation_operation", default=None
)


def current_operation() -> int | None:
    """Return the operation that this context works for; None outside of any."""
    return _OPERATION.get()


def context_of(task: asyncio.Task[Any]) -> contextvars.Context | None:
    """Return the context that a task runs in; None when it does not tell."""
    # Task.get_context is new in Python 3.12; the collector has always known it.
    for held in gc.get_referents(task):
        if type(held) is contextvars.Context:
            return held
    return None


def operation_of(task: asyncio.Task[Any]) -> int | None:
    """Return the operation that a task works for; None outside of any."""
    context = context_of(task)
    return None if context is None else context.get(_OPERATION)


@contextlib.contextmanager
def operation_scope(operation: int) -> Iterator[None]:
    """Say that what runs inside works for an operation."""
    token = _OPERATION.set(operation)
    try:
        yield
    finally:
        _OPERATION.reset(token)
