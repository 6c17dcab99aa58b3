"""Which transaction must have committed before which, by the axioms of weak levels.

If a transaction reads a key from ``writer`` while it may not have missed ``other``, which
wrote that key as well, then ``other`` committed before ``writer``. What may not be missed
is the level: of whom it has read before (READ COMMITTED), of whom it reads at all or
who came before it in its session (READ ATOMIC), all that happened before it (causal
consistency). A history shows a level if these edges, program order and reads-from
together have no cycle.

Edges that follow from others are left out, as in AWDIT (PLDI 2025, arXiv 2504.06975):
with m operations there are O(m^1.5) for the first two, and at most one per read and
session for the third. Source of the axioms: Biswas and Enea, OOPSLA 2019.
"""

import enum
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from test_framework.check.transactions.log import NOTHING, Ints
from test_framework.check.transactions.weak_reads import ReadsFrom

CHUNK = 1 << 21
"""Rows that are joined at once, to bound memory (count)."""


class Reason(enum.IntEnum):
    """Why a reader may not have missed a transaction."""

    READ_BEFORE = 0
    """It had read from it already."""
    READ = 1
    """It read from it, before or after."""
    SESSION = 2
    """It came after it in its session."""
    CAUSAL = 3
    """It happened after it, over whatever steps."""


@dataclass(frozen=True, slots=True)
class CommitEdges:
    """``source`` committed before the writer of ``read``, for ``reason``."""

    source: Ints
    read: Ints
    reason: Ints

    @classmethod
    def joined(cls, parts: list[tuple[Ints, Ints, Reason]]) -> "CommitEdges":
        """Return all parts in one."""
        none = np.zeros(0, dtype=np.int64)
        return cls(
            np.concatenate([none, *(source for source, _, _ in parts)]),
            np.concatenate([none, *(read for _, read, _ in parts)]),
            np.concatenate([none, *(np.full(len(p[0]), p[2]) for p in parts)]),
        )


class _Groups:
    """Reads by reader and key, each group in program order."""

    def __init__(self, reads: ReadsFrom) -> None:
        self.keys = max(len(reads.log.keys), 1)
        code = reads.reader * self.keys + reads.key
        self.order = np.argsort(code, kind="stable")
        self.code, self.start = np.unique(code[self.order], return_index=True)
        sizes = np.diff(np.append(self.start, len(code)))
        self.end = self.start + sizes
        group = np.repeat(np.arange(len(self.code)), sizes)
        self._span = len(code) + 1
        self._at = group * self._span + self.order
        self._next = self._next_of_others(reads.writer[self.order], group)
        readers = self.code // self.keys
        self.first_of = np.searchsorted(readers, np.arange(reads.initial))
        self.count_of = np.bincount(readers, minlength=reads.initial)

    def find(self, reader: Ints, key: Ints) -> Ints:
        """Return the group of each reader and key; ``NOTHING`` where there is none."""
        return _find(self.code, reader * self.keys + key)

    def _next_of_others(self, writer: Ints, group: Ints) -> Ints:
        """Return the next read of the group from somebody else, as place in order."""
        count = len(writer)
        changes = np.ones(count, dtype=bool)
        changes[1:] = (writer[1:] != writer[:-1]) | (group[1:] != group[:-1])
        begins = np.flatnonzero(changes)
        following = np.append(begins, count)[np.cumsum(changes)]
        is_inside = following < self.end[group]
        return np.where(is_inside, following, NOTHING)

    def read_after(self, group: Ints, read: Ints, reads: ReadsFrom, of: Ints) -> Ints:
        """Return the first read of a group behind ``read`` that is not from ``of``."""
        at = np.searchsorted(self._at, group * self._span + read, side="right")
        is_inside = at < self.end[group]
        at = np.where(is_inside, at, 0)
        is_own = reads.writer[self.order[at]] == of
        at = np.where(is_own, self._next[at], at)
        return np.where(is_inside & (at != NOTHING), self.order[at], NOTHING)


def monotonic_edges(reads: ReadsFrom) -> CommitEdges:
    """Return the edges of READ COMMITTED: reads of a transaction never go back."""
    return CommitEdges.joined(
        [
            (source, read, Reason.READ_BEFORE)
            for source, read in _observed_edges(reads, is_ordered=True)
        ]
    )


def atomic_edges(reads: ReadsFrom) -> CommitEdges:
    """Return the edges of READ ATOMIC: who is seen at all is seen whole."""
    parts = [
        (source, read, Reason.READ)
        for source, read in _observed_edges(reads, is_ordered=False)
    ]
    return CommitEdges.joined([*parts, (*_session_edges(reads), Reason.SESSION)])


def _observed_edges(
    reads: ReadsFrom, *, is_ordered: bool
) -> Iterator[tuple[Ints, Ints]]:
    """Yield edges for what readers saw of transactions that wrote other keys as well."""
    groups = _Groups(reads)
    writes = reads.write_node * groups.keys + reads.write_key
    writes_of = np.bincount(reads.write_node, minlength=reads.initial + 1)
    first_write = np.concatenate(([0], np.cumsum(writes_of)))
    sources, readers, first = reads.read_edges()
    # The smaller side is walked and looked up in the other: AWDIT's bound rests on it.
    is_short = writes_of[sources] <= groups.count_of[readers]
    for pair, offset in _expanded(np.where(is_short, writes_of[sources], 0)):
        key = reads.write_key[first_write[sources[pair]] + offset]
        group = groups.find(readers[pair], key)
        yield _first_reads(reads, groups, pair, group, first, is_ordered=is_ordered)
    for pair, offset in _expanded(np.where(is_short, 0, groups.count_of[readers])):
        group = groups.first_of[readers[pair]] + offset
        key = groups.code[group] % groups.keys
        is_written = _find(writes, sources[pair] * groups.keys + key) != NOTHING
        group = np.where(is_written, group, NOTHING)
        yield _first_reads(reads, groups, pair, group, first, is_ordered=is_ordered)


def _first_reads(
    reads: ReadsFrom,
    groups: _Groups,
    pair: Ints,
    group: Ints,
    first: Ints,
    *,
    is_ordered: bool,
) -> tuple[Ints, Ints]:
    """Return sources, and the read of each that must not be older than they are.

    One read is enough: a later one of another writer gets its edge from this one.
    """
    is_there = group != NOTHING
    pair, group = pair[is_there], group[is_there]
    source = reads.writer[first[pair]]
    behind = first[pair] if is_ordered else np.full(len(pair), NOTHING)
    read = groups.read_after(group, behind, reads, source)
    is_there = read != NOTHING
    return source[is_there], read[is_there]


def _session_edges(reads: ReadsFrom) -> tuple[Ints, Ints]:
    """Return edges from the last writer of a key in the session of each reader."""
    last = LastWrites(reads)
    session, position = reads.session[reads.reader], reads.position[reads.reader]
    source = last.find(reads.key, session, position - 1)
    is_edge = (source != NOTHING) & (source != reads.writer)
    return source[is_edge], np.flatnonzero(is_edge)


class LastWrites:
    """Finds the last write to a key in a session up to a position."""

    def __init__(self, reads: ReadsFrom) -> None:
        self._sessions = int(reads.session[-1]) + 1 if len(reads.session) else 1
        self._length = int(reads.position.max(initial=0)) + 2
        session = reads.session[reads.write_node]
        position = reads.position[reads.write_node]
        code = self._base(reads.write_key, session) + position
        order = np.argsort(code)
        self._code, self._node = code[order], reads.write_node[order]

    def _base(self, key: Ints, session: Ints) -> Ints:
        return (key * self._sessions + session) * self._length

    def find(
        self, key: Ints, session: Ints, upto: Ints, above: Ints | int = NOTHING
    ) -> Ints:
        """Return the last writer at ``upto`` or before, if it is behind ``above``."""
        if not len(self._code):
            return np.full(len(key), NOTHING)
        base = self._base(key, session)
        at = np.searchsorted(self._code, base + upto, side="right") - 1
        is_there = (at >= 0) & (self._code[at] > base + above)
        return np.where(is_there, self._node[at], NOTHING)


def causal_edges(reads: ReadsFrom, clock: npt.NDArray[np.int32]) -> CommitEdges:
    """Return the edges of causal consistency: no read misses its causal past.

    A writer that happened before the one that was read needs no edge, so sessions are
    looked into only where the reader's past goes beyond the writer's.

    Args:
        reads: The history.
        clock: From ``vector_clocks``.
    """
    last = LastWrites(reads)
    sessions = clock.shape[1]
    by_key = np.argsort(reads.key, kind="stable")
    parts = []
    for some in np.array_split(by_key, len(by_key) * sessions // CHUNK + 1):
        reader = reads.reader[some]
        upto = clock[reader]
        upto[np.arange(len(some)), reads.session[reader]] -= 1
        above = clock[reads.writer[some]]
        at, session = np.nonzero(upto > above)
        read = some[at]
        found = last.find(
            reads.key[read],
            session,
            upto[at, session].astype(np.int64),
            above[at, session].astype(np.int64),
        )
        is_edge = found != NOTHING
        parts.append((found[is_edge], read[is_edge], Reason.CAUSAL))
    return CommitEdges.joined(parts)


def vector_clocks(reads: ReadsFrom) -> npt.NDArray[np.int32]:
    """Return the last position of each session that happened up to each node.

    Program order and reads-from must have no cycle. The last row is that of ``initial``,
    before which nothing happened. Shape ``(n + 1, sessions)``, so 4 * n * sessions bytes.
    """
    count = reads.initial
    sessions = int(reads.session[-1]) + 1 if count else 1
    clock = np.full((count + 1, sessions), NOTHING, dtype=np.int32)
    own = np.arange(count), reads.session
    clock[own] = reads.position
    follows = np.flatnonzero(reads.position > 0)
    writer, reader, _ = reads.read_edges()
    before = Adjacency(
        np.concatenate((follows, reader)), np.concatenate((follows - 1, writer)), count
    )
    after = Adjacency(
        np.concatenate((follows - 1, writer)), np.concatenate((follows, reader)), count
    )
    for nodes in levels(before, after):
        at, pasts = before.of(nodes)
        if len(pasts):
            joined = np.maximum.reduceat(clock[pasts], at, axis=0)
            clock[nodes] = np.maximum(clock[nodes], joined)
    return clock


class Adjacency:
    """Edges by their first node, as offsets into one column."""

    def __init__(self, source: Ints, target: Ints, count: int) -> None:
        order = np.argsort(source, kind="stable")
        self.target = target[order]
        self.degree = np.bincount(source, minlength=count)
        self.start = np.concatenate(([0], np.cumsum(self.degree)))

    def of(self, nodes: Ints) -> tuple[Ints, Ints]:
        """Return where each node begins in the targets of all nodes, and those.

        Every node must have a target, as ``reduceat`` knows no empty part, or none.
        """
        degree = self.degree[nodes]
        ends = np.cumsum(degree)
        total = int(ends[-1]) if len(ends) else 0
        begins = ends - degree
        places = np.arange(total) + np.repeat(self.start[nodes] - begins, degree)
        return begins, self.target[places]


def levels(before: Adjacency, after: Adjacency) -> Iterator[Ints]:
    """Yield nodes in an order of edges, all at once whose predecessors are done.

    Nodes on or behind a cycle never come.
    """
    waiting = before.degree.copy()
    nodes = np.flatnonzero(waiting == 0)
    while len(nodes):
        yield nodes
        _, reached = after.of(nodes)
        np.subtract.at(waiting, reached, 1)
        nodes = np.unique(reached[waiting[reached] == 0])


def _find(table: Ints, wanted: Ints) -> Ints:
    """Return the place of each wanted number in a rising table, or ``NOTHING``.

    Who looks for something has a reader and a writer, so no table is empty.
    """
    at = np.searchsorted(table, wanted)
    at[at == len(table)] = 0
    return np.where(table[at] == wanted, at, NOTHING)


def _expanded(counts: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Yield each row as often as its count says, with a number from 0, in chunks."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    # Rows are not parted, so a chunk may be longer by one row.
    cuts = (
        np.searchsorted(ends, np.arange(CHUNK, total + CHUNK, CHUNK), side="left") + 1
    )
    begin = 0
    for cut in cuts.tolist():
        rows = np.repeat(np.arange(begin, min(cut, len(counts))), counts[begin:cut])
        yield (
            rows,
            np.arange(len(rows))
            + ends[begin]
            - counts[begin]
            - (ends[rows] - counts[rows]),
        )
        begin = cut
        if begin >= len(counts):
            return
