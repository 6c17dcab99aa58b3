"""Who read whose write, in a history of registers that says nothing else.

Where each value of a key is written once, every read names its writer. What needs no
order to be wrong is found here as well: reads of nobody's value, of aborted or
intermediate writes, of the reader's own future, or past its own write.

An unknown outcome counts as committed when somebody read of it, and as never happened
otherwise, which can only spare a fault and never make one up. For the same reason it
stands in a session of its own: it may take effect long after its client went on.

Source: Adya's thesis (1999) for G1a and G1b; Biswas and Enea, OOPSLA 2019, for histories
of writers and readers; AWDIT (PLDI 2025) for the names of the others.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from test_framework.check.transactions.log import (
    LISTS,
    NOTHING,
    UNKNOWN,
    Ints,
    Kind,
    Status,
    TransactionLog,
)
from test_framework.core import UsageError

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Misread:
    """A read that is wrong whatever the order of transactions.

    Attributes:
        name: ``internal``, ``future read``, ``thin-air read``, ``G1a`` or ``G1b``.
        place: The operation that read.
        other: The operation that it contradicts; None for a value of nobody.
    """

    name: str
    place: int
    other: int | None


@dataclass(frozen=True, slots=True)
class ReadsFrom:
    """Committed transactions as nodes, by session and program order in it.

    A last node more, ``initial``, wrote every key before all others.

    Attributes:
        log: What all numbers of keys, places and transactions refer to.
        number: Transaction of the log of each node; shape ``(n,)``.
        session: Number of its session, from 0; ``(n,)``, rising.
        position: Where it stands in its session, from 0; ``(n,)``.
        reader: Node of each read of another's write; ``(r,)``, rising.
        writer: Node whose write it read, or ``initial``; ``(r,)``.
        key: What it read; ``(r,)``.
        place: The operation of the log; ``(r,)``, rising for each reader.
        write_node: Node of each last write to a key in a transaction; ``(w,)``, rising.
        write_key: The key; ``(w,)``, rising for each node.
        answered: Reads of committed transactions that were answered (count).
        ambiguous: Reads left out because several transactions wrote their value, or
            one wrote None to what held nothing at first.
        misreads: What is wrong in itself.
    """

    log: TransactionLog
    number: Ints
    session: Ints
    position: Ints
    reader: Ints
    writer: Ints
    key: Ints
    place: Ints
    write_node: Ints
    write_key: Ints
    answered: int
    ambiguous: Ints
    misreads: tuple[Misread, ...]

    @property
    def initial(self) -> int:
        """The node that stands for what was there before."""
        return len(self.number)

    def session_edges(self) -> tuple[Ints, Ints]:
        """Return from which node to which program order goes, step by step."""
        follows = np.flatnonzero(self.session[1:] == self.session[:-1])
        heads = np.flatnonzero(self.position == 0)
        initial = np.full(len(heads), self.initial)
        return np.concatenate((follows, initial)), np.concatenate((follows + 1, heads))

    def read_edges(self) -> tuple[Ints, Ints, Ints]:
        """Return writer, reader and one read of each pair of them, ``initial`` apart."""
        code = self.reader * (self.initial + 1) + self.writer
        _, first = np.unique(code, return_index=True)
        first = first[self.writer[first] != self.initial]
        return self.writer[first], self.reader[first], first


def find_readers(log: TransactionLog, *, most_misreads: int = 16) -> ReadsFrom:
    """Match every read of a register with the transaction that wrote the value.

    Args:
        log: The history; sessions in program order.
        most_misreads: Of each name (count).

    Raises:
        UsageError: It holds lists, whose reads tell more than this looks at.
    """
    if np.isin(log.kind, LISTS).any():
        message = (
            "The history holds lists (append, or reads of lists), and this checker "
            "judges registers. Pick the model list-append for it."
        )
        raise UsageError(message)
    own = _last_own_writes(log)
    status = log.status[log.transaction]
    is_read = (log.kind == Kind.READ) & (status != Status.FAIL) & (log.value != UNKNOWN)
    misreads = _Misreads(most_misreads)

    after_own = np.flatnonzero(is_read & (own != NOTHING))
    contrary = after_own[log.value[after_own] != log.value[own[after_own]]]
    misreads.add("internal", contrary, own[contrary])

    outside = np.flatnonzero(is_read & (own == NOTHING))
    source, is_ambiguous = _sources(log, outside)
    is_wrong = is_ambiguous.copy()
    is_named = log.value[outside] != NOTHING

    def sort_out(name: str, wrong: Flags, *, is_dropped: bool = True) -> None:
        wrong = wrong & ~is_wrong
        misreads.add(name, outside[wrong], source[wrong])
        if is_dropped:
            is_wrong[wrong] = True

    sort_out("thin-air read", is_named & (source == NOTHING))
    writer = log.transaction[source]
    sort_out("future read", is_named & (writer == log.transaction[outside]))
    sort_out("G1a", is_named & (log.status[writer] == Status.FAIL))
    is_last = _is_last_write(log)
    sort_out("G1b", is_named & ~is_last[source], is_dropped=False)

    is_seen = np.zeros(len(log), dtype=bool)
    kept, source = outside[~is_wrong], source[~is_wrong]
    is_seen[log.transaction[source[source != NOTHING]]] = True
    is_counted = is_read & (status == Status.OK)
    return _number_nodes(
        log,
        answered=int(np.count_nonzero(is_counted)),
        committed=(log.status == Status.OK) | ((log.status == Status.INFO) & is_seen),
        place=kept,
        source=source,
        last_write=np.flatnonzero(is_last),
        ambiguous=outside[is_ambiguous],
        misreads=misreads.found,
    )


class _Misreads:
    """Collects the first few of each name."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.found: tuple[Misread, ...] = ()

    def add(self, name: str, places: Ints, others: Ints) -> None:
        pairs = zip(places.tolist(), others.tolist(), strict=True)
        self.found += tuple(
            Misread(name, place, None if other == NOTHING else other)
            for (place, other), _ in zip(pairs, range(self._most), strict=False)
        )


def _last_own_writes(log: TransactionLog) -> Ints:
    """Return for each operation the write to its key before it in its transaction."""
    code = log.transaction * max(len(log.keys), 1) + log.key
    order = np.argsort(code, kind="stable")
    grouped, at = code[order], np.arange(len(order))
    begins = np.ones(len(order), dtype=bool)
    begins[1:] = grouped[1:] != grouped[:-1]
    start = np.maximum.accumulate(np.where(begins, at, 0))
    write = np.where(log.kind[order] == Kind.WRITE, at, NOTHING)
    before = np.full(len(order), NOTHING)
    before[1:] = np.maximum.accumulate(write)[:-1]
    result = np.full(len(order), NOTHING)
    is_own = before >= start
    result[order[is_own]] = order[before[is_own]]
    return result


def _is_last_write(log: TransactionLog) -> Flags:
    """Tell which operations are the last write of their transaction to their key."""
    writes = np.flatnonzero(log.kind == Kind.WRITE)[::-1]
    code = log.transaction[writes] * max(len(log.keys), 1) + log.key[writes]
    _, first = np.unique(code, return_index=True)
    result = np.zeros(len(log.kind), dtype=bool)
    result[writes[first]] = True
    return result


def _sources(log: TransactionLog, reads: Ints) -> tuple[Ints, Flags]:
    """Return the write that each read saw, and which reads could mean several.

    A transaction that wrote a value twice is meant by its last such write.
    """
    writes = np.flatnonzero(log.kind == Kind.WRITE)
    base = len(log.values) + 1
    code = log.key[writes] * base + log.value[writes]
    order = np.argsort(code, kind="stable")
    code, writes = code[order], writes[order]
    wanted = log.key[reads] * base + log.value[reads]
    last = np.searchsorted(code, wanted, side="right") - 1
    if not len(code):
        return np.full(len(reads), NOTHING), np.zeros(len(reads), dtype=bool)
    is_found = (last >= 0) & (code[last] == wanted) & (log.value[reads] != NOTHING)
    first = np.searchsorted(code, wanted, side="left") % len(code)
    by = log.transaction[writes]
    is_ambiguous = is_found & (by[first] != by[last])
    if None in log.values:
        emptied = log.key[writes[log.value[writes] == log.values.index(None)]]
        is_empty = log.value[reads] == NOTHING
        is_ambiguous |= is_empty & np.isin(log.key[reads], emptied)
    return np.where(is_found, writes[last], NOTHING), is_ambiguous


def _number_nodes(
    log: TransactionLog,
    *,
    committed: Flags,
    place: Ints,
    source: Ints,
    last_write: Ints,
    answered: int,
    ambiguous: Ints,
    misreads: tuple[Misread, ...],
) -> ReadsFrom:
    """Make nodes of the committed transactions."""
    chosen = np.flatnonzero(committed)
    lone = log.status[chosen] == Status.INFO
    name = np.where(lone, len(log.sessions) + chosen, log.session[chosen])
    number = chosen[np.argsort(name, kind="stable")]
    _, session = np.unique(np.sort(name), return_inverse=True)
    session = session.reshape(-1)
    heads = np.flatnonzero(np.diff(session, prepend=NOTHING))
    node = np.full(len(log) + 1, NOTHING)
    node[number] = np.arange(len(number))
    node[-1] = len(number)

    reader = node[log.transaction[place]]
    writer = node[np.where(source == NOTHING, len(log), log.transaction[source])]
    reads = np.flatnonzero(reader != NOTHING)
    reads = reads[np.argsort(reader[reads], kind="stable")]
    write_node = node[log.transaction[last_write]]
    writes = np.flatnonzero(write_node != NOTHING)
    write_key = log.key[last_write]
    writes = writes[np.lexsort((write_key[writes], write_node[writes]))]
    return ReadsFrom(
        log=log,
        number=number,
        session=session,
        position=np.arange(len(number)) - heads[session],
        reader=reader[reads],
        writer=writer[reads],
        key=log.key[place[reads]],
        place=place[reads],
        write_node=write_node[writes],
        write_key=write_key[writes],
        answered=answered,
        ambiguous=ambiguous,
        misreads=misreads,
    )
