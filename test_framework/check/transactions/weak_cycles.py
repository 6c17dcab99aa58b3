"""The shortest cycle of a graph whose edges stand in columns.

Strong components come from scipy, which is several times faster than any graph library
once edges are in arrays; the shortest cycle within one, by breadth-first search from its
nodes, is what a reader can follow.
"""

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from test_framework.check.transactions.log import Ints

STEPS = 2_000_000
"""Edges that are walked in search of a shorter cycle of one component (count)."""


def find_cycles(
    source: Ints, target: Ints, count: int, *, most: int = 4, steps: int = STEPS
) -> list[list[int]]:
    """Return one short cycle for each of the smallest strong components.

    Args:
        source: First node of each edge.
        target: Its second node; never the same.
        count: Number of nodes.
        most: Components to look into (count).
        steps: Edges to walk in each (count). A cycle found in fewer is the shortest one.

    Returns:
        Numbers of the edges of each cycle, in order; nothing when there is no cycle.
    """
    if not len(source):
        return []
    ones = np.ones(len(source), dtype=np.int8)
    matrix = csr_matrix((ones, (source, target)), shape=(count, count))
    parts, label = connected_components(matrix, directed=True, connection="strong")
    if parts == count:
        return []
    sizes = np.bincount(label)
    inside = np.flatnonzero(label[source] == label[target])
    by_part = inside[np.argsort(label[source[inside]], kind="stable")]
    of_part = label[source[by_part]]
    cyclic = np.flatnonzero(sizes > 1)
    chosen = cyclic[np.argsort(sizes[cyclic], kind="stable")][:most]
    return [
        _shortest(
            by_part[
                np.searchsorted(of_part, part) : np.searchsorted(of_part, part + 1)
            ],
            source,
            target,
            steps,
        )
        for part in chosen.tolist()
    ]


def _shortest(edges: Ints, source: Ints, target: Ints, steps: int) -> list[int]:
    """Return the shortest cycle of a strong component, as far as ``steps`` go."""
    after: dict[int, list[tuple[int, int]]] = {}
    for edge, begin, end in zip(
        edges.tolist(), source[edges].tolist(), target[edges].tolist(), strict=True
    ):
        after.setdefault(begin, []).append((end, edge))
    best: list[int] = []
    for start in sorted(after, key=lambda node: len(after[node])):
        found, walked = _back_to(start, after, len(best) or len(after) + 1)
        best = found or best
        steps -= walked
        if len(best) == 2 or (steps < 0 and best):
            break
    return best


def _back_to(
    start: int, after: dict[int, list[tuple[int, int]]], below: int
) -> tuple[list[int], int]:
    """Return the shortest way from a node back to it, if shorter than ``below``."""
    came: dict[int, tuple[int, int]] = {}
    ring, length, walked = [start], 0, 0
    while ring and length + 1 < below:
        length += 1
        reached = []
        for node in ring:
            for end, edge in after[node]:
                walked += 1
                if end == start:
                    way = [edge]
                    while node != start:
                        node, edge = came[node]  # noqa: PLW2901  # the walk ends here
                        way.append(edge)
                    return way[::-1], walked
                if end not in came:
                    came[end] = node, edge
                    reached.append(end)
        ring = reached
    return [], walked


def find_way(
    source: Ints, target: Ints, count: int, begin: int, end: int
) -> list[int] | None:
    """Return the edges of a shortest way from one node to another; None without one."""
    order = np.argsort(source, kind="stable")
    first = np.searchsorted(source[order], np.arange(count + 1))
    came = np.full(count, -1)
    ring = np.array([begin])
    while end != begin and came[end] < 0 and len(ring):
        edges = np.concatenate(
            [order[first[node] : first[node + 1]] for node in ring.tolist()]
        )
        fresh = edges[(came[target[edges]] < 0) & (target[edges] != begin)]
        ring, chosen = np.unique(target[fresh], return_index=True)
        came[ring] = fresh[chosen]
    if end != begin and came[end] < 0:
        return None
    way = []
    while end != begin:
        way.append(int(came[end]))
        end = int(source[way[-1]])
    return way[::-1]
