"""What a pattern of the catalogue is: a bug of real services, as runnable twins.

The vulnerable twin has the bug; the safe one is the same program with the smallest
mend. Both are scenarios for the explorer and are explored with the same options, so
that a verdict about one says something about the other.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from test_framework.explore import Fidelity, Report, Scenario, explore

Twin = Literal["vulnerable", "safe"]


@dataclass(frozen=True, slots=True)
class Needs:
    """What the explorer must do, besides choosing orders, for the bug to show.

    Attributes:
        cancel: Pattern of the names of tasks that are cancelled; empty for none.
        errors: Names of exceptions with which the world outside may answer.
    """

    cancel: str = ""
    errors: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [f"cancel={self.cancel}"] if self.cancel else []
        if self.errors:
            parts.append(f"errors={','.join(self.errors)}")
        return " ".join(parts) or "orders"


CANCELLED_USERS = Needs(cancel="user*")
"""Every user, and every task that a user has started, is cancelled wherever it waits."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """One way in which users of an asyncio service get into each other's way.

    In the order of plain asyncio, with nobody disturbed, the vulnerable twin is right;
    it takes another order, a cancellation or an error to break it.

    Attributes:
        id: Letter of the theme and number, such as ``P03``; never given twice.
        title: A few words.
        summary: How it comes about and what the mend is.
        source: Where it was seen or described: a URL, or the number of a CVE or CWE.
        vulnerable: The program with the bug.
        safe: The same program, mended.
        needs: What must happen besides an order.
        fidelity: The orders that are explored; ``fifo`` where stock asyncio can fail.
        kind: What kind of failure it is; see ``Failure``.
    """

    id: str
    title: str
    summary: str
    source: str
    vulnerable: Scenario[Any]
    safe: Scenario[Any]
    needs: Needs = Needs()
    fidelity: Fidelity = Fidelity.FIFO
    kind: str = "assertion"

    def explore(
        self,
        twin: Twin = "vulnerable",
        *,
        schedules: int | None = None,
        budget: str | float = "5s",
        seed: int | None = None,
    ) -> Report:
        """Explore one of the twins as the pattern needs it.

        Args:
            twin: Which one.
            schedules: At most so many runs.
            budget: Wall time, such as ``"5s"`` or seconds.
            seed: Repeats an exploration.

        Returns:
            What was found; the vulnerable twin of a sound pattern is ``FOUND``, the
            safe one is not.
        """
        return explore(
            self.safe if twin == "safe" else self.vulnerable,
            schedules=schedules,
            budget=budget,
            fidelity=self.fidelity,
            cancel=self.needs.cancel or False,
            errors=self.needs.errors,
            seed=seed,
            reference=self._reference(twin),
        )

    def _reference(self, twin: Twin) -> str:
        """Return ``PATH::NAME::TWIN``, by which replays and written tests find it."""
        module = sys.modules.get(self.vulnerable.user.__module__)
        file = getattr(module, "__file__", None)
        if file is None:
            return ""
        name = next((name for name, held in vars(module).items() if held is self), "")
        path = Path(file)
        if path.is_relative_to(Path.cwd()):
            path = path.relative_to(Path.cwd())
        return f"{path}::{name}::{twin}" if name else ""
