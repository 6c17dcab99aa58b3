"""The polygraph of a history of registers: what is known, and what must be chosen.

Nodes are transactions, edges say who must come first. Program order and reads-from are
known. Two transactions that write one key came in one order or the other, and either
order puts every reader of the first before the second as well; a level holds if there
is a choice for each such pair without a cycle.

Writers that read the key before they write it stand directly behind the one they read
from, so they form chains that nothing comes between, and only chains are ordered: a
counter has one. Two that follow the same write are a lost update, which both levels
forbid.

Snapshot isolation allows a cycle if two edges from a reader to an overwriter (rw) follow
each other in it. So a transaction is two nodes there, its snapshot and its commit: every
edge goes from commit to snapshot but rw, which goes from snapshot to commit, and the
history shows the level if there is no cycle.

Source: Papadimitriou (1979) for polygraphs; Cobra (OSDI 2020) for chains and pruning;
PolySI (VLDB 2023) for generalised polygraphs; Cerone and Gotsman (2018) for the cycles of
snapshot isolation.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from test_framework.check.transactions.log import NOTHING, Ints
from test_framework.check.transactions.weak import IsolationLevel
from test_framework.check.transactions.weak_reads import ReadsFrom

Numbers = npt.NDArray[np.integer[Any]]
"""Narrow where there are many: options of a million pairs take 17 bytes an edge."""


@dataclass(frozen=True, slots=True)
class Edges:
    """Edges with the reason of each.

    Attributes:
        source: Transaction that comes first.
        target: The one that comes later.
        kind: One of ``SESSION``, ``WR``, ``WW`` and ``RW``.
        cause: A read of ``WR`` and ``RW``; the key of ``WW``; ``NOTHING`` of a session.
    """

    source: Numbers
    target: Numbers
    kind: Numbers
    cause: Numbers

    def __len__(self) -> int:
        """Return the number of edges."""
        return len(self.source)

    def take(self, which: Ints) -> "Edges":
        """Return some of the edges."""
        return Edges(
            self.source[which], self.target[which], self.kind[which], self.cause[which]
        )

    def with_more(self, *others: "Edges") -> "Edges":
        """Return these edges and others behind them."""
        parts = (self, *others)
        return Edges(
            np.concatenate([part.source for part in parts]),
            np.concatenate([part.target for part in parts]),
            np.concatenate([part.kind for part in parts]),
            np.concatenate([part.cause for part in parts]),
        )


SESSION, WR, WW, RW = range(4)


@dataclass(frozen=True, slots=True)
class Shape:
    """How edges between transactions become edges between nodes, for one level."""

    transactions: int
    is_split: bool

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return self.transactions * (1 + self.is_split)

    def ends(self, edges: Edges) -> tuple[Ints, Ints]:
        """Return first and second node of each edge.

        Snapshots are numbered like their transactions, and commits behind all of them.
        """
        commit = self.transactions * self.is_split
        is_rw = edges.kind == RW
        return (
            edges.source.astype(np.int64) + np.where(is_rw, 0, commit),
            edges.target.astype(np.int64) + np.where(is_rw, commit, 0),
        )

    def own_edges(self) -> tuple[Ints, Ints]:
        """Return the edges from each snapshot to its commit."""
        each = np.arange(self.transactions * self.is_split)
        return each, each + self.transactions


@dataclass(frozen=True, slots=True)
class Polygraph:
    """What a history leaves open.

    Attributes:
        shape: Of the level.
        known: Edges that hold in any case.
        options: Edges that hold if an option is chosen; options ``2 * i`` and
            ``2 * i + 1`` exclude each other, and one of them holds.
        option: Option of each of these edges, rising.
        pairs: Number of choices.
    """

    shape: Shape
    known: Edges
    options: Edges
    option: Numbers
    pairs: int


class Chains:
    """Writes of each key in chains of transactions that read what they overwrite.

    Writes are numbered as in ``ReadsFrom``, and behind them the initial write of each
    key. A chain has the number of its first write.

    Attributes:
        reads: The history.
        lost_update: Two reads of one write whose readers both overwrote it, if any.
    """

    def __init__(self, reads: ReadsFrom) -> None:
        self.reads = reads
        keys, writes = len(reads.log.keys), len(reads.write_node)
        self._key = np.concatenate((reads.write_key, np.arange(keys)))
        self._node = np.concatenate((reads.write_node, np.full(keys, reads.initial)))
        code = reads.write_node * keys + reads.write_key

        def write_of(node: Ints, key: Ints) -> Ints:
            at = np.searchsorted(code, node * keys + key)
            at[at == writes] = 0
            is_there = (code[at] == node * keys + key) if writes else at < 0
            return np.where(
                node == reads.initial, writes + key, np.where(is_there, at, NOTHING)
            )

        # The write that each read saw, and the reader's own that follows it, if any.
        saw = write_of(reads.writer, reads.key)
        own = write_of(reads.reader, reads.key)
        # Several reads of one value by one transaction are one.
        _, single = np.unique(reads.reader * (writes + keys) + saw, return_index=True)
        self._read, self._saw, own = single, saw[single], own[single]
        follows = np.flatnonzero(own != NOTHING)
        self._next = np.full(writes + keys, NOTHING)
        self._next[self._saw[follows]] = own[follows]
        self.lost_update = self._find_lost_update(follows)
        before = np.arange(writes + keys)
        before[own[follows]] = self._saw[follows]
        self._head = _roots(before) if self.lost_update is None else before
        order = np.argsort(self._saw, kind="stable")
        self._read, self._saw, self._own = (
            self._read[order],
            self._saw[order],
            own[order],
        )
        self._first_read = np.searchsorted(self._saw, np.arange(writes + keys + 1))
        tails = np.flatnonzero(self._next == NOTHING)
        self._tail = np.full(writes + keys, NOTHING)
        self._tail[self._head[tails]] = tails

    def _find_lost_update(self, follows: Ints) -> tuple[int, int] | None:
        order = follows[np.argsort(self._saw[follows], kind="stable")]
        same = np.flatnonzero(np.diff(self._saw[order]) == 0)
        if not len(same):
            return None
        at = int(same[0])
        return int(self._read[order[at]]), int(self._read[order[at + 1]])

    def inner_edges(self) -> Edges:
        """Return edges from readers of a write to the next of its chain."""
        after = self._next[self._saw]
        is_edge = (after != NOTHING) & (after != self._own)
        read = self._read[is_edge]
        return _edges(self.reads.reader[read], self._node[after[is_edge]], RW, read)

    def initial_pairs(self) -> tuple[Ints, Ints]:
        """Return the first chain of each key with each other one of it."""
        heads = np.unique(self._head)
        later = heads[self._node[heads] != self.reads.initial]
        return self._key[later] + len(self.reads.write_node), later

    def open_pairs(self) -> tuple[Ints, Ints]:
        """Return each two chains of a key that may stand in either order."""
        heads, sizes = self._open_heads()
        number = np.arange(len(heads))
        ends = np.repeat(np.cumsum(sizes), sizes)
        behind = ends - number - 1
        first = np.repeat(number, behind)
        offset = np.arange(len(first)) - np.repeat(np.cumsum(behind) - behind, behind)
        return heads[first], heads[first + 1 + offset]

    def count_open_pairs(self) -> int:
        """Return how many ``open_pairs`` there would be."""
        _, sizes = self._open_heads()
        return int((sizes * (sizes - 1) // 2).sum())

    def _open_heads(self) -> tuple[Ints, Ints]:
        """Return chains but the first of each key, by key, and how many a key has."""
        heads = np.unique(self._head)
        heads = heads[self._node[heads] != self.reads.initial]
        heads = heads[np.argsort(self._key[heads], kind="stable")]
        _, sizes = np.unique(self._key[heads], return_counts=True)
        return heads, sizes

    def edges_between(self, first: Ints, second: Ints) -> tuple[Edges, Numbers]:
        """Return what holds if chains come before others, and for which pair."""
        tail, each = self._tail[first], np.arange(len(first))
        is_edge = self._node[tail] != self.reads.initial
        ww = _edges(
            self._node[tail][is_edge],
            self._node[second][is_edge],
            WW,
            self._key[second][is_edge],
        )
        begin = self._first_read[tail]
        count = self._first_read[tail + 1] - begin
        pair = np.repeat(each, count)
        offset = np.arange(len(pair)) - np.repeat(np.cumsum(count) - count, count)
        read = self._read[begin[pair] + offset]
        rw = _edges(self.reads.reader[read], self._node[second[pair]], RW, read)
        pairs = np.concatenate((each[is_edge], pair)).astype(np.int32)
        order = np.argsort(pairs, kind="stable")
        return ww.with_more(rw).take(order), pairs[order]


def build_polygraph(chains: Chains, level: IsolationLevel) -> Polygraph:
    """Return the polygraph of a history that is causally consistent.

    Args:
        chains: The writes of the history, without a lost update.
        level: ``SNAPSHOT_ISOLATION`` or ``SERIALIZABLE``.
    """
    reads = chains.reads
    shape = Shape(reads.initial, is_split=level is IsolationLevel.SNAPSHOT_ISOLATION)
    before, after = reads.session_edges()
    inner = before != reads.initial
    writer, reader, read = reads.read_edges()
    known = _edges(before[inner], after[inner], SESSION, NOTHING)
    known = known.with_more(_edges(writer, reader, WR, read), chains.inner_edges())
    first, second = chains.initial_pairs()
    known = known.with_more(chains.edges_between(first, second)[0])
    first, second = chains.open_pairs()
    # Options alternate, so that the two of a pair stand side by side.
    options, option = chains.edges_between(
        np.column_stack((first, second)).reshape(-1),
        np.column_stack((second, first)).reshape(-1),
    )
    return Polygraph(shape, known, options, option, len(first))


def _roots(before: Ints) -> Ints:
    """Return the first of the chain of each number; chains must not be circles."""
    while True:
        further = before[before]
        if (further == before).all():
            return before
        before = further


def _edges(source: Ints, target: Ints, kind: int, cause: Ints | int) -> Edges:
    count = len(source)
    return Edges(
        source.astype(np.int32),
        target.astype(np.int32),
        np.full(count, kind, dtype=np.int8),
        np.broadcast_to(cause, count).astype(np.int32),
    )
