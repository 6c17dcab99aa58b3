"""Cycles of a dependency graph: are there any, of which kind, and the shortest ones.

One pass over the whole graph (strongly connected components, in C) tells which
transactions are on a cycle at all. Of a sound history that is none, and nothing else is
done. Otherwise each kind of cycle is hunted among those few: components of the edges it
may use, then a breadth-first search from each edge it cannot do without.

Kinds are those of Adya (MIT 1999), and of Cerone and Gotsman for snapshot isolation
("Analysing Snapshot Isolation", J.ACM 2018: no two read-write edges in a row). Each
also with the order of sessions, and of real time.
"""

from dataclasses import dataclass, replace
from itertools import combinations
from math import comb

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from test_framework.check.transactions.dependencies import (
    ANTI,
    Edge,
    Edges,
    Flags,
    Graph,
    Rivals,
    add_instants,
    distinct,
    is_known,
)
from test_framework.check.transactions.levels import (
    common_base,
    is_as_bad,
    name_anomaly,
    split_anomaly,
)
from test_framework.check.transactions.log import FOREVER, Ints
from test_framework.check.transactions.mazes import ENOUGH, TOO_MANY, Cycle, Maze, Step
from test_framework.check.transactions.rules import RULES, Rule, classify
from test_framework.core import InternalError

WITNESSES = 8
"""Cycles to show of each kind: the smallest components are taken."""

_PATIENCE = 4
"""Components to search for each cycle to show, before a kind is undecided."""

_WORK = 10_000_000
"""Nodes and edges to look at while rivals are put in order, before that is given up."""

_ORDERS = 2_000
"""Orders of rivals to try, at most."""

_Write = tuple[int, int]
"""A transaction, and which of its operations."""


def find_components(source: Ints, target: Ints, nodes: int) -> Ints:
    """Return the number of the strongly connected component of each node."""
    # By rows without sorting them: what a matrix made of triples would do besides.
    edges = len(source)
    by_source = sparse.csr_array(
        (np.ones(edges, dtype=np.int8), source, np.arange(edges + 1)),
        shape=(edges, nodes),
    ).tocsc()
    matrix = sparse.csr_array(
        (np.ones(edges), target[by_source.indices], by_source.indptr),
        shape=(nodes, nodes),
    )
    # SciPy 1.17 does not return from a graph that has an edge twice in a row.
    matrix.sum_duplicates()
    _, labels = csgraph.connected_components(matrix, connection="strong")
    return labels.astype(np.int64)


def find_tangle(graph: Graph) -> Flags:
    """Tell which nodes are on a cycle of any kind; shape ``(nodes,)``.

    Edges that real time proves as well are left out: they lead nowhere else.
    """
    edges, count = graph.edges, len(graph.invoked)
    ends = np.append(graph.completed, np.full(graph.nodes - count, FOREVER))
    begins = np.append(graph.invoked, np.full(graph.nodes - count, -FOREVER))
    late = ~is_known(ends, begins, edges.source, edges.target)
    source, target = edges.source[late], edges.target[late]
    members = np.arange(count)
    first, second, nodes = add_instants(
        members, graph.invoked, graph.completed, graph.nodes
    )
    labels = find_components(
        np.concatenate((source, first)), np.concatenate((target, second)), nodes
    )
    return np.asarray(np.bincount(labels)[labels[: graph.nodes]] > 1)


@dataclass(frozen=True, slots=True)
class Cycles:
    """What was found.

    Attributes:
        found: Cycles by the name of their kind, the weakest orders first.
        choices: Pairs of cycles: it is one of two, by the order of two rivals.
        undecided: Kinds that there may be or not: the search was given up.
        tangled: Transactions that are on any cycle (count).
    """

    found: dict[str, list[Cycle]]
    choices: dict[str, list[tuple[Cycle, Cycle]]]
    undecided: tuple[str, ...]
    tangled: int


def find_cycles(graph: Graph, *, limit: int = WITNESSES) -> Cycles:
    """Find each kind of cycle a graph has, and short ones of each.

    Args:
        graph: All dependencies.
        limit: Cycles to return of each kind (count, >= 1).
    """
    is_tangled = find_tangle(graph)
    if not np.any(is_tangled):
        return Cycles({}, {}, (), 0)
    return _Hunt(graph, is_tangled, limit).run()


class _Hunt:
    """The search among those transactions that are on some cycle.

    They are numbered anew, in the same order, so relays still come last.
    """

    def __init__(self, graph: Graph, is_tangled: Flags, limit: int) -> None:
        self._limit = limit
        self._old = np.flatnonzero(is_tangled)
        new = np.cumsum(is_tangled) - 1
        edges = graph.edges
        edges = edges.select(is_tangled[edges.source] & is_tangled[edges.target])
        self._edges = replace(edges, source=new[edges.source], target=new[edges.target])
        self._count = int(np.count_nonzero(is_tangled[: len(graph.invoked)]))
        self._nodes = len(self._old)
        own = self._old[: self._count]
        self._invoked, self._completed = graph.invoked[own], graph.completed[own]
        self._found: dict[str, list[Cycle]] = {}
        self._seen: list[tuple[Rule, Cycle]] = []
        self._choices: dict[str, list[tuple[Cycle, Cycle]]] = {}
        self._undecided: list[str] = []
        self._steps = 0
        rival = is_tangled[graph.rivals.writer]
        self._rivals = Rivals(
            new[graph.rivals.writer[rival]],
            graph.rivals.key[rival],
            graph.rivals.place[rival],
        )

    def run(self) -> Cycles:
        """Hunt all kinds."""
        for rule in RULES:
            if rule.strength < 2 or np.any(self._completed != FOREVER):
                self._follow(rule)
        for strength in range(3):
            self._settle(strength)
        found = {
            name: [self._restore(one) for one in cycles]
            for name, cycles in self._found.items()
        }
        choices = {
            name: [(self._restore(one), self._restore(two)) for one, two in pairs]
            for name, pairs in self._choices.items()
        }
        undecided = tuple(dict.fromkeys(self._undecided))
        return Cycles(found, choices, undecided, self._count)

    def _restore(self, cycle: Cycle) -> Cycle:
        """Return a cycle with the numbers that the log has."""
        old = self._old
        return tuple(
            replace(step, source=int(old[step.source]), target=int(old[step.target]))
            for step in cycle
        )

    def _follow(self, rule: Rule) -> None:
        """Look for a rule in each component of the edges it may use."""
        edges = self._edges.select(self._edges.are(rule.kinds))
        plain, after_read = self._label_edges(rule, edges)
        decisive = np.flatnonzero(edges.kind == int(rule.decisive))
        # Only a way from a transaction begins a cycle: relays are passed on the way.
        decisive = decisive[edges.source[decisive] < self._count]
        own = plain[edges.source[decisive]]
        inside = own == after_read[edges.target[decisive]]
        decisive, own = decisive[inside], own[inside]
        sizes = np.bincount(np.concatenate((plain, after_read)))
        components = distinct(own)
        components = components[np.argsort(sizes[components], kind="stable")]
        is_complete, tried = True, 0
        for component in components.tolist():
            if len(self._found.get(rule.name, ())) >= self._limit:
                return
            members = (plain == component) | (after_read == component)
            if self._is_known(rule, members):
                continue
            if tried >= _PATIENCE * self._limit:
                is_complete = False
                break
            tried += 1
            maze = Maze(rule, edges, self._invoked, self._completed, members)
            patience = max(TOO_MANY - self._steps, ENOUGH // 10)
            cycle, is_decided = maze.find_shortest(decisive[own == component], patience)
            self._steps += maze.steps
            if cycle is not None:
                for one in split(cycle):
                    self._add(one)
            is_complete &= is_decided or cycle is not None
        if not is_complete and rule.name not in self._found:
            self._undecided.append(rule.name)

    def _label(self, rule: Rule) -> tuple[Ints, Ints]:
        """Return the component of each node, and the one of each just after a read.

        Where no two read-write edges may follow each other, each node stands there
        twice: once as reached by a read-write edge, where none may leave it.
        """
        return self._label_edges(rule, self._edges)

    def _label_edges(self, rule: Rule, edges: Edges) -> tuple[Ints, Ints]:
        nodes = self._nodes
        edges = edges.select(edges.are(rule.kinds))
        source, target = edges.source, edges.target
        copies = 1
        if rule.apart:
            copies = 2
            is_read = edges.are(ANTI)
            # Behind a relay the same read-write edge goes on.
            goes_on = source >= self._count
            source = np.concatenate(
                (np.where(goes_on, source + nodes, source), source[~is_read] + nodes)
            )
            target = np.concatenate(
                (np.where(is_read, target + nodes, target), target[~is_read])
            )
        total = copies * nodes
        if Edge.REALTIME in rule.others:
            first, second, total = add_instants(
                np.arange(self._count), self._invoked, self._completed, total
            )
            leaves = first[first < self._count]
            source = np.concatenate((source, first, leaves + nodes * (copies - 1)))
            target = np.concatenate((target, second, second[first < self._count]))
        labels = find_components(source, target, total)
        return labels[:nodes], labels[nodes * (copies - 1) : nodes * copies]

    def _is_known(self, rule: Rule, members: Flags) -> bool:
        """Tell whether a cycle as bad that needs less order is known there."""
        return any(
            one.strength < rule.strength
            and is_as_bad(one.base, rule.base)
            and any(members[step.source] for step in cycle)
            for one, cycle in self._seen
        )

    def _add(self, cycle: Cycle) -> None:
        """Keep a cycle, unless its transactions are on one as bad already."""
        name = classify([step.kind for step in cycle])
        rule = next(rule for rule in RULES if rule.name == name)
        nodes = {step.source for step in cycle}
        for one, other in self._seen:
            is_no_news = one.strength <= rule.strength and is_as_bad(
                one.base, rule.base
            )
            if is_no_news and nodes == {step.source for step in other}:
                return
        cycles = self._found.setdefault(name, [])
        if len(cycles) < self._limit:
            cycles.append(cycle)
            self._seen.append((rule, cycle))

    def _settle(self, strength: int) -> None:
        """Order rivals so that snapshot isolation holds, if there is such an order.

        Only those on one cycle matter: others can take effect one component after the
        other. Two that are on a bad cycle in either order are a proof; an order that
        had to be chosen and leads to one is not, and leaves it undecided.
        """
        if self._choices or any(
            one.strength <= strength and one.base not in {"G2-item", "G2"}
            for one, _ in self._seen
        ):
            return
        every = next(rule for rule in reversed(RULES) if rule.strength == strength)
        # It begins with an order of rivals, and needs no edges of sessions or of time.
        rule = Rule("G-nonadjacent", 0, Edge.WW, every.others, apart=True)
        groups = self._group_rivals(every)
        budget = min(_ORDERS, _WORK // (self._nodes + len(self._edges)))
        if sum(comb(len(group), 2) for group in groups) > budget:
            self._give_up(strength)
            return
        pairs = [pair for group in groups for pair in combinations(group, 2)]
        edges, is_chosen = self._edges, False
        while pairs:
            left = []
            for pair in pairs:
                ways = [_order(pair), _order(pair[::-1])]
                bad = [self._closes(rule, edges, way) for way in ways]
                budget -= 1
                if budget < 0 or (all(bad) and is_chosen):
                    self._give_up(strength)
                    return
                if all(bad):
                    self._contradict(rule, edges, ways)
                    return
                if any(bad):
                    edges = Edges.join(edges, ways[bad.index(False)])
                else:
                    left.append(pair)
            if len(left) == len(pairs):
                edges, is_chosen = Edges.join(edges, _order(left.pop())), True
            pairs = left

    def _give_up(self, strength: int) -> None:
        """Leave open whether snapshot isolation holds."""
        for base in ("G-single", "G-nonadjacent"):
            self._undecided.append(name_anomaly(base, strength))
            if np.any(self._edges.kind == int(Edge.PRW)):
                self._undecided.append(name_anomaly(f"{base}-predicate", strength))

    def _group_rivals(self, rule: Rule) -> list[list[_Write]]:
        """Return those rivals of each other that are on one cycle of any kind."""
        labels, _ = self._label(rule)
        rivals = self._rivals
        groups: dict[tuple[int, int], dict[int, int]] = {}
        columns = (labels[rivals.writer], rivals.key, rivals.writer, rivals.place)
        for label, key, writer, place in zip(
            *(column.tolist() for column in columns), strict=True
        ):
            groups.setdefault((label, key), {})[writer] = place
        return [list(group.items()) for group in groups.values()]

    def _closes(self, rule: Rule, edges: Edges, way: Edges) -> bool:
        """Tell whether an order of two rivals is on a cycle that is not allowed."""
        plain, after_read = self._label_edges(rule, Edges.join(edges, way))
        source, target = int(way.source[0]), int(way.target[0])
        return bool(plain[target] in {plain[source], after_read[source]})

    def _contradict(self, rule: Rule, edges: Edges, ways: list[Edges]) -> None:
        """Keep the two cycles of rivals that no order of them avoids."""
        cycles = []
        for way in ways:
            both = Edges.join(edges, way)
            members = np.ones(self._nodes, dtype=np.bool_)
            maze = Maze(rule, both, self._invoked, self._completed, members)
            cycle, _ = maze.find_shortest(np.array([len(edges)]))
            if cycle is None:
                message = "A cycle that its component proves was not found."
                raise InternalError(message)
            cycles.append(cycle)
        worst = [split_anomaly(classify([s.kind for s in one])) for one in cycles]
        one, other = (
            base if base.startswith("G-") else "G-single" for _, base in worst
        )
        base = common_base(one, other)
        strength = max(strength for strength, _ in worst)
        name = name_anomaly(base, strength)
        self._choices.setdefault(name, []).append((cycles[0], cycles[1]))
        if base.startswith("G-nonadjacent"):
            single = base.replace("nonadjacent", "single")
            self._undecided.append(name_anomaly(single, strength))


def _order(pair: tuple[_Write, _Write]) -> Edges:
    """Return the edge from one write to another."""
    (one, first), (two, second) = pair
    columns = (np.array([number]) for number in (one, two, first, second))
    return Edges.of(Edge.WW, *columns)


def split(walk: Cycle) -> list[Cycle]:
    """Return the cycles of a closed walk that pass each transaction once."""
    cycles: list[Cycle] = []
    steps: list[Step] = []
    at: dict[int, int] = {}
    for step in walk:
        at[step.source] = len(steps)
        steps.append(step)
        begin = at.get(step.target)
        if begin is not None:
            cycles.append(tuple(steps[begin:]))
            for one in steps[begin:]:
                del at[one.source]
            del steps[begin:]
    return cycles
