"""Says whether a write that followed a read, and another user's write, lost anything.

It did if what it writes was made from what was read, or if the question that led to it
would be answered otherwise by now and it changes something nevertheless. Without that a
blind write is the last of several, which is all that its author promised.

Source: that most races are benign, and that comparing what they leave behind tells
them apart: Narayanasamy et al., "Automatically classifying benign and harmful data
races using replay analysis" (PLDI 2007).
"""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
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

    def join(self, site: int, other: int) -> None:
        """Note that a line read what another one had read, with no write between."""
        known = self._together.get(site)
        if known is None:
            self._together[site] = {other}
        elif other not in known:
            known.add(other)

    def loss_of(self, case: Case, frame: FrameType) -> Loss | None:
        """Return what is lost by a write that is about to be done; None: nothing."""
        before, use = case.window.first, case.window.second
        second = self._sites[use[3]]
        if before[0] == "load" or self._derives(before, second):
            return "lost"
        if self.is_placed(case.place, before, use[0], use[3]):
            return "lost"
        if case.place.key is STRUCTURE and use[0] == "write":
            return "lost" if _is_filled(case.place.entry.thing) else None
        answers = self._answers(before, second, frame)
        if use[0] == "update":
            return "lost" if False in answers else None
        if False in answers:
            return "if replaced"
        return "perhaps if replaced" if None in answers else None

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

    def decision(
        self, state: TaskState, place: Place, site: int, frame: FrameType
    ) -> Use | None:
        """Return the outdated read that led a task to write to another place."""
        second = self._sites[site]
        if not self._flows.is_led_to(second):
            return None
        for read in state.touched[-_MOST_READS:]:
            before = read.uses.get(state)
            if read is place or before is None or before[2] == state.step:
                continue
            if read.key is STRUCTURE and read.entry is place.entry:
                if place.wrote[3] >= _began(state, before[2]) and (
                    self._places(before, second)
                ):
                    return before
            elif (
                before[1] != read.version
                and before[0] in ASKED
                and read.writer is place.writer
                and False in self._answers(before, second, frame)
            ):
                return before
        return None

    def _reads(self, before: Use) -> Iterator[Site]:
        """Yield the lines that read what a use saw."""
        seen, waiting = {before[3]}, [before[3]]
        while waiting:
            site = waiting.pop()
            yield self._sites[site]
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

    def _answers(self, before: Use, second: Site, frame: FrameType) -> set[bool | None]:
        """Ask the questions between two uses again: do the answers still stand?"""
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
