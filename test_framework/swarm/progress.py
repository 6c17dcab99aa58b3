"""Who is told what a run is doing."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Progress(Protocol):
    """Told what the run is doing."""

    def begin(self, phase: str) -> None:
        """A phase starts."""
        ...

    def end(self, phase: str) -> None:
        """It is over."""
        ...


class Silence:
    """Tells nobody."""

    def begin(self, phase: str) -> None:
        """Do nothing."""

    def end(self, phase: str) -> None:
        """Do nothing."""


@contextmanager
def phase(progress: Progress, name: str) -> Iterator[None]:
    """Tell of a phase as long as the block lasts."""
    progress.begin(name)
    yield
    progress.end(name)
