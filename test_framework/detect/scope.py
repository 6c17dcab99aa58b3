"""For which operation of the audit a line of the service runs.

A context variable, so tasks that a request starts inherit it. The probe in front of
the service sets it; a detector reads it to tell users apart.
"""

import contextlib
import contextvars
from collections.abc import Iterator

_OPERATION: contextvars.ContextVar[int | None] = contextvars.ContextVar(
    "isolation_operation", default=None
)


def current_operation() -> int | None:
    """Return the operation that this context works for; None outside of any."""
    return _OPERATION.get()


@contextlib.contextmanager
def operation_scope(operation: int) -> Iterator[None]:
    """Say that what runs inside works for an operation."""
    token = _OPERATION.set(operation)
    try:
        yield
    finally:
        _OPERATION.reset(token)
