"""Enumerate every interleaving, those with few preemptions first.

The base is a run without preemption: a task goes on until it blocks. Each run that
is made offers, at every decision beyond the prefix it was given, the options it did
not take; they wait in buckets by the preemptions their prefix holds, and the lowest
bucket is emptied first. So each interleaving is run exactly once, and an interrupted
search can say for which number of preemptions it is complete. Most bugs need one or
two (Musuvathi and Qadeer, PLDI 2007; Thomson et al., PPoPP 2014).
"""

from test_framework.explore.decisions import CLOCK, CONTINUE, Choose
from test_framework.explore.loop import ExplorationLoop
from test_framework.explore.schedulers import stay

MAX_WAITING = 400_000
"""Prefixes that may wait (about 100 bytes each); beyond it the search is not complete."""


class Systematic:
    """A scheduler that makes the next interleaving at each run, until there is none.

    Attributes:
        is_cut: Prefixes were dropped for want of memory.
    """

    def __init__(self) -> None:
        # A prefix is a run's choices, how many of them to keep, and another option.
        self._buckets: dict[int, list[tuple[list[int], int, int]]] = {}
        self._waiting = 0
        self._prefix: list[int] = []
        self._choices: list[int] = []
        self._base = 0
        self._is_first = True
        self.is_cut = False

    @property
    def bound(self) -> int:
        """Preemptions of the interleavings being run; all with fewer were run."""
        return min(self._buckets, default=self._base)

    def advance(self) -> bool:
        """Go to the next interleaving; False when all were run."""
        if self._is_first:
            self._is_first = False
            return True
        if not self._buckets:
            return False
        level = min(self._buckets)
        bucket = self._buckets[level]
        choices, length, option = bucket.pop()
        if not bucket:
            del self._buckets[level]
        self._waiting -= 1
        self._base = level
        self._prefix = [*choices[:length], option]
        return True

    def begin(self, loop: ExplorationLoop) -> Choose:
        """Return a function that follows the prefix and then never preempts."""
        prefix, buckets = self._prefix, self._buckets
        choices = self._choices = []
        level = self._base
        known = len(prefix)

        def choose(options: list[int]) -> int:
            depth = len(choices)
            if depth < known:
                # A program that is not deterministic may offer less than before.
                position = min(prefix[depth], len(options) - 1)
                choices.append(position)
                return position
            position = stay(loop, options)
            order = loop.order
            preempts = options[0] == CONTINUE or (
                bool(order) and options[position] == order[-1]
            )
            if self._waiting + len(options) > MAX_WAITING:
                self.is_cut = True
            else:
                for other, number in enumerate(options):
                    if other != position:
                        # Time that passes early counts as well: it could for ever.
                        cost = level + (preempts or number == CLOCK)
                        buckets.setdefault(cost, []).append((choices, depth, other))
                self._waiting += len(options) - 1
            choices.append(position)
            return position

        return choose
