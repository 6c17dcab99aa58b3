"""Service levels as they are often measured, each with one mistake."""

import contextlib
from collections.abc import Callable
from typing import Any, cast

from app.monitoring import SlaMonitor


def unlocked(monitor: SlaMonitor) -> SlaMonitor:
    """Return the monitor without its lock."""
    monitor._lock = cast("Any", contextlib.nullcontext())
    return monitor


class TumblingMonitor:
    """Counts in windows that begin anew, and forgets what came just before.

    A burst of failures that a border cuts in two is two halves, and fires nothing.
    """

    def __init__(self, window_s: float, clock: Callable[[], float]) -> None:
        self._window_s = window_s
        self._clock = clock
        self._window = 0
        self._bad = 0

    def record(self, *, is_good: bool) -> None:
        """Count a request."""
        window = int(self._clock() // self._window_s)
        if window != self._window:
            self._window, self._bad = window, 0
        self._bad += not is_good

    @property
    def bad(self) -> int:
        """Return the bad requests of the window."""
        return self._bad
