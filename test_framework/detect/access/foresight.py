"""Foretells from users who come one after the other what would happen at once."""

import itertools
from typing import Any, Final

from test_framework.detect.access.books import (
    Conflict,
    Entry,
    Place,
    TaskState,
    Window,
)
from test_framework.detect.access.evidence import Case, Evidence
from test_framework.detect.access.methods import STRUCTURE, Kind
from test_framework.detect.access.patterns import (
    NONE,
    OF_STRUCTURE,
    OF_VALUE,
    Use,
)
from test_framework.detect.access.proofs import (
    Proofs,
    births,
    cause_of,
    held_since,
    operations,
)
from test_framework.detect.access.trials import Trials

_MOST_WINDOWS: Final = 16
_MOST_FRUITLESS: Final = 8


class Foresight:
    """Keeps windows, which are uses with an await between, and who could write there.

    Args:
        proofs: Knows how tasks came to where they are.
        evidence: Whether anything would be lost.
        trials: Tries what was foretold.

    Attributes:
        foretold: Conflicts that could happen, by pattern and sites.
    """

    def __init__(self, proofs: Proofs, evidence: Evidence, trials: Trials) -> None:
        self.foretold: dict[tuple[str, int, int], Conflict] = {}
        self._proofs = proofs
        self._evidence = evidence
        self._trials = trials
        self._told: set[int] = set()
        self._closed: set[int] = set()
        self._fruitless: dict[int, int] = {}

    def open(
        self,
        entry: Entry,
        state: TaskState,
        key: Any,
        before: Use,
        kind: Kind,
        site: int,
    ) -> None:
        """Keep two uses with an await between, if a write must not fall in between."""
        pair = before[3] << 32 | site
        if pair in self._closed:
            return
        patterns = OF_STRUCTURE if key is STRUCTURE else OF_VALUE
        pattern = patterns.get(before[0], NONE).get(kind)
        if pattern is None:
            return
        if self._fruitless.get(pair, 0) > _MOST_FRUITLESS:
            self._closed.add(pair)
            return
        if entry.windows is None:
            entry.windows = {}
        windows = entry.windows.get(key)
        if windows is None:
            windows = entry.windows[key] = {}
        if pair in windows or len(windows) >= _MOST_WINDOWS:
            return
        if pattern == "lost-update":
            pattern = self._evidence.foretells(before, kind, key, site)
            if pattern is None:
                self._closed.add(pair)
                return
        awaits = state.awaits
        awaited = None
        if awaits:
            since = awaits[max(before[2] - state.step, -len(awaits))][0]
            awaited = self._proofs.await_after(state, since - 1, before[3])
        held = held_since(state, before[2])
        windows[pair] = Window(
            pattern,
            before,
            (kind, 0, state.step, site),
            state.user,
            (),
            held,
            births(state, held),
            awaited,
        )

    def foretell(
        self, entry: Entry, state: TaskState, key: Any, kind: Kind, site: int
    ) -> None:
        """Compare a write with the windows of other users."""
        kept = entry.windows or {}
        windows = kept.get(key)
        if windows is None:
            return
        for pair, window in list(windows.items()):
            if window.user == state.user:
                continue
            if pair in self._told:
                del windows[pair]
                continue
            if not window.locks.isdisjoint(state.locks):
                continue
            # What is one user's own may be shared with others elsewhere: look on.
            is_of_one = window.user.is_one_with(state.user)
            if is_of_one and cause_of(window) in self.foretold:
                continue
            if not is_of_one:
                del windows[pair]
                self._told.add(pair)
                self._closed.add(pair)
            stack = self._proofs.stack()
            other = (kind, site, state.step, 0, stack)
            place = (entry.places or {}).get(key) or Place(entry, key)
            conflict = self._proofs.conflict(
                Case(place, window, other, state.user), happened=False
            )
            conflict.operations.update(operations(window.user, state.user))
            conflict.is_of_one = is_of_one
            conflict.is_kept_apart = not window.born.isdisjoint(
                births(state, state.locks)
            )
            self.foretold[cause_of(window)] = conflict
            self._trials.add(conflict)
        if not windows:
            del kept[key]

    def give_up(self, entry: Entry) -> None:
        """Note that an object with windows was never seen by anybody else."""
        for pair in itertools.chain.from_iterable((entry.windows or {}).values()):
            self._fruitless[pair] = self._fruitless.get(pair, 0) + 1
