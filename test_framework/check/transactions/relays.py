"""Relays between those who read a version and those who overwrote it.

Each of the former comes before each of the latter. If these are several, that are as
many edges as the product of both; a helping node between them needs as many as their
sum.
"""

import numpy as np

from test_framework.check.transactions.dependencies import Edge, Edges
from test_framework.check.transactions.log import NOTHING, Ints


def relay_reads(
    nodes: int,
    reads: tuple[Ints, Ints, Ints],
    writes: tuple[Ints, Ints, Ints],
    *,
    kind: Edge = Edge.RW,
) -> tuple[Edges, int]:
    """Join all who read a version with all who overwrote it, but none with itself.

    Args:
        nodes: The first number that is free.
        reads: Transaction, version and operation of each read.
        writes: Transaction, version overwritten and operation of each write.
        kind: What the edges are.

    Returns:
        The edges, and the first number that is free afterwards.
    """
    reader, read, read_place = reads
    owner, written, write_place = writes
    count = int(max(read.max(initial=0), written.max(initial=0))) + 1
    writers = np.bincount(written, minlength=count)
    is_alone = writers[written] == 1
    only = np.full(count, NOTHING)
    only[written[is_alone]] = np.flatnonzero(is_alone)
    write = only[read]
    is_direct = write != NOTHING
    is_direct[is_direct] = owner[write[is_direct]] != reader[is_direct]
    write = write[is_direct]
    direct = Edges.of(
        kind,
        reader[is_direct],
        owner[write],
        read_place[is_direct],
        write_place[write],
    )
    has_many = writers[read] > 1
    relayed, nodes = _relay(
        nodes,
        (reader[has_many], read[has_many], read_place[has_many]),
        (owner[~is_alone], written[~is_alone], write_place[~is_alone]),
        kind,
    )
    return Edges.join(direct, relayed), nodes


def _relay(
    nodes: int,
    reads: tuple[Ints, Ints, Ints],
    writes: tuple[Ints, Ints, Ints],
    kind: Edge,
) -> tuple[Edges, int]:
    """Join the readers and the writers of versions that several overwrote.

    Two relays for each version: one before those who only wrote, one before those who
    read it as well. Of the latter each must come before each other, which no order can
    do; a ring says so with fewer edges.
    """
    reader, read, read_place = reads
    owner, written, write_place = writes
    count = int(max(read.max(initial=0), written.max(initial=0))) + 1
    by_read, by_write = reader * count + read, owner * count + written
    is_both = np.isin(by_write, by_read)
    both, first = np.unique(by_write[is_both], return_index=True)
    first = np.flatnonzero(is_both)[first]
    _, also, _ = np.intersect1d(by_read, both, return_indices=True)
    # Both are in the order of their codes now: one row for each reader who wrote.
    by_version = np.argsort(written[first], kind="stable")
    ring = (
        owner[first][by_version],
        written[first][by_version],
        read_place[also][by_version],
        write_place[first][by_version],
    )
    used, relay = np.unique(written, return_inverse=True)
    at = np.searchsorted(used, read)
    # Which versions have writers of either sort; none where nobody overwrote one.
    alone, shared = np.zeros((2, len(used) + 1), dtype=np.bool_)
    alone[relay[~is_both]] = True
    shared[relay[is_both]] = True
    is_used = np.append(used, NOTHING)[at] == read
    to_alone = is_used & alone[at]
    to_shared = is_used & shared[at] & ~np.isin(by_read, both)
    return Edges.join(
        Edges.of(
            kind, reader[to_alone], nodes + at[to_alone], read_place[to_alone], None
        ),
        Edges.of(
            kind,
            nodes + relay[~is_both],
            owner[~is_both],
            None,
            write_place[~is_both],
        ),
        Edges.of(
            kind,
            reader[to_shared],
            nodes + len(used) + at[to_shared],
            read_place[to_shared],
            None,
        ),
        Edges.of(
            kind,
            nodes + len(used) + relay[is_both],
            owner[is_both],
            None,
            write_place[is_both],
        ),
        _join_ring(*ring, kind),
    ), nodes + 2 * len(used)


def _join_ring(
    owner: Ints, version: Ints, read: Ints, write: Ints, kind: Edge
) -> Edges:
    """Join all who overwrote the same version with their neighbours, both ways."""
    count = len(owner)
    spot = np.arange(count)
    is_first = np.ones(count, dtype=np.bool_)
    is_first[1:] = version[1:] != version[:-1]
    begin = np.maximum.accumulate(np.where(is_first, spot, 0))
    is_last = np.append(is_first[1:], True)
    following = np.where(is_last, begin, spot + 1)
    other = following != spot
    spot, following = spot[other], following[other]
    one, two = np.concatenate((spot, following)), np.concatenate((following, spot))
    return Edges.of(kind, owner[one], owner[two], read[one], write[two])
