"""Publications and deliveries of events, one by one and in columns."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from test_framework.check.linear.columns import FOREVER, Ints
from test_framework.check.witness import Item
from test_framework.core import UsageError


@dataclass(frozen=True, slots=True)
class Publication:
    """An event that a producer published.

    Attributes:
        event: Its name; no two have the same.
        producer: Who published it.
        invoked: When publishing began, on the clock of all.
        completed: When it was out; None if nobody knows that it is.
        recipients: Who may get it; None for everybody.
        key: The object whose change it announces, if it does.
        version: The version of that object from which on it is true.
    """

    event: Hashable
    producer: Hashable
    invoked: int
    completed: int | None
    recipients: tuple[Hashable, ...] | None = None
    key: Hashable = None
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event that a stream delivered; streams deliver in the order of time.

    Attributes:
        event: Name of the event.
        recipient: Whose stream it is.
        at: When it came.
        stream: Which of the recipient's streams; one that resumes another goes on.
        connection: Over which of its connections.
    """

    event: Hashable
    recipient: Hashable
    at: int
    stream: Hashable = 0
    connection: Hashable = 0


@dataclass(frozen=True, slots=True)
class Log:
    """Publications and deliveries in columns.

    Attributes:
        publications: By number.
        deliveries: By number, in order of time.
        producer: Number of each publication's producer; shape ``(p,)``.
        begin: When publishing began; ``(p,)``.
        end: When it was out; ``FOREVER`` if that is not known; ``(p,)``.
        event: Number of each delivery's publication, -1 if there is none; ``(d,)``.
        recipient: Number of its recipient; ``(d,)``.
        stream: Number of its stream; ``(d,)``.
        owner: Number of the recipient of each stream; ``(streams,)``.
        recipients: Numbers by name.
    """

    publications: Sequence[Publication]
    deliveries: Sequence[Delivery]
    producer: Ints
    begin: Ints
    end: Ints
    event: Ints
    recipient: Ints
    stream: Ints
    owner: Ints
    recipients: dict[Hashable, int]

    def group(self, places: Ints) -> Ints:
        """Number the stream and producer of deliveries together."""
        producers = int(self.producer.max(initial=0)) + 1
        return self.stream[places] * producers + self.producer[self.event[places]]


def columns(publications: Iterable[Publication], deliveries: Iterable[Delivery]) -> Log:
    """Put publications and deliveries in columns.

    Raises:
        UsageError: An event was published twice.
    """
    outgoing = list(publications)
    incoming = sorted(deliveries, key=lambda one: one.at)
    events: dict[Hashable, int] = {}
    producers: dict[Hashable, int] = {}
    for number, one in enumerate(outgoing):
        if events.setdefault(one.event, number) != number:
            message = (
                f"The event {one.event!r} was published twice. Give each a name of its "
                "own, or a delivery does not tell which one it is."
            )
            raise UsageError(message)
        producers.setdefault(one.producer, len(producers))
    recipients: dict[Hashable, int] = {}
    streams: dict[Hashable, int] = {}
    owner = []
    for got in incoming:
        person = recipients.setdefault(got.recipient, len(recipients))
        if (got.recipient, got.stream) not in streams:
            streams[got.recipient, got.stream] = len(streams)
            owner.append(person)
    ends = [FOREVER if one.completed is None else one.completed for one in outgoing]
    return Log(
        outgoing,
        incoming,
        ints(producers[one.producer] for one in outgoing),
        ints(one.invoked for one in outgoing),
        ints(ends),
        ints(events.get(got.event, -1) for got in incoming),
        ints(recipients[got.recipient] for got in incoming),
        ints(streams[got.recipient, got.stream] for got in incoming),
        ints(owner),
        recipients,
    )


def ints(numbers: Iterable[int]) -> Ints:
    """Return numbers as a column."""
    return np.fromiter(numbers, dtype=np.int64)


def published(log: Log, number: int, label: str) -> Item:
    """Return a publication as the item of a witness."""
    one = log.publications[number]
    return Item(
        label=label,
        lane=str(one.producer),
        text=f"publishes {one.event!r}",
        begin=one.invoked,
        end=one.completed,
        index=number,
    )


def delivered(log: Log, place: int, label: str) -> Item:
    """Return a delivery as the item of a witness."""
    one = log.deliveries[place]
    return Item(
        label=label,
        lane=str(one.recipient),
        text=f"gets {one.event!r}",
        begin=one.at,
        end=one.at,
        index=place,
    )
