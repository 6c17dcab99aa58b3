"""Witnesses of polygraphs: cycles, and why the edges that were decided must be so."""

import numpy as np

from test_framework.check.transactions.log import NOTHING, Ints
from test_framework.check.transactions.polygraph import RW, SESSION, WR, WW, Polygraph
from test_framework.check.transactions.polygraph_pruning import Pruned
from test_framework.check.transactions.polygraph_search import Cycle
from test_framework.check.transactions.weak_cycles import find_cycles, find_way
from test_framework.check.transactions.weak_reads import ReadsFrom
from test_framework.check.transactions.weak_witness import Narrator
from test_framework.check.witness import Anomaly

KINDS = ("session", "wr", "ww", "rw")
MOST_CYCLES = 8
"""Of one proof that are told (count)."""

Step = tuple[int, bool]
"""Number of an edge, among those known or, if the second is true, among all options."""


def tell_lost_update(reads: ReadsFrom, first: int, second: int) -> Anomaly:
    """Return the witness of two transactions that overwrote what both had read."""
    narrator = Narrator(reads)
    one, other = int(reads.reader[first]), int(reads.reader[second])
    names = narrator.name(one), narrator.name(other)
    value = narrator.value(int(reads.place[first]))
    key = narrator.key(int(reads.key[first]))
    if reads.writer[first] != reads.initial:
        narrator.tell_read(first)
        narrator.tell_read(second)
    for before, after in ((one, other), (other, one)):
        because = (
            f"{narrator.name(before)} read {value} of {key}, "
            f"and {narrator.name(after)} overwrote it."
        )
        narrator.link(before, after, "rw", because)
    claim = (
        f"{names[0]} and {names[1]} both read {value} of {key} and both overwrote it, "
        "so the update of one is lost."
    )
    return narrator.anomaly("lost-update", claim)


class Teller:
    """Tells what a polygraph proves."""

    def __init__(self, reads: ReadsFrom, graph: Polygraph, pruned: Pruned) -> None:
        self._reads = reads
        self._graph = graph
        self._pruned = pruned
        self._own = graph.shape.own_edges()
        self._known = graph.shape.ends(pruned.known)
        self._options = graph.shape.ends(graph.options)

    def tell_known(self) -> tuple[Anomaly, ...]:
        """Return the witnesses of cycles in what is known."""
        own = len(self._own[0])
        source, target = self._with_own(len(self._pruned.known))
        return tuple(
            self._tell([[(edge - own, False) for edge in cycle if edge >= own]])
            for cycle in find_cycles(source, target, self._graph.shape.nodes)
        )

    def tell_contradiction(self, pair: int) -> Anomaly:
        """Return the witness of a pair of which neither option can hold."""
        upto = len(self._pruned.known)
        cycles = [self._closed_by(option, upto) for option in (2 * pair, 2 * pair + 1)]
        return self._tell(cycles)

    def tell_proof(self, proof: tuple[Cycle, ...]) -> Anomaly:
        """Return the witness of cycles that no choice avoids."""
        upto = len(self._pruned.known)
        at = _places(self._graph, self._pruned)
        cycles = []
        for cycle in proof[:MOST_CYCLES]:
            edges = at[list(cycle)].tolist()
            steps: list[Step] = []
            for edge, following in zip(edges, [*edges[1:], edges[0]], strict=True):
                end, begin = self._options[1][edge], self._options[0][following]
                steps += [(edge, True), *self._way(int(end), int(begin), upto)]
            cycles.append(steps)
        return self._tell(cycles, left_out=len(proof) - len(cycles))

    def _with_own(self, upto: int) -> tuple[Ints, Ints]:
        source, target = self._known
        return (
            np.concatenate((self._own[0], source[:upto])),
            np.concatenate((self._own[1], target[:upto])),
        )

    def _way(self, begin: int, end: int, upto: int) -> list[Step]:
        """Return the shortest way over what was known after ``upto`` edges."""
        source, target = self._with_own(upto)
        way = find_way(source, target, self._graph.shape.nodes, begin, end)
        own = len(self._own[0])
        return [(edge - own, False) for edge in way or () if edge >= own]

    def _closed_by(self, option: int, upto: int) -> list[Step]:
        """Return the shortest cycle that an option closes with what was known."""
        first, last = np.searchsorted(self._graph.option, (option, option + 1)).tolist()
        best: list[Step] = []
        for edge in range(first, last):
            begin, end = int(self._options[0][edge]), int(self._options[1][edge])
            source, target = self._with_own(upto)
            if find_way(source, target, self._graph.shape.nodes, end, begin) is None:
                continue
            cycle = [(edge, True), *self._way(end, begin, upto)]
            if not best or len(cycle) < len(best):
                best = cycle
        return best

    def _tell(self, cycles: list[list[Step]], *, left_out: int = 0) -> Anomaly:
        narrator = Narrator(self._reads)
        for cycle in cycles:
            for step in cycle:
                narrator.name(self._ends(step)[0])
        for cycle in cycles:
            for step in cycle:
                source, target = self._ends(step)
                kind = self._kind(step)
                if kind == SESSION:
                    narrator.tell_session(source, target)
                elif kind == WR:
                    narrator.tell_read(self._cause(step))
                else:
                    because = self._because(narrator, step)
                    narrator.link(source, target, KINDS[kind], because)
        name = _classify([[self._kind(step) for step in cycle] for cycle in cycles])
        if len(cycles) == 1:
            shown = self._shown(narrator, cycles[0])
            return narrator.anomaly(name, f"No order of transactions fits: {shown}.")
        keys = sorted(
            {
                narrator.key(self._key(step))
                for cycle in cycles
                for step in cycle
                if step[1]
            }
        )
        shown = "; or ".join(self._shown(narrator, cycle) for cycle in cycles)
        more = f"; or one of {left_out} cycles more" if left_out else ""
        claim = (
            f"Whatever order the writes of {', '.join(keys)} came in, "
            f"a cycle closes: {shown}{more}."
        )
        return narrator.anomaly(name, claim)

    def _shown(self, narrator: Narrator, cycle: list[Step]) -> str:
        """Return a cycle in one line."""
        text = narrator.name(self._ends(cycle[0])[0])
        for step in cycle:
            text += (
                f" -{KINDS[self._kind(step)]}-> {narrator.name(self._ends(step)[1])}"
            )
        return text

    def _because(self, narrator: Narrator, step: Step) -> str:
        """Return why a transaction came before one that overwrote something."""
        source, target = self._ends(step)
        first, second = narrator.name(source), narrator.name(target)
        key = narrator.key(self._key(step))
        is_ww = self._kind(step) == WW
        if is_ww:
            order = f"{first} wrote {key} before {second} did"
        else:
            order = (
                f"{narrator.say_read(self._cause(step))}, before {second} wrote {key}"
            )
        number, is_option = step
        if is_option:
            return f"{order}, if the writes of {key} came in this order."
        option = int(self._pruned.ruled_out[number])
        if option != NOTHING:
            cycle = self._closed_by(option, int(self._pruned.since[number]))
            shown = self._shown(narrator, cycle)
            return f"{order}, as the other order would close {shown}."
        if not is_ww and self._reads.writer[self._cause(step)] == self._reads.initial:
            return f"{order}."
        if not is_ww and self._is_followed(step):
            return f"{narrator.say_read(self._cause(step))}, and {second} overwrote it."
        # Each of a chain from the initial value on read the one before.
        return f"{order}: each write up to that one followed what it had read."

    def _is_followed(self, step: Step) -> bool:
        """Tell whether the overwriter read the same write, and so stands behind it."""
        reads, read, (_, target) = self._reads, self._cause(step), self._ends(step)
        return bool(
            (
                (reads.reader == target)
                & (reads.writer == reads.writer[read])
                & (reads.key == reads.key[read])
            ).any()
        )

    def _ends(self, step: Step) -> tuple[int, int]:
        edges = self._graph.options if step[1] else self._pruned.known
        return int(edges.source[step[0]]), int(edges.target[step[0]])

    def _kind(self, step: Step) -> int:
        edges = self._graph.options if step[1] else self._pruned.known
        return int(edges.kind[step[0]])

    def _cause(self, step: Step) -> int:
        edges = self._graph.options if step[1] else self._pruned.known
        return int(edges.cause[step[0]])

    def _key(self, step: Step) -> int:
        """Return the key that an edge of kind ``WW`` or ``RW`` is about."""
        cause = self._cause(step)
        return cause if self._kind(step) == WW else int(self._reads.key[cause])


def _places(graph: Polygraph, pruned: Pruned) -> Ints:
    """Return where each open edge stands among all options."""
    return np.flatnonzero(np.isin(graph.option, pruned.option))


def _classify(cycles: list[list[int]]) -> str:
    """Return Adya's name, or Elle's, of the mildest of some cycles."""
    names = ("G0", "G1c", "G-single", "G-nonadjacent", "G2-item")
    grades = []
    for kinds in cycles:
        anti = [kind == RW for kind in kinds]
        if not any(anti):
            grades.append(int(any(kind == WR for kind in kinds)))
        elif sum(anti) == 1:
            grades.append(2)
        else:
            behind = [*anti[1:], anti[0]]
            is_adjacent = any(
                one and two for one, two in zip(anti, behind, strict=True)
            )
            grades.append(4 if is_adjacent else 3)
    return names[max(grades)]
