"""Whom the listeners on pools tell what came back."""

from collections.abc import Callable
from typing import Protocol

from test_framework.clients.hygiene.places import Place
from test_framework.clients.hygiene.state import Kind, Leftover


class Watcher(Protocol):
    """What watches the pools, as those who listen to them see it."""

    settings: set[str]
    """Names of settings of one's own to ask for; statements add to them."""

    def returned(
        self,
        before: frozenset[Leftover],
        after: frozenset[Leftover],
        place_of: Callable[[Kind], Place],
    ) -> None:
        """Note what a connection brought back that it did not have when it was new.

        Args:
            before: What it had when it last came back, or when it was new.
            after: What it has now.
            place_of: Where a statement of a kind was last sent from.
        """

    def missed(self, reason: str) -> None:
        """Note that a connection came back and could not be asked."""
