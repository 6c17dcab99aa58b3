"""What a search has run so far, and the sentences that say how far that goes."""

from collections.abc import Collection, Sequence

from test_framework.explore.report import runs_in_words
from test_framework.explore.schedule import Backwards, Fault


class Tally:
    """Counts different orders and words what is claimed of them.

    Args:
        scope: Which orders count, such as ``at fidelity fifo``.
        points: Where faults can strike, as far as runs have shown; grows meanwhile.

    Attributes:
        drawn: Runs drawn at random.
        bound: All orders with fewer preemptions than that were run; None when all were.
    """

    def __init__(self, scope: str, points: Collection[Fault]) -> None:
        self._scope = scope
        self._points = points
        self._seen: dict[int, int] = {}
        self.drawn = 0
        self.bound: int | None = 0

    def count(self, order: Sequence[int], faults: tuple[Fault, ...] = ()) -> bool:
        """Count a run; tell whether it is the first of its order and faults."""
        key = hash((faults, *order) if faults else tuple(order))
        count = self._seen.get(key, 0)
        self._seen[key] = count + 1
        return not count

    @property
    def distinct(self) -> int:
        """Different orders run so far, with their faults."""
        return len(self._seen)

    @property
    def unseen_mass(self) -> float | None:
        """Estimated share of orders not seen (Good-Turing); None when none was drawn."""
        if not self.drawn:
            return None
        singles = sum(1 for count in self._seen.values() if count == 1)
        return min(1.0, singles / self.drawn)

    @property
    def strikes(self) -> int:
        """How many faults were met that strike a task."""
        return len(self._points) - self._has_sets

    @property
    def _has_sets(self) -> bool:
        """Whether a run iterated a set of asyncio, so that its order may matter."""
        return Backwards() in self._points

    @property
    def _sets(self) -> str:
        """How the sets of asyncio were iterated, as words; empty where none was."""
        if not self._has_sets:
            return ""
        without = " without faults" if self.strikes else ""
        return f", the sets of asyncio forwards and{without} backwards"

    @property
    def only_forwards(self) -> str:
        """That sets of asyncio were iterated in one way, as a sentence; empty for none."""
        if not self._has_sets:
            return ""
        return " The sets of asyncio were iterated in order of insertion only."

    def only_order(self) -> str:
        """Say that the one order there is was run."""
        return (
            f"Only one order is possible {self._scope}{self._sets}, and nothing went "
            "wrong in it."
        )

    def complete(self) -> str:
        """Say that all orders were run."""
        faults = ""
        if self.strikes:
            which = "each of the" if self.strikes > 1 else "the"
            plural = "s" * (self.strikes != 1)
            faults = (
                f", alone and with {which} {self.strikes:,} fault{plural} that can strike "
                "(one task at one suspension)"
            )
        return (
            f"All {self.distinct:,} orders {self._scope} were run{faults}"
            f"{self._sets}, and nothing went wrong."
        )

    def complete_by_classes(self, classes: int, tracked: Collection[str]) -> str:
        """Say that an order of each class was run.

        Args:
            classes: How many there are.
            tracked: Names of what is shared.
        """
        return (
            f"All {classes:,} classes of orders {self._scope} were run, as far as only "
            f"these are shared: {', '.join(tracked)}. Nothing went wrong."
            f"{self.only_forwards}"
        )

    def sampled(self, runs: int) -> str:
        """Say that some orders were run.

        Args:
            runs: How many runs were made.
        """
        reach = (
            f"; all with fewer than {self.bound} preemption{'s' * (self.bound != 1)}"
            if self.bound
            else ""
        )
        unseen = self.unseen_mass
        mass = "" if unseen is None else f", about {unseen:.0%} of orders unseen"
        return (
            f"{runs_in_words(runs)}, {self.distinct:,} distinct "
            f"order{'s' * (self.distinct != 1)}{reach}{mass}: "
            "nothing wrong was seen, which is no proof."
        )
