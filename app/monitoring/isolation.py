"""The guard that watches isolation while the service serves.

Where something of a user passes anyway, its owner is compared with the user it is for:
two strings. A mismatch must be impossible, since row-level security, keyspaces and
contexts rule it out; if it happens all the same, the work is refused, counted, logged
and told as a Critical alert. Whoever asked is answered that the service failed, which
is better than the answer that was underway.
"""

import logging
import time
from collections.abc import Callable, Iterator

from app.context import ForeignPartError
from app.monitoring.logs import log_event
from app.monitoring.metrics import Metrics
from app.monitoring.signals import Signal

ALERT_S = 300.0
_log = logging.getLogger("app.isolation")


class IsolationError(RuntimeError):
    """Raised when something of one user was on its way to another: the service's fault.

    The message names the place and no user: it may be shown in a trace or a log.
    """


class IsolationGuard:
    """Compares owners; holds no user's state."""

    def __init__(
        self,
        metrics: Metrics | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Count into ``metrics``; None only logs and refuses.

        Args:
            metrics: What counts mismatches.
            clock: Seconds that only grow.
        """
        self._metrics = metrics
        self._clock = clock
        self._last_s: dict[str, float] = {}

    def signals(self) -> Iterator[Signal]:
        """Yield an alert for each place that saw a mismatch in ``ALERT_S`` seconds."""
        for place, at_s in tuple(self._last_s.items()):
            if self._clock() - at_s < ALERT_S:
                yield Signal(
                    "isolation-violated",
                    place,
                    "critical",
                    f"Something of one user was on its way to another at {place!r}; it "
                    "was refused. Find isolation.violated in the log.",
                )

    def require(self, place: str, *, owner: str | None, user_id: str) -> None:
        """Do nothing if ``owner`` is the user's.

        Args:
            place: Where it is checked, one of few names: it labels the count.
            owner: Whom the thing belongs to; None is nobody, and a mismatch.
            user_id: Whom it is for.

        Raises:
            IsolationError: It belongs to somebody else.
        """
        if owner != user_id:
            self.report(place, owner=owner, user_id=user_id)
            message = f"Isolation is violated at {place!r}: the owner is another user."
            raise IsolationError(message)

    def notice(self, exc: Exception, *, user_id: str | None) -> None:
        """Report what a context refused: a part of another user."""
        if isinstance(exc, ForeignPartError):
            self.report("context", owner=None, user_id=user_id)

    def report(self, place: str, *, owner: str | None, user_id: str | None) -> None:
        """Count and log a mismatch that was found and refused elsewhere."""
        self._last_s[place] = self._clock()
        if self._metrics is not None:
            self._metrics.violations.inc(place)
        log_event(
            _log,
            "isolation.violated",
            level=logging.CRITICAL,
            place=place,
            owner=owner,
            user_id=user_id,
        )
