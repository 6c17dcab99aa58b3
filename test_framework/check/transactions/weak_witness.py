"""Witnesses of register histories: the transactions of a cycle and a sentence per edge."""

from typing import TYPE_CHECKING

from test_framework.check.transactions.log import NOTHING, Micro
from test_framework.check.witness import Anomaly, Item, Link

if TYPE_CHECKING:
    from collections.abc import Hashable

    from test_framework.check.transactions.weak_reads import Misread, ReadsFrom

MOST_SHOWN = 8
"""Operations of a transaction that are written out before others are left out (count)."""


class Narrator:
    """Collects the transactions of one witness, names them, and tells its steps."""

    def __init__(self, reads: "ReadsFrom") -> None:
        self._reads = reads
        self._log = reads.log
        self._nodes: dict[int, int] = {}
        self._links: list[Link] = []
        self._keys: set[Hashable] = set()

    def name(self, node: int) -> str:
        """Return how sentences call a node; the first time it joins the witness."""
        if node == self._reads.initial:
            return "the initial state"
        return f"T{self._nodes.setdefault(node, len(self._nodes)) + 1}"

    def key(self, number: int) -> str:
        """Return the name of a key; the witness shows operations on it."""
        named = self._log.keys[number]
        self._keys.add(named)
        return str(named)

    def value(self, place: int) -> str:
        """Return the value of an operation."""
        number = int(self._log.value[place])
        if number == NOTHING:
            return "the initial value"
        return str(self._log.values[number])

    def link(self, source: int, target: int, kind: str, because: str) -> None:
        """Add a step between two nodes, neither of which is the initial state."""
        self.name(source)
        self.name(target)
        self._links.append(
            Link(self._nodes[source], self._nodes[target], kind, because)
        )

    def tell_session(self, source: int, target: int) -> None:
        """Add a step of program order."""
        session = self._log.sessions[int(self._log.session[self._reads.number[source]])]
        first, second = self.name(source), self.name(target)
        self.link(
            source,
            target,
            "session",
            f"{first} came before {second} in session {session}.",
        )

    def tell_read(self, read: int) -> None:
        """Add a step from a writer to its reader."""
        source, target = int(self._reads.writer[read]), int(self._reads.reader[read])
        self.link(source, target, "wr", f"{self.say_read(read)}.")

    def say_read(self, read: int) -> str:
        """Return who read what of whom, as a clause."""
        writer, reader = int(self._reads.writer[read]), int(self._reads.reader[read])
        first, second = self.name(writer), self.name(reader)
        value = self.value(int(self._reads.place[read]))
        key = self.key(int(self._reads.key[read]))
        if writer == self._reads.initial:
            return f"{second} read {value} of {key}"
        return f"{second} read {value} of {key}, which {first} wrote"

    def anomaly(self, name: str, claim: str) -> Anomaly:
        """Return the witness of all that was told."""
        return Anomaly(
            name=name,
            claim=claim,
            items=tuple(self._item(node) for node in self._nodes),
            links=tuple(self._links),
        )

    def _item(self, node: int) -> Item:
        one = self._log.read(int(self._reads.number[node]))
        shown = one.operations
        if len(shown) > MOST_SHOWN:
            shown = tuple(part for part in shown if part[1] in self._keys)
        text = " ".join(_say(part) for part in shown)
        left_out = len(one.operations) - len(shown)
        return Item(
            label=self.name(node),
            lane=f"session {one.session}",
            text=f"{text} (and {left_out} more)" if left_out else text,
            begin=one.invoked,
            end=one.completed,
            index=one.index,
            user=one.user,
        )


def _say(operation: Micro) -> str:
    word, key, value = operation
    return f"{word}({key})={'initial' if value is None else value}"


_CLAIMS = {
    "internal": "{reader} read {value} of {key} after it had written {other} itself.",
    "future read": "{reader} read {value} of {key} before it wrote that itself.",
    "thin-air read": "{reader} read {value} of {key}, which nobody wrote.",
    "G1a": "{reader} read {value} of {key}, which {writer} wrote and rolled back.",
    "G1b": "{reader} read {value} of {key}, which {writer} overwrote before it ended.",
}


def tell_misread(misread: "Misread", reads: "ReadsFrom") -> Anomaly:
    """Return the witness of a read that is wrong in itself."""
    log = reads.log
    numbers = [int(log.transaction[misread.place])]
    if misread.other is not None:
        numbers.append(int(log.transaction[misread.other]))
    labels = {number: f"T{at}" for at, number in enumerate(dict.fromkeys(numbers), 1)}
    narrator = Narrator(reads)
    claim = _CLAIMS[misread.name].format(
        reader=labels[numbers[0]],
        writer=labels[numbers[-1]],
        value=narrator.value(misread.place),
        key=narrator.key(int(log.key[misread.place])),
        other="" if misread.other is None else narrator.value(misread.other),
    )
    items = []
    for number, label in labels.items():
        one = log.read(number)
        items.append(
            Item(
                label=label,
                lane=f"session {one.session}",
                text=" ".join(_say(part) for part in one.operations),
                begin=one.invoked,
                end=one.completed,
                index=one.index,
                user=one.user,
            )
        )
    return Anomaly(name=misread.name, claim=claim, items=tuple(items))
