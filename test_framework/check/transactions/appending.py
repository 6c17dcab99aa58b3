"""Dependencies between the transactions of a list-append history.

Write-write edges join neighbours of a version order, write-read edges lead to the reader
from the writer of the last element it saw, read-write edges from the reader to the
writer of the next one. Elements that tell nothing (their writer was refused, is unknown,
or cannot be told) are passed over: the order of the others stays true.

What was appended and never seen came after all that was seen, if it took effect. Readers
of the longest version are joined with all of those through relays.
"""

from dataclasses import dataclass

import numpy as np

from test_framework.check.transactions.dependencies import Edge, Edges, Flags, Rivals
from test_framework.check.transactions.log import (
    NOTHING,
    Ints,
    Kind,
    Status,
    TransactionLog,
)
from test_framework.check.transactions.relays import relay_reads
from test_framework.check.transactions.versions import Appends, Orders, Reads, Runs


@dataclass(frozen=True, slots=True)
class Lists:
    """A list-append history, prepared.

    Attributes:
        log: The transactions.
        runs: Operations of a transaction on one key.
        appends: All appends.
        reads: All reads that took effect.
        orders: The version order of each key.
        repeats: Elements of ``orders`` that stand there for the second time.
        is_sound: Keys with one order of versions, each there once; ``(k,)``.
    """

    log: TransactionLog
    runs: Runs
    appends: Appends
    reads: Reads
    orders: Orders
    repeats: Ints
    is_sound: Flags

    @classmethod
    def of(cls, log: TransactionLog) -> "Lists":
        """Prepare a history."""
        runs = Runs.of(log)
        appends, reads = Appends.of(log, runs), Reads.of(log)
        orders = Orders.of(log, appends, reads)
        repeats = _find_repeats(log, orders, appends)
        is_sound = np.ones(len(log.keys), dtype=np.bool_)
        is_sound[orders.key[repeats]] = False
        is_sound[reads.key[~orders.fits]] = False
        return cls(log, runs, appends, reads, orders, repeats, is_sound)

    def is_absent(self, place: Ints) -> Flags:
        """Tell which operations are lists that a scan did not find."""
        return np.asarray(self.log.kind[place] == Kind.ABSENT)


def _find_repeats(log: TransactionLog, orders: Orders, appends: Appends) -> Ints:
    made = orders.slot != NOTHING
    if (
        np.all(made)
        and np.bincount(orders.slot, minlength=1).max(initial=0) <= 1
        and not np.any(appends.is_double)
    ):
        return np.zeros(0, dtype=np.int64)
    code = orders.key * (len(log.values) + 1) + orders.value
    order = np.argsort(code, kind="stable")
    ordered = code[order]
    return np.sort(order[1:][ordered[1:] == ordered[:-1]])


@dataclass(frozen=True, slots=True)
class _Known:
    """Elements of the version orders that prove something.

    Attributes:
        writer: Transaction of each element; ``(e,)``.
        place: Its append; ``(e,)``.
        last: The last such element at or before each, ``NOTHING`` if none; ``(e,)``.
        following: The first at or after each, ``e`` if none; ``(e + 1,)``.
    """

    writer: Ints
    place: Ints
    last: Ints
    following: Ints


def find_dependencies(lists: Lists) -> tuple[Edges, Rivals, int]:
    """Return the edges that values prove, rivals, and the number of nodes."""
    log, orders, appends = lists.log, lists.orders, lists.appends
    count, slot = len(orders.key), orders.slot
    writer = np.append(appends.transaction, NOTHING)[slot]
    tells = np.append(log.status, Status.FAIL)[writer] != Status.FAIL
    tells &= ~np.append(appends.is_double, True)[slot] & lists.is_sound[orders.key]
    spot = np.arange(count)
    following = np.full(count + 1, count)
    following[:-1] = np.where(tells, spot, count)
    known = _Known(
        writer,
        np.append(appends.place, NOTHING)[slot],
        np.maximum.accumulate(np.where(tells, spot, NOTHING)),
        np.minimum.accumulate(following[::-1])[::-1],
    )
    tails, rivals, nodes = _place_tails(lists, known)
    edges = Edges.join(_order_writes(lists, known), _order_reads(lists, known), tails)
    return edges, rivals, nodes


def _order_writes(lists: Lists, known: _Known) -> Edges:
    """Join each element with the one before it."""
    key, writer, place = lists.orders.key, known.writer, known.place
    tells = np.flatnonzero(known.last == np.arange(len(key)))
    before, after = tells[:-1], tells[1:]
    joined = (key[before] == key[after]) & (writer[before] != writer[after])
    before, after = before[joined], after[joined]
    return Edges.of(Edge.WW, writer[before], writer[after], place[before], place[after])


def _order_reads(lists: Lists, known: _Known) -> Edges:
    """Join each read with who made what it saw, and with who changed that."""
    base, reads = lists.orders.base, lists.reads
    if not np.all(lists.is_sound):
        reads = reads.select(lists.is_sound[reads.key])
    reader, end = reads.transaction, base[reads.key] + reads.count
    seen = _find_seen(lists, known, reads)
    maker = np.append(known.writer, NOTHING)[seen]
    foreign = (seen != NOTHING) & (maker != reader)
    saw = Edges.of(
        Edge.WR,
        maker[foreign],
        reader[foreign],
        known.place[seen[foreign]],
        reads.place[foreign],
    )
    following = known.following[end]
    changed = following < base[reads.key + 1]
    changed[changed] = known.writer[following[changed]] != reader[changed]
    following = following[changed]
    kind = np.where(lists.is_absent(reads.place[changed]), Edge.PRW, Edge.RW)
    lost = Edges(
        reader[changed],
        known.writer[following],
        kind.astype(np.int64),
        reads.place[changed],
        known.place[following],
    )
    return Edges.join(saw, lost)


def _find_seen(lists: Lists, known: _Known, reads: Reads) -> Ints:
    """Return the last element each read saw that tells something, or ``NOTHING``."""
    base = lists.orders.base[reads.key]
    seen = np.append(known.last, NOTHING)[base + reads.count - 1]
    return np.where((reads.count > 0) & (seen >= base), seen, NOTHING)


def find_committed(lists: Lists) -> Flags:
    """Tell which transactions took effect: those that say so, and those seen."""
    log, slot = lists.log, lists.orders.slot
    took_effect = np.asarray(log.status == Status.OK)
    slot = slot[slot != NOTHING]
    seen = lists.appends.transaction[slot[~lists.appends.is_double[slot]]]
    took_effect[seen[log.status[seen] == Status.INFO]] = True
    return took_effect


def _place_tails(lists: Lists, known: _Known) -> tuple[Edges, Rivals, int]:
    """Put appends that no read saw after all that was seen of their key."""
    appends, base = lists.appends, lists.orders.base
    is_tail = find_committed(lists)[appends.transaction] & ~appends.is_double
    is_tail[lists.orders.slot[lists.orders.slot != NOTHING]] = False
    is_tail &= lists.is_sound[appends.key]
    tail = np.flatnonzero(is_tail)
    owner, key, place = (
        appends.transaction[tail],
        appends.key[tail],
        appends.place[tail],
    )
    final = np.append(known.last, NOTHING)[base[key + 1] - 1]
    follows = (base[key + 1] > base[key]) & (final >= base[key])
    follows[follows] = known.writer[final[follows]] != owner[follows]
    final = final[follows]
    writes = Edges.of(
        Edge.WW,
        known.writer[final],
        owner[follows],
        known.place[final],
        place[follows],
    )
    reads = lists.reads
    has_tail = np.zeros(len(lists.log.keys), dtype=np.bool_)
    has_tail[key] = True
    whole = (base[1:] - base[:-1])[reads.key]
    reads = reads.select((reads.count == whole) & has_tail[reads.key])
    is_absent = lists.is_absent(reads.place)
    nodes = len(lists.log)
    for kind, some in (
        (Edge.RW, reads.select(~is_absent)),
        (Edge.PRW, reads.select(is_absent)),
    ):
        if not len(some.place):
            continue
        read = (some.transaction, some.key, some.place)
        relayed, nodes = relay_reads(nodes, read, (owner, key, place), kind=kind)
        writes = Edges.join(writes, relayed)
    return writes, Rivals(owner, key, place), nodes
