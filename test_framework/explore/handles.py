"""What waits in the queues of a loop: callbacks, and the steps of tasks among them."""

import asyncio
import contextvars
from collections.abc import Callable
from functools import cache
from typing import Any


class Entry:
    """A handle: one callback that waits for its turn."""

    __slots__ = (
        "args",
        "callback",
        "context",
        "deadline",
        "event",
        "is_cancelled",
        "owner",
    )

    # Set for timers and for events from outside only.
    deadline: float
    event: int

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context,
        owner: int,
    ) -> None:
        self.callback = callback
        self.args = args
        self.context = context
        self.owner = owner
        self.is_cancelled = False

    def run(self) -> None:
        """Run the callback unless it was cancelled."""
        if not self.is_cancelled:
            self.callback(*self.args)

    def cancel(self) -> None:
        """Never run the callback."""
        self.is_cancelled = True
        self.args = ()

    def cancelled(self) -> bool:
        """Tell whether it was cancelled."""
        return self.is_cancelled

    def when(self) -> float:
        """Return the deadline of a timer, seconds of virtual time."""
        return self.deadline


@cache
def _step_type() -> type:
    """Return the type of the callable by which a C task schedules its next step."""
    kinds: list[type] = []

    class Catcher:
        def get_debug(self) -> bool:
            return False

        def call_soon(self, callback: Any, *_: Any, **__: Any) -> None:
            kinds.append(type(callback))

    async def nothing() -> None:
        pass

    catcher: Any = Catcher()
    coroutine = nothing()
    task = asyncio.Task(coroutine, loop=catcher)
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # it never runs, on purpose
    coroutine.close()
    return kinds[0]


STEP = _step_type()
"""Type of the callable by which a C task schedules its next step."""
