"""Which transaction must come before which: the dependency graph, in columns.

An edge says that the first transaction comes before the second in every order that
explains the history, and which two operations prove it (Adya, "Weak Consistency", MIT
1999: write-write, write-read and read-write dependencies; order of sessions and of real
time as in Kingsbury and Alvaro, "Elle", VLDB 2020).

Real time is kept as the two columns ``invoked`` and ``completed`` and not as edges: one
transaction may come before all others. ``add_instants`` makes nodes of instants, so that
a component of the graph costs O(transactions). Such helping nodes have numbers from
``len(log)`` on. So have relays, which stand between the readers of a version and those
who overwrite it: their product would be quadratic.
"""

import enum
from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from test_framework.check.transactions.log import (
    FOREVER,
    NOTHING,
    Ints,
    Status,
    TransactionLog,
)

Flags = npt.NDArray[np.bool_]


class Edge(enum.IntEnum):
    """Why one transaction comes before another."""

    WW = 0
    """It wrote a version, the other one a later version of the same key."""
    WR = 1
    """The other one read what it wrote."""
    RW = 2
    """The other one overwrote what it read."""
    SESSION = 3
    """The same session made the other one afterwards."""
    REALTIME = 4
    """It was over before the other one began."""
    PRW = 5
    """A scan of it did not find the list that the other one began."""


ANTI = frozenset({Edge.RW, Edge.PRW})
"""Read-write edges: of items, and of predicates."""


@dataclass(frozen=True, slots=True)
class Edges:
    """Edges in columns of equal length.

    Attributes:
        source: Transaction or helping node.
        target: The same.
        kind: An ``Edge``.
        source_place: Operation of the source that proves it; ``NOTHING`` if none does.
        target_place: The same of the target.
    """

    source: Ints
    target: Ints
    kind: Ints
    source_place: Ints
    target_place: Ints

    def __len__(self) -> int:
        """Return the number of edges."""
        return len(self.source)

    @classmethod
    def of(  # one argument per column
        cls,
        kind: Edge,
        source: Ints,
        target: Ints,
        source_place: Ints | None = None,
        target_place: Ints | None = None,
    ) -> Self:
        """Return edges of one kind."""
        nothing = np.full(len(source), NOTHING)
        return cls(
            source,
            target,
            np.full(len(source), int(kind)),
            nothing if source_place is None else source_place,
            nothing if target_place is None else target_place,
        )

    @classmethod
    def join(cls, *parts: Self) -> Self:
        """Return the edges of all parts."""
        return cls(
            *(
                np.concatenate([getattr(part, name) for part in parts])
                for name in cls.__slots__
            )
        )

    def are(self, kinds: Collection[Edge]) -> Flags:
        """Tell which edges are of some kinds."""
        chosen = np.zeros(len(Edge), dtype=np.bool_)
        chosen[list(kinds)] = True
        return np.asarray(chosen[self.kind])

    def select(self, chosen: Flags | Ints) -> Self:
        """Return some of the edges."""
        return type(self)(*(getattr(self, name)[chosen] for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Rivals:
    """Writes of a key that came one after the other, nobody saw in which order.

    Attributes:
        writer: Transaction; shape ``(r,)``.
        key: Which writes are rivals of each other; ``(r,)``.
        place: The operation; ``(r,)``.
    """

    writer: Ints
    key: Ints
    place: Ints


@dataclass(frozen=True, slots=True)
class Graph:
    """A dependency graph over the transactions of a log.

    Attributes:
        edges: All but those of real time.
        rivals: Writes whose order is not among the edges.
        nodes: Transactions and relays (count).
        invoked: When each transaction began; ``(n,)``.
        completed: When it was certainly over; ``FOREVER`` if it never was; ``(n,)``.
    """

    edges: Edges
    rivals: Rivals
    nodes: int
    invoked: Ints
    completed: Ints


def order_sessions(log: TransactionLog) -> Edges:
    """Return the order of each session, from each transaction to the next.

    What ended unknown may take effect later than what its session did next, so nothing
    comes after it, and what was refused has no place. Neighbours that overlap in time
    have no order.
    """
    number = np.arange(len(log))
    taking = number[log.status != Status.FAIL]
    order = taking[np.lexsort((log.index[taking], log.session[taking]))]
    is_sure = log.status[order] == Status.OK
    spot = np.arange(len(order))
    # The last certain one at or before each spot.
    sure = np.maximum.accumulate(np.where(is_sure, spot, NOTHING))
    before, after = sure[:-1], spot[1:]
    fits = before != NOTHING
    before, after = order[before[fits]], order[after[fits]]
    joined = log.session[before] == log.session[after]
    is_timed = log.completed[before] != FOREVER
    joined &= ~is_timed | (log.completed[before] <= log.invoked[after])
    return Edges.of(Edge.SESSION, before[joined], after[joined])


def add_instants(
    members: Ints, invoked: Ints, completed: Ints, nodes: int
) -> tuple[Ints, Ints, int]:
    """Return real time as edges through nodes for instants.

    A transaction leads to the first instant after its end at which another one begins,
    each instant to the next, and to the transactions that begin then: 3 edges for each
    transaction at most.

    Args:
        members: Transactions to order; shape ``(m,)``.
        invoked: When each of them began; ``(m,)``.
        completed: When it was over, or ``FOREVER``; ``(m,)``.
        nodes: The first number that is free.

    Returns:
        Sources, targets, and the first number that is free afterwards.
    """
    is_over = completed != FOREVER
    ended = members[is_over]
    order = np.argsort(completed[is_over], kind="stable")
    ends = completed[is_over][order]
    ended_before = np.searchsorted(ends, invoked, side="left")
    is_instant = np.zeros(len(ends) + 1, dtype=np.bool_)
    is_instant[ended_before] = True
    is_instant[0] = False
    # Instant i stands for: that many transactions are over, so the rank counts them.
    rank = np.cumsum(is_instant)
    count = int(rank[-1])
    own = nodes + rank[:-1]  # the first instant after each end
    leads = rank[:-1] < count
    begins = ended_before > 0
    chain = nodes + np.arange(max(count, 1))
    sources = (ended[order][leads], nodes - 1 + rank[ended_before[begins]], chain[:-1])
    targets = (own[leads], members[begins], chain[1:])
    return np.concatenate(sources), np.concatenate(targets), nodes + count


def distinct(numbers: Ints) -> Ints:
    """Return each number once, in order.

    By sorting: ``np.unique`` of NumPy 2.4 hashes, which takes five times as long here.
    """
    ordered = np.sort(numbers)
    is_new = np.ones(len(ordered), dtype=np.bool_)
    is_new[1:] = ordered[1:] != ordered[:-1]
    return np.asarray(ordered[is_new])


def is_among(numbers: Ints, pool: Ints) -> Flags:
    """Tell which numbers are in a pool; by sorting, as ``distinct``."""
    ordered = np.append(np.sort(pool), np.iinfo(np.int64).max)
    return np.asarray(ordered[np.searchsorted(ordered, numbers)] == numbers)


def is_known(completed: Ints, invoked: Ints, source: Ints, target: Ints) -> Flags:
    """Tell which pairs real time orders by itself."""
    return completed[source] < invoked[target]
