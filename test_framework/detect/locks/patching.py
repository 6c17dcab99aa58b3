"""Replaces methods and puts them back."""

from collections.abc import Callable
from typing import Any

_ABSENT = object()


class Patches:
    """Methods that stand in for others, until ``remove``."""

    def __init__(self) -> None:
        self._saved: list[tuple[type, str, Any]] = []

    def replace(
        self, owner: type, name: str, make: Callable[[Any], Callable[..., Any]]
    ) -> None:
        """Put a method in the place of another.

        Args:
            owner: The class; what it inherits is shadowed in it.
            name: Of the method.
            make: Makes the new method from the old one.
        """
        stored = owner.__dict__.get(name, _ABSENT)
        is_of_class = isinstance(stored, classmethod)
        original = stored.__func__ if is_of_class else getattr(owner, name)
        patch = make(original)
        patch.__name__, patch.__doc__ = original.__name__, original.__doc__
        patch.__qualname__ = original.__qualname__
        patch.__wrapped__ = original  # type: ignore[attr-defined]  # as functools.wraps does
        self._saved.append((owner, name, stored))
        setattr(owner, name, classmethod(patch) if is_of_class else patch)

    def remove(self) -> None:
        """Put every original back, the latest first."""
        while self._saved:
            owner, name, original = self._saved.pop()
            if original is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, original)
