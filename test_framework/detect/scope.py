"""For which operation of the audit, and for whom, a line of the service runs.

A context variable, so tasks that a request starts inherit it. The probe in front of
the service sets it; a detector reads it to tell requests, and their users, apart.
"""

import asyncio
import contextlib
import contextvars
import gc
from collections.abc import Iterator
from typing import Any, NamedTuple


class _Scope(NamedTuple):
    """Whom a context works for: an operation, and its user if that is known."""

    operation: int | None = None
    user: int | None = None


_NOBODY = _Scope()
_SCOPE: contextvars.ContextVar[_Scope] = contextvars.ContextVar(
    "isolation_operation", default=_NOBODY
)


def current_operation() -> int | None:
    """Return the operation that this context works for; None outside of any."""
    return _SCOPE.get().operation


def current_user() -> int | None:
    """Return the number of the user that this context works for, if that is known."""
    return _SCOPE.get().user


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
    return None if context is None else context.get(_SCOPE, _NOBODY).operation


@contextlib.contextmanager
def operation_scope(operation: int, *, user: int | None = None) -> Iterator[None]:
    """Say that what runs inside works for an operation.

    Args:
        operation: Its number.
        user: Number of the user who asked for it; None when nobody says.
    """
    token = _SCOPE.set(_Scope(operation, user))
    try:
        yield
    finally:
        _SCOPE.reset(token)
