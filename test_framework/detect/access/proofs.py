"""Puts together what proves a conflict: both uses, the await between, both stacks."""

import sys
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from types import CodeType, FrameType, ModuleType
from typing import Final

from test_framework.detect.access.books import (
    Birth,
    Conflict,
    Place,
    Stack,
    TaskState,
    User,
    Window,
)
from test_framework.detect.access.evidence import Case
from test_framework.detect.access.flows import Flows
from test_framework.detect.access.methods import CATEGORIES, Kind
from test_framework.detect.access.patterns import Pattern, Use
from test_framework.detect.access.signals import birth_of
from test_framework.detect.access.sites import Sites

_MOST_FRAMES: Final = 16


class Proofs:
    """Knows how tasks came to where they are.

    Args:
        sites: The places of the probes.
        flows: What flows from one into another.
        files: Paths of the watched modules, of which stacks are kept.
    """

    def __init__(self, sites: Sites, flows: Flows, files: AbstractSet[str]) -> None:
        self._sites = sites
        self._flows = flows
        self._files = files

    def window(
        self,
        pattern: Pattern,
        state: TaskState,
        place: Place,
        before: Use,
        kind: Kind,
        site: int,
        *,
        is_known: bool = False,
    ) -> Window:
        """Return two uses of the running task between which another user wrote.

        Args:
            pattern: What they are.
            state: The task.
            place: What it used.
            before: The first use.
            kind: How it is used now.
            site: Where.
            is_known: It was reported before, so that no stack is needed.
        """
        return Window(
            pattern,
            before,
            (kind, place.version, state.step, site),
            state.user,
            () if is_known else self.stack(),
            held_since(state, before[2]),
            frozenset(),
            self.await_after(state, place.tick, before[3]),
        )

    def conflict(self, case: Case, *, happened: bool) -> Conflict:
        """Return what is told of a case."""
        entry, window = case.place.entry, case.window
        thing = entry.thing
        owner = type(thing).__qualname__
        is_instance = True
        if isinstance(thing, type):
            owner, is_instance = thing.__qualname__, False
        elif isinstance(thing, ModuleType):
            owner, is_instance = thing.__name__, False
        is_keyed = CATEGORIES[type(thing)] is not None
        holder = None
        if is_keyed:
            sites = self._sites[window.first[3]], self._sites[window.second[3]]
            holder = self._flows.holder(*sites)
        return Conflict(
            window.pattern,
            owner,
            holder,
            case.place.key,
            is_keyed,
            is_instance,
            entry.claim,
            entry,
            window,
            case.other,
            case.by,
            happened,
        )

    def await_after(self, state: TaskState, tick: int, first: int) -> int | None:
        """Return an await that began before an instant and ended after it.

        Of several, one in the function of the first use, else the innermost.
        """
        spanning = [site for when, site in state.awaits if when > tick]
        function = self._sites[first].function
        own = [site for site in spanning if self._sites[site].function == function]
        return next(iter(own or spanning), None)

    def stack(self) -> Stack:
        """Return the service's innermost frames, without keeping their locals alive."""
        files = self._files
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename not in files:
            frame = frame.f_back
        stack: list[tuple[CodeType, int]] = []
        while frame is not None and frame.f_code.co_filename in files:
            stack.append((frame.f_code, frame.f_lasti))
            frame = frame.f_back
        return tuple(stack[:_MOST_FRAMES])


def operations(*users: User) -> set[int]:
    """Return the audit's requests of users."""
    return {user.operation for user in users if user.operation is not None}


def cause_of(window: Window) -> tuple[str, int, int]:
    """Return what makes two conflicts one: their pattern and both sites."""
    pattern = "lost-update" if window.pattern == "stale-check" else window.pattern
    return pattern, window.first[3], window.second[3]


def held_since(state: TaskState, step: int) -> frozenset[int]:
    """Return the locks that a task took before a step of its own and still holds."""
    return frozenset(lock for lock, (when, _) in state.locks.items() if when <= step)


def last_tick(state: TaskState) -> int:
    """Return an instant before the end of the last await of a task."""
    return state.awaits[-1][0] - 1 if state.awaits else 0


def births(state: TaskState, locks: Iterable[int]) -> frozenset[Birth]:
    """Return where locks that a task holds were made."""
    births = (birth_of(state.locks[lock][1]) for lock in locks)
    return frozenset(birth for birth in births if birth is not None)
