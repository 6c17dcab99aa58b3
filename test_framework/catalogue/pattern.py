"""What a pattern of the catalogue is: a bug of real services, as runnable twins.

The vulnerable twin has the bug; the safe one is the same program with the smallest
mend. Both are scenarios for the explorer and are explored with the same options, so
that a verdict about one says something about the other.
"""

import enum
import inspect
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from test_framework.explore import Fidelity, Report, Scenario, explore

Twin = Literal["vulnerable", "safe"]

TWINS: tuple[Twin, ...] = get_args(Twin)

Means = Literal[
    "explorer", "access", "locks", "leaks", "swarm", "checkers", "timing", "static"
]
"""By which means a bug shows: the explorer, a detector by its name, or an audit."""

MEANS: tuple[Means, ...] = get_args(Means)


class Area(enum.StrEnum):
    """What users of a service must never share."""

    AGENT_STATE = "agent execution state"
    USER_CONTEXT = "user context"
    WEBSOCKET = "WebSocket connection state"
    DATABASE_SESSION = "database session allocation"
    ENGINE_REGISTRY = "execution engine registry"


@dataclass(frozen=True, slots=True)
class Needs:
    """What must happen for the bug to show.

    Attributes:
        order: It takes another order than that of users who come one after the other;
            False where the second user is wronged in any.
        cancel: Pattern of the names of tasks that are cancelled; empty for none.
        errors: Names of exceptions with which the world outside may answer.
    """

    order: bool = True
    cancel: str = ""
    errors: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [f"cancel={self.cancel}"] if self.cancel else []
        if self.errors:
            parts.append(f"errors={','.join(self.errors)}")
        return " ".join(parts) or ("orders" if self.order else "nothing")


CANCELLED_USERS = Needs(cancel="user*")
"""Every user, and every task that a user has started, is cancelled wherever it waits."""

ANY_ORDER = Needs(order=False)
"""Two users, one after the other, are enough."""


Visit = Callable[[Any, int], Coroutine[Any, Any, object]]
"""What a user does, given the state and the number of the user."""


@dataclass(frozen=True, slots=True)
class Hosted:
    """A pattern as a service that is asked over the wire; see ``hosting``.

    The answer to a visit is what the user of the scenario returns.

    Attributes:
        shown: What a user reads when all visits are over, given the state and the
            number of the user; None where the answers say all.
        visit: What a request does; None for what the user of the scenario does.
        users: How many share a state; 0 for as many as the scenario has.
    """

    shown: Callable[[Any, int], object] | None = None
    visit: Visit | None = None
    users: int = 0


@dataclass(frozen=True, slots=True)
class Pattern:
    """One way in which users of an asyncio service get into each other's way.

    In the order of plain asyncio, with nobody disturbed, the vulnerable twin is right
    unless its needs say otherwise; it takes another order, a cancellation or an error
    to break it.

    Attributes:
        id: Letter of the kind and number, such as ``P03``; never given twice.
        title: A few words.
        mechanism: How it comes about, in a sentence or two.
        fix: What the mend is, in a sentence or two.
        areas: What it leaks or corrupts in a multi-user agent service.
        detectors: The means that ought to find it; what they do find is measured.
        source: Where it was seen or described: a URL, or the number of a CVE or CWE.
        vulnerable: The program with the bug.
        safe: The same program, mended.
        module: The module that holds it as ``PATTERN``; give ``__name__``. Its
            docstring draws the interleaving.
        needs: What must happen besides an order.
        fidelity: The orders that are explored; ``fifo`` where stock asyncio can fail.
        kind: What kind of failure it is; see ``Failure``.
        hosted: How users meet it over the wire; None where only the process knows.
        beyond: Means of which one might expect that they find it, and why they cannot.
    """

    id: str
    title: str
    mechanism: str
    fix: str
    areas: tuple[Area, ...]
    detectors: tuple[Means, ...]
    source: str
    vulnerable: Scenario[Any]
    safe: Scenario[Any]
    module: str
    needs: Needs = Needs()
    fidelity: Fidelity = Fidelity.FIFO
    kind: str = "assertion"
    hosted: Hosted | None = None
    beyond: Mapping[Means, str] = field(default_factory=dict, hash=False)

    @property
    def theme(self) -> str:
        """The package that its module is in, such as ``atomicity``."""
        return self.module.split(".")[-2]

    @property
    def file(self) -> Path:
        """The file that holds it."""
        return Path(str(sys.modules[self.module].__file__))

    @property
    def interleaving(self) -> str:
        """What each user does when, a column for each, as the docstring draws it."""
        _, _, drawing = (sys.modules[self.module].__doc__ or "").partition("\n\n")
        return drawing.rstrip()

    @property
    def crowd(self) -> int:
        """How many users share a state where it is hosted."""
        return (self.hosted and self.hosted.users) or self.vulnerable.users

    def visit(self, twin: Twin) -> Visit:
        """Return what a user does where it is hosted, whenever it comes."""
        if self.hosted is not None and self.hosted.visit is not None:
            return self.hosted.visit
        scenario = self.safe if twin == "safe" else self.vulnerable
        # Without the pause by which plain asyncio serves one after the other.
        user: Visit = inspect.unwrap(scenario.user)
        return user

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
        """Return ``PATH::PATTERN::TWIN``, by which replays and written tests find it."""
        if getattr(sys.modules.get(self.module), "PATTERN", None) is not self:
            return ""
        path = self.file
        if path.is_relative_to(Path.cwd()):
            path = path.relative_to(Path.cwd())
        return f"{path}::PATTERN::{twin}"
