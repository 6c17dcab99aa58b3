"""How long a run may be, and how a long one is told from one that stands still.

A heartbeat goes on for ever, so that tasks still move says nothing of the others: a run
of many steps is looked at for tasks that are stuck while others go on.
"""

from test_framework.explore.endings import EndlessError, StalledError
from test_framework.explore.loop.face import Face
from test_framework.explore.waits import stuck_waits

MAX_STEPS = 100_000
"""Steps after which a run counts as endless."""

SUSPECT_STEPS = 2_000
PATIENCE = 50
"""When a run is looked at for tasks that are stuck while others, such as a heartbeat, go on.

After so many steps main and whom it waits for may look stuck; if nobody has joined them
after ``PATIENCE`` times as many, they are.
"""


class Limits(Face):
    """The part of ``ExplorationLoop`` that ends a run which does not end by itself.

    Attributes:
        max_steps: Steps of a run before it counts as endless.
        patience: How many times longer than ``SUSPECT_STEPS`` others are waited for.
    """

    max_steps: int
    patience: int

    def _reset(self) -> None:
        super()._reset()
        self._limit = min(self.max_steps, SUSPECT_STEPS)
        self._is_suspect = False

    def _look_for_stuck(self, movers: set[int], ready: list[int]) -> None:
        """Judge a run that has reached its limit, or let it go on for longer.

        Args:
            movers: Tasks that went on in the later half of the run.
            ready: Tasks that could go on now, or wait for the world outside.

        Raises:
            StalledError: Main waits for ever; others merely go on.
            EndlessError: The run is as long as it may be.
        """
        waits = stuck_waits(self, movers) if movers.issuperset(ready) else ()
        if waits and self._is_suspect:
            going = tuple(self.name(number) for number in sorted(movers))
            raise StalledError(waits, going)
        if not waits and self._limit >= self.max_steps:
            raise EndlessError
        self._is_suspect = bool(waits)
        self._limit *= self.patience
        if not waits:
            self._limit = min(self._limit, self.max_steps)
