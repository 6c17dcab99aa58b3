"""What an alert is about, and where signals come from."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

Tier = Literal["critical", "warning", "trend"]
TIERS: tuple[Tier, ...] = ("critical", "warning", "trend")
"""From the one that wakes somebody up to the one that is read in the morning."""


@dataclass(frozen=True, slots=True)
class Signal:
    """A condition that holds now, as one worker sees it.

    It holds no user's data: it is stored beyond users, and sent out of the house.

    Attributes:
        rule: What is wrong, one of few names; alerts of one rule are told together.
        component: What it is wrong with, such as a route's template or a dependency.
        tier: How much it matters.
        summary: One sentence for whoever is on call.
        for_s: How long it must hold before it is told, seconds.
    """

    rule: str
    component: str
    tier: Tier
    summary: str
    for_s: float = 0.0

    @property
    def fingerprint(self) -> str:
        """What makes two signals the same alert, in whichever worker."""
        text = f"{self.rule}\0{self.component}".encode()
        return hashlib.sha256(text).hexdigest()[:24]


Source = Callable[[], Iterable[Signal]]
"""Returns what holds now; called in the loop's thread, and awaits nothing."""
