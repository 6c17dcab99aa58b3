"""Decides the choices of a polygraph that what is known decides already.

With the transitive closure of what is known, an option whose edge would close a cycle is
out, so the other one of its pair is known too; that goes on until nothing changes. Most
histories of real databases leave little or nothing for a search.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from test_framework.check.transactions.log import NOTHING, Ints
from test_framework.check.transactions.polygraph import Edges, Numbers, Polygraph
from test_framework.check.transactions.weak_orders import Adjacency, levels
from test_framework.check.transactions.weak_reads import Flags

Words = npt.NDArray[np.uint64]

_GATHERED_BYTES = 1 << 25
"""Rows of the closure that are joined at once, to bound memory."""


class Closure:
    """Which node is reached from which, a bit each: nodes squared / 8 bytes."""

    def __init__(self, source: Ints, target: Ints, nodes: int) -> None:
        after = Adjacency(source, target, nodes)
        before = Adjacency(target, source, nodes)
        self._rows: Words = np.zeros((nodes, nodes // 64 + 1), dtype=np.uint64)
        self.rank = np.zeros(nodes, dtype=np.int64)
        """Where each node stands in one order of the edges."""
        most = max(1, _GATHERED_BYTES // self._rows.strides[0])
        done = 0
        for ring in levels(after, before):
            cuts = np.cumsum(after.degree[ring]) // most
            for some in np.split(ring, np.flatnonzero(np.diff(cuts)) + 1):
                begins, reached = after.of(some)
                if len(reached):
                    self._rows[some] = np.bitwise_or.reduceat(
                        self._rows[reached], begins, axis=0
                    )
            # A node reaches itself: edges that close a cycle are looked up backwards.
            self._rows[ring, ring >> 6] |= np.uint64(1) << (ring & 63).astype(np.uint64)
            # Rings come from the ends, so ranks are given from behind.
            done += len(ring)
            self.rank[ring] = nodes - done + np.arange(len(ring))
        self.is_acyclic = done == nodes

    def reaches(self, source: Ints, target: Ints) -> Flags:
        """Tell for each two nodes whether a way leads from the first to the second."""
        words = self._rows[source, target >> 6]
        shift = (target & 63).astype(np.uint64)
        return np.asarray(words >> shift & np.uint64(1), dtype=bool)


@dataclass(frozen=True, slots=True)
class Pruned:
    """A polygraph with fewer choices.

    Attributes:
        known: All edges that hold in any case; those of decided choices come last.
        ruled_out: For each edge of ``known``, the option whose exclusion made it so, or
            ``NOTHING``.
        since: For each edge of ``known``, how many of them excluded that option; 0 for
            those that need no exclusion.
        options: Edges of what is still open.
        option: Option of each, as the polygraph numbered them.
        closure: Of ``known``; None when that has a cycle.
        contradiction: A pair of which neither option can hold, if any.
        is_stopped: Whether ``is_over`` ended it early.
    """

    known: Edges
    ruled_out: Ints
    since: Ints
    options: Edges
    option: Numbers
    closure: Closure | None
    contradiction: int | None = None
    is_stopped: bool = False


def prune(graph: Polygraph, is_over: Callable[[], bool]) -> Pruned:
    """Decide what follows from what is known.

    Args:
        graph: The polygraph.
        is_over: Asked before each round whether the time is up.
    """
    shape = graph.shape
    known, options, option = graph.known, graph.options, graph.option
    ruled_out = np.full(len(known), NOTHING)
    since = np.zeros(len(known), dtype=np.int64)
    own_source, own_target = shape.own_edges()
    while True:
        source, target = shape.ends(known)
        closure = Closure(
            np.concatenate((own_source, source)),
            np.concatenate((own_target, target)),
            shape.nodes,
        )
        now = Pruned(known, ruled_out, since, options, option, closure)
        if not closure.is_acyclic:
            return replace(now, closure=None)
        begin, end = shape.ends(options)
        bad = np.zeros(2 * graph.pairs, dtype=bool)
        bad[option[closure.reaches(end, begin)]] = True
        both = np.flatnonzero(bad[0::2] & bad[1::2])
        if len(both):
            return replace(now, contradiction=int(both[0]))
        if not bad.any():
            return now
        if is_over():
            return replace(now, is_stopped=True)
        is_forced = bad[option ^ 1]
        # What is reached anyway needs no edge, and there are many such.
        fresh = np.flatnonzero(is_forced & ~closure.reaches(begin, end))
        ruled_out = np.concatenate((ruled_out, option[fresh] ^ 1))
        since = np.concatenate((since, np.full(len(fresh), len(known))))
        known = known.with_more(options.take(fresh))
        left = np.flatnonzero(~is_forced & ~bad[option])
        options, option = options.take(left), option[left]
