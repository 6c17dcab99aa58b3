"""One operation on an object, as its client saw it."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Call:
    """An invocation and its completion.

    A refused operation (``fail``) did not happen and is left out of a history; one of
    unknown outcome (``info``: a timeout, a cancellation) may take effect at any later
    time, or never.

    Attributes:
        process: Who called; one process calls one thing at a time.
        kind: What was called, such as ``read``.
        argument: What it was given.
        result: What it returned; meaningless when ``is_known`` is False.
        invoked: When, on any clock that all processes share.
        completed: When it returned; None for an unknown outcome.
        key: The object it was called on; objects are judged one by one.
        index: Where it stands in the history it came from; for witnesses.
    """

    process: Any
    kind: str
    argument: Any
    result: Any
    invoked: int
    completed: int | None
    key: Any = None
    index: int = -1

    @property
    def is_known(self) -> bool:
        """Whether it is known to have happened, and with which result."""
        return self.completed is not None

    def __str__(self) -> str:
        """Say it as a witness quotes it."""
        on = "" if self.key is None else f"{self.key!r}."
        given = "" if self.argument is None else repr(self.argument)
        answer = "?" if not self.is_known else repr(self.result)
        return f"{self.process}: {on}{self.kind}({given}) -> {answer}"
