"""Searches the choices that pruning left open, with a SAT solver.

Each choice is a variable, and the solver knows of cycles only what it was told: first
that of any two edges that close one by themselves, at most one holds; then, for each
choice of all it comes up with, the shortest cycles in it (counterexample-guided
refinement). It ends with a choice without cycle, or with cycles that no choice avoids,
of which a few that suffice are kept as the proof.

Source: Cobra (OSDI 2020) and PolySI (VLDB 2023) give the same question to MonoSAT.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from test_framework.check.transactions.log import Ints
from test_framework.check.transactions.polygraph import Shape
from test_framework.check.transactions.polygraph_pruning import Closure, Pruned

SOLVER = "cadical153"
CONFLICTS = 2_000
"""After so many the clock is looked at (count)."""
MOST_EDGES_IN_PAIRS = 8_000
"""Open edges above which pairs are not looked at one by one (count)."""
MOST_STARTS = 48
"""Edges of a component whose shortest cycle is looked for in one round (count)."""
MOST_SHRUNK = 64
"""Cycles of a proof above which no smaller one is looked for (count)."""

Cycle = tuple[int, ...]
"""Numbers of the open edges of a cycle, in order; between them lead known ways."""


@dataclass(frozen=True, slots=True)
class Found:
    """How a search ended.

    Attributes:
        is_over: Whether time ended it before an answer.
        proof: Cycles of which every choice closes one; empty when a choice closes none.
        rounds: Choices of all that were tried (count).
        cycles: Cycles the solver was told of (count).
    """

    is_over: bool
    proof: tuple[Cycle, ...]
    rounds: int
    cycles: int


def search(
    shape: Shape, pruned: Pruned, closure: Closure, is_over: Callable[[], bool]
) -> Found:
    """Look for a choice of all that is open without a cycle.

    Args:
        shape: Of the polygraph.
        pruned: What is known and what is open.
        closure: Of what is known.
        is_over: Asked between rounds whether the time is up.

    Raises:
        ImportError: python-sat is not installed.
    """
    from pysat.solvers import Solver  # noqa: PLC0415  # an extra that few need

    open_edges = _OpenEdges(shape, pruned, closure)
    cycles = list(open_edges.pairs())
    rounds = 0
    with Solver(name=SOLVER) as solver:
        for pair in open_edges.variables():
            solver.add_clause([pair, -pair])
        for cycle in cycles:
            solver.add_clause(open_edges.clause(cycle))
        solver.set_phases(open_edges.phases())
        while (answer := _solve(solver, is_over)) is not False:
            if answer is None:
                return Found(is_over=True, proof=(), rounds=rounds, cycles=len(cycles))
            rounds += 1
            fresh = open_edges.cycles_of(np.array(solver.get_model()))
            if not fresh:
                return Found(is_over=False, proof=(), rounds=rounds, cycles=len(cycles))
            for cycle in fresh:
                solver.add_clause(open_edges.clause(cycle))
            cycles += fresh
    proof = _shrunk(cycles, open_edges, Solver, is_over)
    return Found(is_over=False, proof=proof, rounds=rounds, cycles=len(cycles))


def _solve(
    solver: Any,  # noqa: ANN401  # python-sat has no types
    is_over: Callable[[], bool],
) -> bool | None:
    """Return the solver's answer; None when the time is up before there is one."""
    while not is_over():
        solver.conf_budget(CONFLICTS)
        answer: bool | None = solver.solve_limited()
        if answer is not None:
            return answer
    return None


class _OpenEdges:
    """Edges whose choice is open, and the variable of each."""

    def __init__(self, shape: Shape, pruned: Pruned, closure: Closure) -> None:
        self._closure = closure
        self._nodes = shape.nodes
        self._begin, self._end = shape.ends(pruned.options)
        pairs, number = np.unique(pruned.option // 2, return_inverse=True)
        self._count = len(pairs)
        # Solvers number variables from 1; the second option of a pair negates it.
        self._literal = (number.reshape(-1) + 1) * np.where(pruned.option % 2, -1, 1)
        own = shape.own_edges()
        known = shape.ends(pruned.known)
        self._known = tuple(
            np.concatenate(ends) for ends in zip(own, known, strict=True)
        )

    def variables(self) -> range:
        return range(1, self._count + 1)

    def clause(self, cycle: Cycle) -> list[int]:
        """Return that not all edges of a cycle hold."""
        return sorted({-int(self._literal[edge]) for edge in cycle})

    def phases(self) -> list[int]:
        """Return the options that go along with one order of what is known."""
        rank = self._closure.rank
        onward = np.where(rank[self._begin] < rank[self._end], 1, -1)
        votes = np.zeros(self._count + 1, dtype=np.int64)
        np.add.at(votes, np.abs(self._literal), onward * np.sign(self._literal))
        return [
            variable if votes[variable] >= 0 else -variable
            for variable in self.variables()
        ]

    def pairs(self) -> Iterator[Cycle]:
        """Yield every two edges that close a cycle by themselves."""
        count = len(self._begin)
        if count > MOST_EDGES_IN_PAIRS:
            return
        for first in range(0, count, 256):
            some = np.arange(first, min(first + 256, count))
            one, other = np.nonzero(
                self._closure.reaches(self._end[some, None], self._begin[None, :])
                & self._closure.reaches(self._end[None, :], self._begin[some, None])
            )
            one = some[one]
            is_news = (one < other) & (self._literal[one] != -self._literal[other])
            yield from zip(one[is_news].tolist(), other[is_news].tolist(), strict=True)

    def cycles_of(self, model: Ints) -> list[Cycle]:
        """Return short cycles of one choice of all; none if it has no cycle."""
        chosen = np.flatnonzero(model[np.abs(self._literal) - 1] == self._literal)
        source = np.concatenate((self._known[0], self._begin[chosen]))
        target = np.concatenate((self._known[1], self._end[chosen]))
        ones = np.ones(len(source), dtype=np.int8)
        matrix = csr_matrix((ones, (source, target)), shape=(self._nodes, self._nodes))
        parts, label = connected_components(matrix, directed=True, connection="strong")
        if parts == self._nodes:
            return []
        part = label[self._begin[chosen]]
        inside = chosen[part == label[self._end[chosen]]]
        part = label[self._begin[inside]]
        found: dict[frozenset[int], Cycle] = {}
        for one in np.unique(part).tolist():
            for cycle in self._cycles_in(inside[part == one]):
                found[frozenset(self.clause(cycle))] = cycle
        return list(found.values())

    def _cycles_in(self, edges: Ints) -> Iterator[Cycle]:
        """Yield the shortest cycles through some edges of a strong component."""
        follows = self._closure.reaches(
            self._end[edges][:, None], self._begin[edges][None, :]
        )
        after = [np.flatnonzero(row).tolist() for row in follows]
        starts = range(0, len(edges), len(edges) // MOST_STARTS + 1)
        for start in starts:
            way = _way_back(start, after)
            if way:
                yield tuple(edges[way].tolist())


def _way_back(start: int, after: list[list[int]]) -> list[int]:
    """Return the nodes of a shortest cycle through one of them."""
    came = {start: start}
    ring = [start]
    while ring:
        reached = []
        for node in ring:
            for end in after[node]:
                if end == start:
                    way = [node]
                    while way[-1] != start:
                        way.append(came[way[-1]])
                    return way[::-1]
                if end not in came:
                    came[end] = node
                    reached.append(end)
        ring = reached
    return []


def _shrunk(
    cycles: list[Cycle],
    open_edges: _OpenEdges,
    solver_class: Any,  # noqa: ANN401  # python-sat has no types
    is_over: Callable[[], bool],
) -> tuple[Cycle, ...]:
    """Return a few of the cycles that still leave no choice."""

    def core(some: list[Cycle]) -> list[Cycle] | None:
        """Return which of the cycles the solver needed; None if a choice avoids all."""
        first = open_edges.variables().stop
        with solver_class(name=SOLVER) as solver:
            for number, cycle in enumerate(some, first):
                solver.add_clause([*open_edges.clause(cycle), -number])
            if solver.solve(assumptions=[*range(first, first + len(some))]):
                return None
            return [some[number - first] for number in sorted(solver.get_core())]

    proof = cycles
    while True:
        smaller = core(proof)
        if smaller is None or len(smaller) == len(proof):
            break
        proof = smaller
    if len(proof) <= MOST_SHRUNK:
        for cycle in list(proof):
            if is_over():
                break
            rest = [one for one in proof if one != cycle]
            if core(rest) is not None:
                proof = rest
    return tuple(proof)
