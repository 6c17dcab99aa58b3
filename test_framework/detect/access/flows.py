"""Says which reads a write depends on: by its value, by its key, or by a question.

That another user wrote between a read and a write proves nothing as long as the write
would have been the same without the read. So the functions are looked through once,
before the probes are put in: which reads flow into which locals, arguments, results,
keys and written values, and which questions decide whether a line is reached at all.

Places are lines of a function, as in ``Sites``. Functions are told apart by their bare
names, so that what is passed to ``self._store`` arrives in every ``_store``: too much
rather than too little, since a pair of lines must also use one place of one object.

Source: def-use chains and control dependence as in Ferrante, Ottenstein and Warren,
"The program dependence graph and its use in optimization" (TOPLAS 1987).
"""

import ast
from collections.abc import Iterable
from dataclasses import dataclass

from test_framework.detect.access.sites import Site

Node = Site | tuple[str, Site | str]
"""A line that reads, or what flows: ``("value", line)``, ``("result", function)`` ..."""


@dataclass(frozen=True, eq=False, slots=True)
class Guard:
    """A question that decides whether a line is reached.

    Attributes:
        test: What was asked, with locals replaced by what they were read from.
        expected: The answer with which the line is reached.
        path: The file.
        function: Qualified name of the function that asks.
        reads: What the answer depends on.
    """

    test: ast.expr
    path: str
    function: str
    reads: frozenset[Node]
    expected: bool = True


class Flows:
    """What flows where in all watched modules.

    Attributes:
        revision: Grows whenever more is known.
    """

    def __init__(self) -> None:
        self.revision = 0
        self._into: dict[Node, set[Node]] = {}
        self._guards: dict[Node, list[Guard]] = {}
        self._reached: dict[Node, frozenset[Node]] = {}
        self._leads: dict[Site, frozenset[Site]] = {}
        self._holders: dict[Site, set[str]] = {}
        self._parts: dict[Site, set[object]] = {}
        self._choices: set[Site] = set()
        self._tests: set[Site] = set()

    def hold(self, site: Site, name: str) -> None:
        """Note the name of a container that a line uses."""
        self._holders.setdefault(site, set()).add(name)

    def holder(self, first: Site, second: Site) -> str | None:
        """Return the name of the container that two lines use, if there is one."""
        names = [self._holders.get(site, set()) for site in (first, second)]
        common = names[0] & names[1] or names[0] | names[1]
        return next(iter(common)) if len(common) == 1 else None

    def take(self, site: Site, parts: Iterable[object]) -> None:
        """Note which parts of a value a line goes on with."""
        self._parts.setdefault(site, set()).update(parts)

    def choose(self, site: Site) -> None:
        """Note a line that chooses between two values by what it reads."""
        self._choices.add(site)

    def test(self, sites: Iterable[Node]) -> None:
        """Note lines that ask, and do otherwise when the answer is another one."""
        self._tests.update(site for site in sites if isinstance(site, Site))

    def asks(self, site: Site) -> bool:
        """Whether a line does otherwise when what it reads is something else."""
        return site in self._tests or site in self._choices

    def mixes(self, first: Site, second: Site) -> bool:
        """Whether one value is made of two reads that must agree.

        They must if each takes another part of one value, or if one chooses what the
        other one labels. Who compares before with after takes the same part twice.
        """
        parts, others = self._parts.get(first), self._parts.get(second)
        is_split = parts and others and parts.isdisjoint(others)
        is_labelled = first in self._choices and second not in self._choices
        return bool(is_split or is_labelled) and self.meet(first, second)

    def answers(self, site: Site) -> bool:
        """Whether a function returns what a line of it reads."""
        return site in self._sources(("result", site.function.rpartition(".")[2]))

    def meet(self, first: Site, second: Site) -> bool:
        """Whether two lines of a function flow into one value that it puts or returns."""
        if first.function != second.function:
            return False
        values: list[Node] = [("result", first.function.rpartition(".")[2])]
        values += [
            ("value", node[1])
            for node in self._into
            if node[0] == "value"
            and isinstance(node[1], Site)
            and node[1].function == first.function
        ]
        return any({first, second} <= self._sources(value) for value in values)

    def link(self, reads: Iterable[Node], into: Node) -> None:
        """Note what flows into something."""
        self._reached.clear()
        self._leads.clear()
        self.revision += 1
        self._into.setdefault(into, set()).update(reads)

    def guard(self, node: Node, guards: Iterable[Guard]) -> None:
        """Note what decides whether something is reached."""
        for guard in guards:
            self._guards.setdefault(node, []).append(guard)

    def derives(self, first: Site, second: Site) -> bool:
        """Whether what a line writes was made from what another one read."""
        return first in self._sources(("value", second))

    def places(self, first: Site, second: Site) -> bool:
        """Whether the key that a line writes to was made from what another one read."""
        return first in self._sources(("key", second))

    def guards(self, first: Site, second: Site) -> list[Guard]:
        """Return the questions about a read that decide whether a line is reached."""
        node: Node = ("guarded", second)
        return [
            guard
            for reached in (node, *self._sources(node))
            for guard in self._guards.get(reached, ())
            if any(
                first == read or first in self._sources(read) for read in guard.reads
            )
        ]

    def leads_to(self, second: Site) -> frozenset[Site]:
        """Return the lines of which a question or key leads to what a line writes."""
        known = self._leads.get(second)
        if known is None:
            node: Node = ("guarded", second)
            found = set(self._sources(("key", second)))
            for reached in (node, *self._sources(node)):
                for guard in self._guards.get(reached, ()):
                    found.update(guard.reads)
                    found.update(*map(self._sources, guard.reads))
            known = frozenset(one for one in found if isinstance(one, Site))
            self._leads[second] = known
        return known

    def _sources(self, node: Node) -> frozenset[Node]:
        """Return all that flows into something, over any number of steps."""
        known = self._reached.get(node)
        if known is None:
            found: set[Node] = set()
            waiting = [node]
            while waiting:
                for source in self._into.get(waiting.pop(), ()):
                    if source not in found:
                        found.add(source)
                        waiting.append(source)
            known = self._reached[node] = frozenset(found)
        return known
