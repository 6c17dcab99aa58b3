"""Kinds of cycles, and which edges each one is made of.

Adya's G0 to G2 ("Weak Consistency", MIT 1999), and G-nonadjacent of Cerone and Gotsman
("Analysing Snapshot Isolation", J.ACM 2018): snapshot isolation holds as long as each
cycle has two read-write edges in a row. Each also with edges of the order of sessions
or of real time (Kingsbury and Alvaro, "Elle", VLDB 2020).

Where a read-write edge is one of a predicate (a scan did not find what was added later),
repeatable read allows the cycle, and it has a name of its own: G-single-predicate,
G-nonadjacent-predicate, G2.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from test_framework.check.transactions.dependencies import ANTI, Edge
from test_framework.check.transactions.levels import name_anomaly


@dataclass(frozen=True, slots=True)
class Rule:
    """A kind of cycle, and how it is hunted.

    Attributes:
        base: Its name without the order it needs.
        strength: It needs an edge of: 0 values only, 1 sessions, 2 real time.
        decisive: It has an edge of this kind, where the search begins.
        others: Kinds of the other edges.
        apart: No two read-write edges in a row; else, if there may be more than one,
            there must be two in a row.
    """

    base: str
    strength: int
    decisive: Edge
    others: frozenset[Edge]
    apart: bool = False

    @property
    def name(self) -> str:
        """Return its full name."""
        return name_anomaly(self.base, self.strength)

    @property
    def kinds(self) -> frozenset[Edge]:
        """Return all kinds of edges it has."""
        return self.others | {self.decisive}


def _rules() -> Iterator[Rule]:
    orders = ((), (Edge.SESSION,), (Edge.SESSION, Edge.REALTIME))
    writes, values = {Edge.WW}, {Edge.WW, Edge.WR}
    for strength, order in enumerate(orders):
        every = frozenset({*values, Edge.RW, *order})
        yield Rule("G0", strength, Edge.WW, frozenset({*writes, *order}))
        yield Rule("G1c", strength, Edge.WR, frozenset({*values, *order}))
        yield Rule(
            "G-single", strength, Edge.RW, frozenset({*values, *order}), apart=True
        )
        yield Rule("G-nonadjacent", strength, Edge.RW, every, apart=True)
        yield Rule("G2-item", strength, Edge.RW, every)
        yield Rule(
            "G-single-predicate",
            strength,
            Edge.PRW,
            frozenset({*values, *order}),
            apart=True,
        )
        every |= {Edge.PRW}
        yield Rule("G-nonadjacent-predicate", strength, Edge.PRW, every, apart=True)
        yield Rule("G2", strength, Edge.PRW, every)


RULES = tuple(_rules())
"""Weak orders first: a cycle that needs none is not reported as one that does."""


def classify(kinds: Sequence[Edge]) -> str:
    """Return the name of a cycle of these edges, in their order."""
    strength = 2 if Edge.REALTIME in kinds else 1 if Edge.SESSION in kinds else 0
    reads = sum(kind in ANTI for kind in kinds)
    if reads == 0:
        base = "G1c" if Edge.WR in kinds else "G0"
    elif reads == 1:
        base = "G-single"
    else:
        following = (*kinds[1:], kinds[0])
        adjacent = any(
            one in ANTI and two in ANTI
            for one, two in zip(kinds, following, strict=True)
        )
        base = "G2" if adjacent else "G-nonadjacent"
    if base == "G2":
        base += "" if Edge.PRW in kinds else "-item"
    elif Edge.PRW in kinds:
        base += "-predicate"
    return name_anomaly(base, strength)
