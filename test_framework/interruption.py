"""Ctrl-C and a termination end a run in good order, and for certain.

The first signal cancels the run, which records its end. A workload that never gives
way (a loop without an await) or that swallows cancellations would go on for ever, so
an alarm follows: it raises ``KeyboardInterrupt`` wherever the program is, and a second
one ends the process. What was recorded is on disk by then; worker processes and
servers end by themselves when their parent has gone.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

GRACE_S = 10
EXIT_INTERRUPTED = 130


class Interruption:
    """What a signal does to the run of this process."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._alarms = 0

    def ends(self, task: "asyncio.Task[None] | None") -> None:
        """Cancel ``task`` when a signal comes; its loop is the running one."""
        self._task = task

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """Cancel the run, and see to it that it ends."""
        if self._task is None:
            raise KeyboardInterrupt
        self._task.get_loop().call_soon_threadsafe(self._task.cancel)
        signal.alarm(GRACE_S)

    def on_alarm(self, _number: int, _frame: FrameType | None) -> None:
        """End what did not give way."""
        self._alarms += 1
        if self._alarms > 1:
            os._exit(EXIT_INTERRUPTED)
        signal.alarm(GRACE_S)
        raise KeyboardInterrupt


@contextlib.contextmanager
def interruption() -> Iterator[Interruption]:
    """Handle SIGINT, SIGTERM and SIGALRM inside the block, in the main thread only."""
    handler = Interruption()
    has_signals = threading.current_thread() is threading.main_thread()
    if not (has_signals and hasattr(signal, "SIGALRM")):
        yield handler
        return
    before = {
        number: signal.signal(number, handle)
        for number, handle in (
            (signal.SIGINT, handler.on_signal),
            (signal.SIGTERM, handler.on_signal),
            (signal.SIGALRM, handler.on_alarm),
        )
    }
    try:
        yield handler
    finally:
        signal.alarm(0)
        for number, handle in before.items():
            signal.signal(number, handle)
