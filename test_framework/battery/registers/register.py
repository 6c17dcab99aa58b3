"""What registers are: cells with names, read and written, perhaps in transactions."""

from collections.abc import Awaitable, Sequence
from typing import Protocol

BatchStep = tuple[str, int | None]
"""A register, and what is written to it; None to read it."""


class Registers(Protocol):
    """Numbers with names; functions or coroutine functions.

    Functions are called in threads, coroutine functions in tasks. One that has
    ``connect`` is used through what that yields, by each worker its own.
    """

    def read(self, name: str) -> int | Awaitable[int]:
        """Return the value of a register."""
        ...

    def write(self, name: str, value: int) -> Awaitable[None] | None:
        """Replace it."""
        ...


class TransactionalRegisters(Registers, Protocol):
    """Registers with transactions that go step by step.

    Outside of one, each read and write is a transaction by itself.
    """

    def begin(self) -> Awaitable[None] | None:
        """Begin a transaction."""
        ...

    def commit(self) -> Awaitable[None] | None:
        """Commit it.

        Raises:
            RefusedError: It was rolled back; it is done again then. Steps may raise
                it as well.
        """
        ...

    def rollback(self) -> Awaitable[None] | None:
        """Roll it back, whatever state it is in."""
        ...


class BatchRegisters(Registers, Protocol):
    """Registers with transactions that are sent as a whole."""

    def execute(
        self, steps: Sequence[BatchStep]
    ) -> Sequence[int] | Awaitable[Sequence[int]]:
        """Do all steps as one, and return what the reads among them read."""
        ...
