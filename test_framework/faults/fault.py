"""A fault: one disturbance of a real service, which strikes and heals.

Used alone around a few lines of a test (``striking``), or by a nemesis during an audit.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from test_framework.core import UsageError

if TYPE_CHECKING:
    from test_framework.faults.field import Field


class Fault(Protocol):
    """One disturbance; an object disturbs one field at a time, and may do so again."""

    @property
    def name(self) -> str:
        """What it is called on the command line and in reports."""
        ...

    @property
    def promise(self) -> str:
        """What a service must still keep while it lasts, as one sentence."""
        ...

    def lacks(self, field: "Field") -> str | None:
        """Return why it cannot strike here, as one sentence; None when it can."""
        ...

    async def strike(self, field: "Field") -> None:
        """Begin the disturbance; return once it is in force.

        Raises:
            TargetError: The server that it works on cannot be reached.
        """
        ...

    async def heal(self, field: "Field") -> None:
        """End the disturbance; return once what was taken is back.

        May be called again, without a strike before, and after one that failed or was
        cancelled.

        Raises:
            TargetError: What was taken does not come back.
        """
        ...


@contextlib.asynccontextmanager
async def striking(fault: Fault, field: "Field") -> AsyncIterator[None]:
    """Disturb the block: strike before it, heal after it, whatever happens in it.

    Args:
        fault: What to do.
        field: What it may reach.

    Raises:
        TargetError: What the fault works on is not there, or does not come back.
        UsageError: The fault cannot strike on this field; the message says why.
    """
    reason = fault.lacks(field)
    if reason is not None:
        message = f"{fault.name} cannot strike here: {reason}"
        raise UsageError(message)
    try:
        await fault.strike(field)
        yield
    finally:
        await _finish(fault.heal(field))


async def _finish(work: Coroutine[Any, Any, None]) -> None:
    """Await work to its end; a cancellation waits until then."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as exc:
            if task.cancelled():
                raise
            cancelled = exc
    if cancelled is not None:
        task.exception()
        raise cancelled
    task.result()
