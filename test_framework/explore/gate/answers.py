"""When an answer is complete: what is still to come on a connection.

The gate lets the next request go when the answer to the last one has come, so it must
know where an answer ends. Each recogniser counts what a protocol promises and reads no
more than that: nothing is decoded, and what it does not know counts as bytes without an
end, which silence ends. A recogniser is chosen by the first bytes that are sent.
"""

from typing import Protocol


class Answers(Protocol):
    """What one connection has been asked and has answered.

    Attributes:
        kind: Name of the protocol; first word of the names of its requests.
    """

    kind: str

    @property
    def has_end(self) -> bool:
        """Whether an answer says where it ends; where none does, silence ends it."""
        ...

    @property
    def may_push(self) -> bool:
        """Whether the other side may speak without being asked."""
        ...

    @property
    def session(self) -> int | None:
        """What the server calls this connection; None when unknown."""
        ...

    @property
    def is_due(self) -> bool:
        """Whether an answer is still to come, or the rest of one."""
        ...

    @property
    def unfinished(self) -> str:
        """What was begun and must be ended, such as a transaction; empty for nothing."""
        ...

    def label(self, data: bytes) -> str:
        """Return what is asked for, in words that are the same in every run."""
        ...

    def describe(self, data: bytes) -> str:
        """Return what is asked for as a story tells it; not the same in every run.

        Keys and tables are named, for they tell what requests have in common. Values
        and passwords are not.
        """
        ...

    def sent(self, data: bytes) -> None:
        """Note what has left."""
        ...

    def received(self, data: bytes) -> None:
        """Note what has come."""
        ...

    def give_up(self) -> None:
        """Expect nothing more: silence ended the answer."""
        ...


class Opaque:
    """Bytes of an unknown protocol: an answer is whatever comes until it is silent."""

    kind = "bytes"
    has_end = False
    may_push = True
    session: int | None = None
    unfinished = ""

    def __init__(self) -> None:
        self.is_due = False

    def label(self, data: bytes) -> str:  # noqa: ARG002  # the protocol
        """Return ``send``."""
        return "send"

    def describe(self, data: bytes) -> str:  # noqa: ARG002  # the protocol
        """Return ``send``."""
        return "send"

    def sent(self, data: bytes) -> None:  # noqa: ARG002  # the protocol
        """Expect something."""
        self.is_due = True

    def received(self, data: bytes) -> None:  # noqa: ARG002  # the protocol
        """Expect nothing more; silence tells whether it was all."""
        self.is_due = False

    def give_up(self) -> None:
        """Expect nothing more."""
        self.is_due = False
