"""Refusals of strangers, counted: bad tokens, passwords and permissions.

A refused token names nobody who could be trusted, so it cannot go into a user's audit
trail, and a flood of them must cost neither a row nor a query each. They are counted by
reason and source for the current minute and written now and then (at most ``KEPT + 1``
rows each time); beyond ``KEPT`` sources, the rest are counted as one. Tokens themselves
are never kept.
"""

from collections import Counter
from dataclasses import dataclass

KEPT = 200
OTHERS = "others"


@dataclass(frozen=True, slots=True)
class Refusal:
    """What was refused, and to whom.

    Attributes:
        reason: What was wrong, such as ``forged``.
        source: The address that it came from.
    """

    reason: str
    source: str


class Refusals:
    """Counts refusals of one process until somebody writes them down."""

    def __init__(self) -> None:
        """Begin with none."""
        self._counted: Counter[Refusal] = Counter()

    def note(self, reason: str, source: str) -> None:
        """Count a refusal; reasons are ours and few, sources are anybody's."""
        refusal = Refusal(reason, source)
        if refusal not in self._counted and len(self._counted) >= KEPT:
            refusal = Refusal(reason, OTHERS)
        self._counted[refusal] += 1

    def take(self) -> dict[Refusal, int]:
        """Return what was counted, and begin anew."""
        taken, self._counted = self._counted, Counter()
        return dict(taken)

    def put_back(self, taken: dict[Refusal, int]) -> None:
        """Count again what could not be written."""
        for refusal, count in taken.items():
            kept = refusal
            if refusal not in self._counted and len(self._counted) >= KEPT:
                kept = Refusal(refusal.reason, OTHERS)
            self._counted[kept] += count
