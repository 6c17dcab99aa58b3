"""Witnesses in words: the transactions that prove an anomaly, and why each step is so.

Transactions are named T1, T2, ... within each witness, in the order of its steps; what
they did is told as far as the witness needs it.
"""

from collections.abc import Hashable, Iterable, Sequence

from test_framework.check.transactions.dependencies import Edge
from test_framework.check.transactions.levels import split_anomaly
from test_framework.check.transactions.log import (
    NOTHING,
    UNKNOWN,
    Kind,
    Status,
    TransactionLog,
)
from test_framework.check.transactions.mazes import Cycle, Step
from test_framework.check.transactions.rules import classify
from test_framework.check.witness import Anomaly, Item, Link

_SHOWN = 8
"""Operations of a transaction, and elements of a list, that are told in full."""

_MEANINGS = {
    "G0": "each overwrote the next one's writes",
    "G1c": "each saw or overwrote what the one before it wrote",
    "G-single": "one read a version that is older than what it depends on",
    "G-nonadjacent": "several read versions older than what they depend on, and no one "
    "snapshot for each explains it",
    "G2-item": "each read what another one then overwrote, so no order explains all",
    "G-single-predicate": "a scan of one is older than what it depends on",
    "G-nonadjacent-predicate": "several read or scanned what is older than what they "
    "depend on, and no one snapshot for each explains it",
    "G2": "each read what another one then overwrote, or scanned what another one then "
    "added to, so no order explains all",
}


_ORDERS = (
    "",
    "; the order of a session shows it",
    "; the order in real time shows it",
)

_STATUS = {Status.FAIL: "refused", Status.INFO: "outcome unknown"}


def tell_list(elements: Sequence[Hashable]) -> str:
    """Return a list as text; of a long one the end."""
    told = [str(one) for one in elements]
    if len(told) > _SHOWN:
        told = ["...", *told[-_SHOWN:]]
    return f"[{' '.join(told)}]"


def _tell_way(cycle: Cycle, numbers: Sequence[int]) -> str:
    at = {number: position for position, number in enumerate(numbers, 1)}
    labels = [f"T{at[step.source]}" for step in cycle]
    if len(labels) > _SHOWN:
        labels = [*labels[:2], "...", labels[-1]]
    return " before ".join([*labels, labels[0]])


class Narrator:
    """Tells witnesses of one log."""

    def __init__(self, log: TransactionLog) -> None:
        self._log = log

    def tell(
        self,
        name: str,
        claim: str,
        proofs: Sequence[tuple[int, str]],
        kind: Edge | None = None,
    ) -> Anomaly:
        """Return the witness of an anomaly that is no cycle.

        Args:
            name: The standard term.
            claim: What happened, with the labels of the proofs.
            proofs: Operations that prove it, and the labels of their transactions.
            kind: How the first one leads to the second, if it does.
        """
        items = tuple(
            self.item(int(self._log.transaction[place]), label, [place])
            for place, label in proofs
        )
        if kind is None:
            return Anomaly(name, claim, items)
        (first, one), (second, two) = proofs
        step = Step(
            int(self._log.transaction[first]),
            int(self._log.transaction[second]),
            kind,
            first,
            second,
        )
        because = self._explain(step, one, two)
        return Anomaly(name, claim, items, (Link(0, 1, kind.name.lower(), because),))

    def tell_cycle(self, cycle: Cycle) -> Anomaly:
        """Return the witness of a cycle."""
        name = classify([step.kind for step in cycle])
        base, (items, links) = split_anomaly(name), self._draw(cycle)
        way = _tell_way(cycle, [step.source for step in cycle])
        claim = f"{way}: {_MEANINGS[base[1]]}{_ORDERS[base[0]]}."
        return Anomaly(name, claim, items, links)

    def tell_choice(self, name: str, one: Cycle, other: Cycle) -> Anomaly:
        """Return the witness of two cycles, one of which there must be."""
        strength, base = split_anomaly(name)
        items, links = self._draw(one, other)
        numbers = list(dict.fromkeys(step.source for step in (*one, *other)))
        key = self.key(one[0].source_place)
        claim = (
            f"T1 and T2 both changed {key}. Either {_tell_way(one, numbers)}, or "
            f"{_tell_way(other, numbers)}: {_MEANINGS[base]}{_ORDERS[strength]}."
        )
        return Anomaly(name, claim, items, links)

    def _draw(self, *cycles: Cycle) -> tuple[tuple[Item, ...], tuple[Link, ...]]:
        """Return the transactions of cycles, each once, and all steps."""
        places: dict[int, list[int]] = {}
        for cycle in cycles:
            for step in cycle:
                places.setdefault(step.source, []).append(step.source_place)
        for cycle in cycles:
            for step in cycle:
                places[step.target].append(step.target_place)
        at = {number: position for position, number in enumerate(places)}
        items = tuple(
            self.item(number, f"T{at[number] + 1}", own)
            for number, own in places.items()
        )
        links = tuple(
            Link(
                at[step.source],
                at[step.target],
                step.kind.name.lower(),
                self._explain(
                    step, f"T{at[step.source] + 1}", f"T{at[step.target] + 1}"
                ),
            )
            for cycle in cycles
            for step in cycle
        )
        return items, links

    def item(self, number: int, label: str, places: Iterable[int] = ()) -> Item:
        """Return a transaction, with those operations at least that matter."""
        one, log = self._log.read(number), self._log
        begin, end = int(log.first[number]), int(log.first[number + 1])
        shown = list(range(begin, end))
        if len(shown) > _SHOWN:
            shown = sorted({place for place in places if place != NOTHING})
        told = [self.tell_operation(place) for place in shown]
        if end - begin > len(shown):
            told.append(f"{end - begin - len(shown)} more")
        text = ", ".join(told) or "nothing"
        if one.status is not Status.OK:
            text += f" ({_STATUS[one.status]})"
        lane = f"session {one.session}"
        return Item(label, lane, text, one.invoked, one.completed, one.index, one.user)

    def tell_operation(self, place: int) -> str:
        """Return one operation as text."""
        kind = Kind(int(self._log.kind[place]))
        key, value = self.key(place), self.value(place)
        if kind is Kind.APPEND:
            return f"append {value} to {key}"
        if kind is Kind.WRITE:
            return f"write {value} to {key}"
        if kind is Kind.ABSENT:
            return f"scan without {key}"
        return f"read {value} of {key}"

    def key(self, place: int) -> str:
        """Return the name of the key of an operation."""
        return str(self._log.keys[int(self._log.key[place])])

    def value(self, place: int) -> str:
        """Return what an operation wrote or read."""
        log, value = self._log, int(self._log.value[place])
        if log.kind[place] == Kind.READ_LIST:
            start, count = int(log.start[place]), int(log.count[place])
            elements = log.elements[start : start + max(count, 0)].tolist()
            return tell_list([log.values[number] for number in elements])
        if value == UNKNOWN:
            return "an unknown value"
        if log.kind[place] == Kind.ABSENT:
            return "[]"
        return "nothing" if value == NOTHING else str(log.values[value])

    def _explain(self, step: Step, source: str, target: str) -> str:
        log, first, second = self._log, step.source_place, step.target_place
        if step.kind is Edge.SESSION:
            session = log.sessions[int(log.session[step.source])]
            return f"{source} came before {target} in session {session}"
        if step.kind is Edge.REALTIME:
            ended, began = log.completed[step.source], log.invoked[step.target]
            return f"{source} was over at {ended}, before {target} began at {began}"
        key, one, two = self.key(first), self.value(first), self.value(second)
        if step.kind is Edge.WR:
            return f"{target} read {two} of {key}, and saw {one}, {self._made(first, source)}"
        written = f"before {target} {self._verb(second)} {two} to it"
        if step.kind is Edge.PRW:
            return f"{source} scanned and did not find {key}, {written}"
        if step.kind is Edge.WW:
            return f"{source} {self._verb(first)} {one} to {key}, {written}"
        return f"{source} read {one} of {key}, {written}"

    def _made(self, place: int, who: str) -> str:
        return f"which {who} {self._verb(place)}"

    def _verb(self, place: int) -> str:
        return "appended" if self._log.kind[place] == Kind.APPEND else "wrote"
