"""Keeps objects as long as they may matter, and no longer.

Objects are referred to weakly; plain dictionaries and lists, which cannot be, are held
until the next await, and longer only if somebody else holds them too, until the tasks
that used them end. What is kept beyond is what has a window, and of that the oldest is
forgotten first.
"""

import sys
from collections.abc import Callable
from itertools import islice
from typing import Any, Final

from test_framework.detect.access.books import (
    Entry,
    Grown,
    Place,
    Reference,
    TaskState,
)
from test_framework.detect.access.methods import CATEGORIES, STRUCTURE
from test_framework.detect.access.patterns import WRITES

MOST_OBJECTS: Final = 20_000
MOST_PLACES: Final = 4_096
_WRITTEN: Final = WRITES | {"confirmed", "result"}


class Shelf:
    """The objects that tasks use, by identity.

    Args:
        give_up: Told of an object with windows that nobody else ever used.

    Attributes:
        entries: By identity of the object.
    """

    def __init__(self, give_up: Callable[[Entry], None]) -> None:
        self.entries: dict[int, Entry] = {}
        self._give_up = give_up
        self._sweep_at = 2_048

    def catch_up(self, entry: Entry, grown: Grown) -> None:
        """Note who added to a container before anybody asked what is in it."""
        entry.grown = None
        if any(one is not entry.owner for one, *_ in grown) and entry.places is None:
            self.share(entry)
        if entry.places is None:
            _, step, site, _ = grown[-1]
            entry.alone[STRUCTURE] = ("update", 0, step, site)
            return
        place = self.add(entry.places, entry, STRUCTURE)
        for one, step, site, tick in grown:
            if one.is_over:
                continue
            if place not in one.uses:
                place.users += 1
                self.join_in(entry, one)
            place.version += 1
            place.writer, place.tick = one, tick
            place.written = one.uses[place] = ("update", place.version, step, site)

    @staticmethod
    def join_in(entry: Entry, state: TaskState) -> None:
        """Note that a task uses an object that others use, too."""
        if entry.latest is not state:
            entry.latest = state
            entry.users += 1
            state.entries.append(entry)

    def forget(self, state: TaskState, places: int, entries: int) -> None:
        """Give up the places and objects that a task used first."""
        uses = state.uses
        for place in list(islice(uses, places)):
            place.users -= 1
            del uses[place]
        for entry in state.entries[:entries]:
            entry.users -= 1
            if entry.users == 0:
                self._leave(entry)
        del state.entries[:entries]

    def _leave(self, entry: Entry) -> None:
        """Give up an object that no running task uses, unless it has a window."""
        if entry.windows is None or is_only_ours(entry):
            self.drop(entry)
            return
        entry.owner, entry.places = None, {}
        entry.alone.clear()

    def drop(self, entry: Entry) -> None:
        """Forget an object."""
        if self.entries.get(entry.key) is entry:
            del self.entries[entry.key]
        if entry.windows is not None and entry.owner is not None:
            # Two uses of something that nobody else ever saw: as a rule it is so.
            self._give_up(entry)
        # Its places may still be known to tasks: they must not keep it alive.
        entry.held = None

    def adopt(self, thing: Any, state: TaskState) -> Entry:
        """Return the entry of an object that a task is the first to use."""
        key = id(thing)
        if type(thing).__weakrefoffset__:
            held = Reference(thing, self._gone)
            held.key = key
            entry = Entry(key, held, state)
        else:
            entry = Entry(key, thing, state)
            state.fresh.append(entry)
            state.is_due = True
        self.entries[key] = entry
        state.entries.append(entry)
        if len(self.entries) > self._sweep_at:
            self._sweep()
        return entry

    def _gone(self, reference: Reference) -> None:
        entry = self.entries.get(reference.key)
        if entry is not None and entry.held is reference:
            self.drop(entry)

    def share(self, entry: Entry) -> dict[Any, Place]:
        """Give an object places, now that a second task uses it."""
        places = entry.places = {}
        entry.is_keyed = CATEGORIES[type(entry.thing)] is not None
        owner, entry.owner = entry.owner, None
        for key, use in entry.alone.items():
            place = places[key] = Place(entry, key)
            if owner is not None:
                place.users = 1
                owner.uses[place] = use
                if use[0] in _WRITTEN:
                    place.writer, place.written = owner, use
                place.is_relied = use[0] != "update" and use[0] != "result"
        entry.alone.clear()
        return places

    def _sweep(self) -> None:
        """Forget what only we hold, and the oldest of what nobody uses."""
        entries = self.entries
        for entry in list(entries.values()):
            if is_only_ours(entry):
                self.drop(entry)
        if len(entries) > MOST_OBJECTS:
            idle = [entry for entry in entries.values() if entry.users == 0]
            for entry in (idle or list(entries.values()))[: MOST_OBJECTS // 2]:
                self.drop(entry)
        self._sweep_at = max(2_048, 2 * len(entries))

    @staticmethod
    def add(places: dict[Any, Place], entry: Entry, key: Any) -> Place:
        """Return a new place of an object, and forget some where there are too many."""
        if len(places) >= MOST_PLACES:
            for old in [old for old, place in places.items() if not place.users]:
                del places[old]
        place = places[key] = Place(entry, key)
        return place


def is_only_ours(entry: Entry) -> bool:
    """Whether nothing but the books keeps an object alive."""
    # Our entry and the argument; a reference is always only ours.
    held = entry.held
    return type(held) is not Reference and sys.getrefcount(held) <= 3
