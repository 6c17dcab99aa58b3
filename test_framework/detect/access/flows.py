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

    def hold(self, site: Site, name: str) -> None:
        """Note the name of a container that a line uses."""
        self._holders.setdefault(site, set()).add(name)

    def holder(self, first: Site, second: Site) -> str | None:
        """Return the name of the container that two lines use, if there is one."""
        names = [self._holders.get(site, set()) for site in (first, second)]
        common = names[0] & names[1] or names[0] | names[1]
        return next(iter(common)) if len(common) == 1 else None

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
