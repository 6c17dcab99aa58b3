"""What an atomic number is."""

from collections.abc import Awaitable
from typing import Protocol


class Cell(Protocol):
    """A number that many change at once; functions or coroutine functions.

    Each operation must seem to happen at one instant between its call and its return.
    One that has ``connect`` is used through what that yields, by each worker its own.
    """

    def get(self) -> int | Awaitable[int]:
        """Return the value."""
        ...

    def set(self, value: int) -> Awaitable[None] | None:
        """Replace the value."""
        ...

    def increment(self) -> int | Awaitable[int]:
        """Add 1 and return the new value."""
        ...

    def compare_and_swap(self, expected: int, new: int) -> bool | Awaitable[bool]:
        """Replace the value if it is ``expected``; return whether it was."""
        ...
