"""What was sent into a channel and received from it, and what the channel promises."""

import enum
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from test_framework.core import NS_PER_S


class Delivery(enum.StrEnum):
    """How often a message that was sent is received."""

    EXACTLY_ONCE = "exactly once"
    AT_LEAST_ONCE = "at least once"
    AT_MOST_ONCE = "at most once"


class Order(enum.StrEnum):
    """Which messages may not overtake which."""

    FIFO = "first in, first out"
    PER_PRODUCER = "per producer"
    UNORDERED = "none"


class Cancelled(enum.StrEnum):
    """What becomes of a message that a receive had taken when it was cancelled."""

    TAKES_NOTHING = "takes nothing"
    RESUMES = "the consumer's next receive returns it"
    MAY_LOSE = "it may be lost"


@dataclass(frozen=True, slots=True)
class Promise:
    """What a channel promises.

    Attributes:
        delivery: How often each message is received.
        order: Which messages may not overtake which.
        is_addressed: Whether a message is for one consumer; any may receive it if not.
        capacity: Messages it holds before a send waits (count, >= 0; 0 is a
            rendezvous); None for no bound.
        cancelled: What a cancelled receive may do.
    """

    delivery: Delivery = Delivery.EXACTLY_ONCE
    order: Order = Order.PER_PRODUCER
    is_addressed: bool = False
    capacity: int | None = None
    cancelled: Cancelled = Cancelled.TAKES_NOTHING

    def __str__(self) -> str:
        """Say it in words."""
        words = [str(self.delivery), f"order: {self.order}"]
        words += ["addressed"] if self.is_addressed else []
        if self.capacity is not None:
            words.append(f"holds {self.capacity}")
        return ", ".join([*words, f"cancelled receive: {self.cancelled}"])


@dataclass(frozen=True, slots=True)
class Send:
    """One message on its way in; a send that was refused did not happen: leave it out.

    Attributes:
        message: Its name, used once in the history.
        producer: Who sent it; one producer sends one message at a time.
        to: The consumer it was for; None for any.
        invoked: When, on the clock of all.
        completed: When the send returned; None if it was cancelled or timed out.
        given_up: When that was; None if it is not known.
    """

    message: Hashable
    producer: int
    to: int | None
    invoked: int
    completed: int | None
    given_up: int | None = None


@dataclass(frozen=True, slots=True)
class Receive:
    """One wait for a message.

    Attributes:
        message: What was received; None when it ended without: cancelled, timed out.
        consumer: Who received; one consumer receives one message at a time.
        invoked: When.
        completed: When it returned or was given up.
    """

    message: Hashable
    consumer: int
    invoked: int
    completed: int


@dataclass(frozen=True, slots=True)
class ChannelHistory:
    """All that happened on one channel until it was drained.

    Attributes:
        sends: In any order.
        receives: Those of one consumer in its own order.
        patience_ns: How long a consumer may be left waiting beside a message.
    """

    sends: Sequence[Send]
    receives: Sequence[Receive]
    patience_ns: int = 2 * NS_PER_S
