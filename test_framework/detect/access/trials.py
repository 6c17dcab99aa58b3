"""Makes happen what sequential users foretold, if it can happen.

A task that stands between two uses of a place, at the await that was named, is held
there for a moment, until another user has written or the moment is over. If the two
uses are really unprotected the write falls between them and is then a conflict that
was *seen*; if something protects them that we know nothing of (a row lock, a flag)
nothing happens, and it stays a warning.

Source: delays at the await, as in NACD (Endo and Møller, ECOOP 2025), placed by what
was foretold, as in CalFuzzer (Joshi et al., CAV 2009).
"""

import asyncio
from collections.abc import Awaitable
from typing import Any, Final, Protocol

from test_framework.detect.access.books import Conflict

MOST_TRIALS: Final = 10
_MOST_VISITS: Final = 256


class Positions(Protocol):
    """The books, as far as they say where tasks stand and what has come of that."""

    def stands_in(self, conflict: Conflict) -> bool:
        """Whether the running task has just done the first use of a conflict."""

    def version(self, conflict: Conflict) -> int:
        """Return how often the place of a conflict was written since it is shared."""

    def has_found(self, conflict: Conflict) -> bool:
        """Whether what was foretold has happened since."""


class Trials:
    """Holds tasks at awaits that lie in a window.

    Args:
        positions: Says where the running task stands.
        hold_s: How long a task is held at most; 0 to hold none.

    Attributes:
        waiting: What is to be tried, by the site of the await.
    """

    def __init__(self, positions: Positions, *, hold_s: float) -> None:
        self._positions = positions
        self._hold_s = hold_s
        self.waiting: dict[int, list[Conflict]] = {}

    def add(self, conflict: Conflict) -> None:
        """Try this one when a task comes by."""
        awaited = conflict.window.awaited
        if awaited is not None and self._hold_s > 0:
            self.waiting.setdefault(awaited, []).append(conflict)

    def stand_at(self, awaitable: Any, site: int) -> Any:
        """Return what is awaited, with a moment after it if that is worth a trial."""
        for conflict in list(self.waiting[site]):
            if self._positions.stands_in(conflict):
                conflict.trials += 1
                if conflict.trials == MOST_TRIALS or (
                    self._positions.has_found(conflict)
                ):
                    self._give_up(conflict, site)
                return self._hold(awaitable, conflict)
            conflict.visits += 1
            if conflict.visits == _MOST_VISITS:
                self._give_up(conflict, site)
        return awaitable

    def _give_up(self, conflict: Conflict, site: int) -> None:
        self.waiting[site].remove(conflict)
        if not self.waiting[site]:
            del self.waiting[site]

    async def _hold(self, awaitable: Awaitable[Any], conflict: Conflict) -> Any:
        awaited = await awaitable
        loop = asyncio.get_running_loop()
        version = self._positions.version(conflict)
        until = loop.time() + self._hold_s
        # No event to wait for: writes are noted in the middle of the service's code.
        while self._positions.version(conflict) == version and loop.time() < until:  # noqa: ASYNC110  # see above
            await asyncio.sleep(self._hold_s / 10)
        return awaited
