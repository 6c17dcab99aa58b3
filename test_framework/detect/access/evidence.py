"""Says whether a write that followed a read, and another user's write, lost anything.

It did if what it writes was made from what was read, or if the question that led to it
would be answered otherwise by now and it changes something nevertheless. Without that a
blind write is the last of several, which is all that its author promised.

Source: that most races are benign, and that comparing what they leave behind tells
them apart: Narayanasamy et al., "Automatically classifying benign and harmful data
races using replay analysis" (PLDI 2007).
"""

import math
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Literal

from test_framework.detect.access.books import Place, TaskState, User, Window, Wrote
from test_framework.detect.access.flows import Flows, Guard
from test_framework.detect.access.methods import ASKED, CATEGORIES, STRUCTURE, Kind
from test_framework.detect.access.patterns import Pattern, Use
from test_framework.detect.access.questions import still_stands
from test_framework.detect.access.sites import Site, Sites

Loss = Literal["lost", "if replaced", "perhaps if replaced"]
"""Something is lost at any rate, or if the write replaces a value that differs."""

_SIZED: Final = frozenset({dict, list, set, deque})
_MOST_READS: Final = 64


@dataclass(slots=True)
class Case:
    """Two uses of a place, and what another user wrote in between."""

    place: Place
    window: Window
    other: Wrote
    by: User


@dataclass(slots=True)
class Replacing:
    """A write that is about to be done, and the value that it will replace."""

    state: TaskState
    site: int
    thing: Any
    before: Any
    case: Case
    is_sure: bool


class Evidence:
    """Weighs what depends on what.

    Args:
        sites: The places of the probes.
        flows: What flows from one into another.
    """

    def __init__(self, sites: Sites, flows: Flows) -> None:
        self._sites = sites
        self._flows = flows
        self._together: dict[int, set[int]] = {}
        self._leading: dict[int, frozenset[int]] = {}
        self._revision = 0

    def join(self, site: int, other: int) -> None:
        """Note that a line read what another one had read, with no write between."""
        known = self._together.get(site)
        if known is None:
            self._together[site] = {other}
        elif other not in known:
            known.add(other)

    def loss_of(self, case: Case) -> Loss | None:
        """Return what is lost by a write that is about to be done; None: nothing."""
        before, use = case.window.first, case.window.second
        second = self._sites[use[3]]
        if before[0] == "load" or self._derives(before, second):
            return "lost"
        if self.is_placed(case.place, before, use[0], use[3]):
            return "lost"
        if case.place.key is STRUCTURE and use[0] == "write":
            return "lost" if _is_filled(case.place.entry.thing) else None
        answers = self._answers(before, second)
        if use[0] == "update":
            return "lost" if False in answers else None
        if False in answers:
            return "if replaced"
        return "perhaps if replaced" if None in answers else None

    def is_outdated(self, before: Use, site: int) -> bool:
        """Whether a question that led to a line would be answered otherwise by now."""
        return False in self._answers(before, self._sites[site])

    def is_answer(self, before: Use, site: int) -> bool:
        """Whether what a line reads is returned by the function of an earlier use."""
        first, second = self._sites[before[3]], self._sites[site]
        return first.function == second.function and self._flows.answers(second)

    def is_one_value(self, first: int, second: int) -> bool:
        """Whether one value is made of what two lines of a function read."""
        return self._flows.meet(self._sites[first], self._sites[second])

    def is_handed(self, reader: TaskState, site: int) -> bool:
        """Whether a task found something by the function that put it there."""
        function = self._sites[site].function
        return any(
            read.entry.is_keyed and self._sites[use[3]].function == function
            for read, use in self._latest(reader)
            if use[0] in ASKED
        )

    def reread(self, before: Use, site: int) -> Pattern:
        """Return what it is to read a place again that another user has changed."""
        second = self._sites[site]
        if any(self._flows.mixes(one, second) for one in self._reads(before)):
            return "mixed-versions"
        if not self._flows.asks(second) and self.is_outdated(before, site):
            return "stale-decision"
        return "unrepeatable-read"

    def is_placed(self, place: Place, before: Use, kind: Kind, site: int) -> bool:
        """Whether a list is changed at an index that was looked up in it before."""
        return (
            kind == "update"
            and place.key is STRUCTURE
            and before[0] in ASKED
            and CATEGORIES[type(place.entry.thing)] == "sequence"
            and self._places(before, self._sites[site])
        )

    def foretells(
        self, before: Use, kind: Kind, key: object, site: int
    ) -> Pattern | None:
        """Return what two uses are if a write of another user falls in between."""
        second = self._sites[site]
        is_emptied = key is STRUCTURE and kind == "write"
        if before[0] == "load" or is_emptied or self._derives(before, second):
            return "lost-update"
        return "stale-check" if any(self._guards(before, second)) else None

    def decision(self, state: TaskState, place: Place, site: int) -> Use | None:
        """Return the outdated read that led a task to write to another place."""
        leading = self._leads_to(site)
        if not leading:
            return None
        second, step = self._sites[site], state.step
        whole = (place.entry.places or {}).get(STRUCTURE)
        before = None if whole is None else state.uses.get(whole)
        if (
            before is not None
            and before[2] != step
            and place.tick >= _began(state, before[2])
            and self._places(before, second)
        ):
            return before
        writer = place.writer
        for read, before in self._latest(state):
            if (
                read.writer is writer
                and before[1] != read.version
                and before[2] != step
                and read is not place
                and before[0] in ASKED
                and not leading.isdisjoint(self._read_by(before[3]))
                and False in self._answers(before, second)
            ):
                return before
        return None

    @staticmethod
    def _latest(state: TaskState) -> Iterable[tuple[Place, Use]]:
        """Return the uses of a task, of many of them the latest."""
        uses = state.uses.items()
        return uses if len(uses) <= _MOST_READS else islice(reversed(uses), _MOST_READS)

    def _leads_to(self, site: int) -> frozenset[int]:
        """Return the sites of which a question or key leads to what a line writes."""
        if self._revision != self._flows.revision:
            self._revision = self._flows.revision
            self._leading.clear()
        known = self._leading.get(site)
        if known is None:
            numbers = map(self._sites.find, self._flows.leads_to(self._sites[site]))
            known = frozenset(number for number in numbers if number is not None)
            self._leading[site] = known
        return known

    def _reads(self, before: Use) -> Iterator[Site]:
        """Yield the lines that read what a use saw."""
        for site in self._read_by(before[3]):
            yield self._sites[site]

    def _read_by(self, site: int) -> Iterator[int]:
        """Yield the sites that read what one of them saw."""
        seen, waiting = {site}, [site]
        while waiting:
            site = waiting.pop()
            yield site
            new = self._together.get(site, set()) - seen
            seen |= new
            waiting.extend(new)

    def _places(self, before: Use, second: Site) -> bool:
        return any(self._flows.places(one, second) for one in self._reads(before))

    def _derives(self, before: Use, second: Site) -> bool:
        return any(self._flows.derives(one, second) for one in self._reads(before))

    def _guards(self, before: Use, second: Site) -> Iterator[Guard]:
        for one in self._reads(before):
            yield from self._flows.guards(one, second)

    def _answers(self, before: Use, second: Site) -> set[bool | None]:
        """Ask the questions between two uses again: do the answers still stand?"""
        frame = sys._getframe(1)
        return {still_stands(guard, frame) for guard in self._guards(before, second)}


def _is_filled(thing: Any) -> bool:
    """Whether a container still holds what its clearing would take away."""
    return bool(thing) if type(thing) in _SIZED else True


def _began(state: TaskState, step: int) -> float:
    """Return the instant at which a step of a task began."""
    if step == 0:
        return 0
    number = len(state.awaits) - (state.step - step) - 1
    return state.awaits[number][0] if number >= 0 else math.inf
