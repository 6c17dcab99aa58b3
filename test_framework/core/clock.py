"""Where instants come from.

``CLOCK_MONOTONIC`` is one clock for all processes of a machine, so instants taken
here and inside the worker processes of the service can be compared.
"""

import time
from typing import Protocol

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000


class Clock(Protocol):
    """A source of instants in nanoseconds that never runs backwards."""

    def now_ns(self) -> int:
        """Return the current instant in nanoseconds since an arbitrary origin."""
        ...


class MonotonicClock:
    """The clock of this machine."""

    def now_ns(self) -> int:
        """Return the monotonic instant in nanoseconds."""
        return time.monotonic_ns()
