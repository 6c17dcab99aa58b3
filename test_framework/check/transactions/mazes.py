"""The shortest cycle of one kind within a component, by breadth-first search.

Real time needs no edges here: who ended at an instant comes before all that began
later, so the search reaches a whole end of the list of transactions by their begin, and
each of them once. One step of real time is enough in a cycle: of two, a1 before b1 and
a2 before b2, either a1 is before b2 or a2 before b1, which makes a shorter cycle.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from test_framework.check.transactions.dependencies import (
    ANTI,
    Edge,
    Edges,
    Flags,
    is_among,
)
from test_framework.check.transactions.log import NOTHING, Ints
from test_framework.check.transactions.rules import Rule

ENOUGH = 200_000
"""Steps to shorten a cycle once there is one."""

TOO_MANY = 3_000_000
"""Steps after which a component without such a cycle is given up."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a cycle: from a transaction to the next, and which edges prove it."""

    source: int
    target: int
    kind: Edge
    source_place: int = NOTHING
    target_place: int = NOTHING


Cycle = tuple[Step, ...]

# What a search remembers of its way: bits of the second half of a state.
_ORDERED, _READ_LAST, _ENOUGH_READS = 1, 2, 4
_STATES = 8


class _Way(NamedTuple):
    """How a state was reached: from which one, by which edges (relayed: two)."""

    before: int
    kind: int
    first: int
    second: int


class Automaton:
    """Which ways are cycles of a rule: states, moves by kind of edge, and the end."""

    def __init__(self, rule: Rule) -> None:
        required = {1: Edge.SESSION, 2: Edge.REALTIME}.get(rule.strength)
        # A cycle that begins with another edge may have such edges, or none.
        is_many = rule.decisive in ANTI and not ANTI.isdisjoint(rule.others)
        self.start = _READ_LAST if is_many else 0
        self.moves = [
            [self._move(rule, state, kind, required) for kind in Edge]
            for state in range(_STATES)
        ]
        self.is_end = [
            (required is None or bool(state & _ORDERED))
            and (not is_many or self._has_reads(rule, state))
            for state in range(_STATES)
        ]

    @staticmethod
    def _move(rule: Rule, state: int, kind: Edge, required: Edge | None) -> int:
        """Return the next state, or ``NOTHING`` where the rule has no such way."""
        if kind not in rule.others:
            return NOTHING
        if kind in ANTI:
            is_adjacent = bool(state & _READ_LAST)
            if rule.apart and is_adjacent:
                return NOTHING
            counts = rule.apart or is_adjacent
            return state | _READ_LAST | (_ENOUGH_READS if counts else 0)
        if kind is Edge.REALTIME and state & _ORDERED:
            return NOTHING
        return state & ~_READ_LAST | (_ORDERED if kind is required else 0)

    @staticmethod
    def _has_reads(rule: Rule, state: int) -> bool:
        """Tell whether the way may close with the read-write edge it began with."""
        if rule.apart:
            return state & (_READ_LAST | _ENOUGH_READS) == _ENOUGH_READS
        return bool(state & (_READ_LAST | _ENOUGH_READS))


class Maze:
    """The edges a rule may use within one component."""

    def __init__(
        self, rule: Rule, edges: Edges, invoked: Ints, completed: Ints, members: Flags
    ) -> None:
        """Prepare a search.

        Args:
            rule: What to look for.
            edges: All edges between transactions and relays.
            invoked: When each transaction began; shape ``(n,)``.
            completed: When it was over; ``(n,)``.
            members: Nodes of the component; shape ``(nodes,)``.
        """
        self._rule = rule
        self._edges = edges
        self._count = len(invoked)
        self._automaton = Automaton(rule)
        usable = members[edges.source] & members[edges.target] & edges.are(rule.kinds)
        self._usable = edges.select(usable)
        chosen = np.flatnonzero(usable)
        source = edges.source[chosen]
        chosen = chosen[np.argsort(source, kind="stable")]
        self._first = np.searchsorted(
            edges.source[chosen], np.arange(len(members) + 1)
        ).tolist()
        self._edge = chosen.tolist()
        self._target = edges.target[chosen].tolist()
        self._kind = edges.kind[chosen].tolist()
        self._uses_time = Edge.REALTIME in rule.others
        own = np.flatnonzero(members[: self._count])
        by_begin = own[np.argsort(invoked[own], kind="stable")]
        self._begins = invoked[by_begin].tolist()
        self._by_begin = by_begin.tolist()
        self._invoked, self._completed = invoked, completed
        self.steps = 0

    def find_shortest(
        self, decisive: Ints, patience: int = TOO_MANY
    ) -> tuple[Cycle | None, bool]:
        """Return the shortest cycle, and whether it is certain that none is shorter.

        Args:
            decisive: Edges to begin with, all from transactions.
            patience: Steps after which the search is given up (count).
        """
        best: Cycle | None = None
        # Those with a direct way back may make a cycle of two, which ends the search.
        order = np.argsort(~self._has_return(decisive), kind="stable")
        for edge in decisive[order].tolist():
            if self.steps > (min(ENOUGH, patience) if best else patience):
                return best, False
            found = self._search(edge, None if best is None else len(best) - 2)
            if found is not None and (best is None or len(found) < len(best)):
                best = found
            if best is not None and len(best) == 2:
                break
        return best, True

    def _has_return(self, decisive: Ints) -> Flags:
        """Tell which edges have one that leads back, or real time that does."""
        source, target = self._edges.source[decisive], self._edges.target[decisive]
        step = len(self._first)
        back = is_among(
            target * step + source, self._usable.source * step + self._usable.target
        )
        if self._uses_time:
            plain = target < self._count
            ended, begun = self._completed[target[plain]], self._invoked[source[plain]]
            back[plain] |= ended < begun
        return back

    def _after(self, node: int) -> Iterator[tuple[int, int, int]]:
        """Return target, kind and number of each edge from a node."""
        begin, end = self._first[node], self._first[node + 1]
        return zip(
            self._target[begin:end],
            self._kind[begin:end],
            self._edge[begin:end],
            strict=True,
        )

    def _successors(
        self, node: int, relays: set[int]
    ) -> Iterator[tuple[int, int, int, int]]:
        """Yield what comes after a node; what is behind a relay once only."""
        for target, kind, edge in self._after(node):
            if target < self._count:
                yield target, kind, edge, NOTHING
            elif target not in relays:
                relays.add(target)
                for behind, _, second in self._after(target):
                    yield behind, kind, edge, second

    def _search(self, decisive: int, limit: int | None) -> Cycle | None:
        """Return the shortest way on from a decisive edge to where it began.

        Args:
            decisive: The edge.
            limit: Greatest number of further steps; None for any.
        """
        goal = int(self._edges.source[decisive])
        begin = int(self._edges.target[decisive])
        kind = int(self._rule.decisive)
        state = self._automaton.start
        ways: dict[int, _Way] = {}
        if begin < self._count:
            ways[begin * _STATES + state] = _Way(NOTHING, kind, decisive, NOTHING)
        else:
            for target, _, second in self._after(begin):
                way = _Way(NOTHING, kind, decisive, second)
                ways.setdefault(target * _STATES + state, way)
        moves, is_end = self._automaton.moves, self._automaton.is_end
        relays: list[set[int]] = [set() for _ in range(_STATES)]
        horizon = [len(self._by_begin)] * _STATES
        frontier, depth = list(ways), 0
        while frontier and (limit is None or depth < limit):
            depth += 1
            is_last = depth == limit
            reached: list[int] = []
            for place in frontier:
                node, state = divmod(place, _STATES)
                for target, kind, first, second in self._successors(
                    node, relays[state]
                ):
                    self.steps += 1
                    after = moves[state][kind]
                    if after < 0:
                        continue
                    if target == goal and is_end[after]:
                        return self._retrace(
                            ways, _Way(place, kind, first, second), goal
                        )
                    key = target * _STATES + after
                    if not is_last and key not in ways:
                        ways[key] = _Way(place, kind, first, second)
                        reached.append(key)
                after = moves[state][Edge.REALTIME] if self._uses_time else NOTHING
                if after < 0:
                    continue
                self.steps += 1
                way = _Way(place, int(Edge.REALTIME), NOTHING, NOTHING)
                end = int(self._completed[node])
                if end < self._invoked[goal] and is_end[after]:
                    return self._retrace(ways, way, goal)
                if is_last:
                    continue
                later = bisect_right(self._begins, end)
                for target in self._by_begin[later : horizon[after]]:
                    self.steps += 1
                    key = target * _STATES + after
                    if key not in ways:
                        ways[key] = way
                        reached.append(key)
                horizon[after] = min(horizon[after], later)
            frontier = reached
        return None

    def _retrace(self, ways: dict[int, _Way], way: _Way, goal: int) -> Cycle:
        """Return the whole cycle whose last step is ``way``."""
        steps: list[Step] = []
        target = goal
        while True:
            source = goal if way.before == NOTHING else way.before // _STATES
            places = (NOTHING, NOTHING)
            if way.first != NOTHING:
                last = way.first if way.second == NOTHING else way.second
                places = (
                    int(self._edges.source_place[way.first]),
                    int(self._edges.target_place[last]),
                )
            steps.append(Step(source, target, Edge(way.kind), *places))
            if way.before == NOTHING:
                return tuple(reversed(steps))
            way, target = ways[way.before], source
