"""Judges uses of one place: what happened, what could, and what was torn."""

import itertools
from typing import Any, Final

from test_framework.detect.access.books import (
    Conflict,
    Entry,
    Half,
    Place,
    TaskState,
    Window,
    Wrote,
)
from test_framework.detect.access.evidence import Case, Evidence, Replacing
from test_framework.detect.access.methods import CATEGORIES, STRUCTURE, Kind
from test_framework.detect.access.patterns import (
    Pattern,
    Use,
    pattern_of,
)
from test_framework.detect.access.proofs import (
    Proofs,
    cause_of,
    held_since,
    last_tick,
    operations,
)
from test_framework.detect.access.questions import (
    UNKNOWN,
    is_same,
    stored,
)

_MOST_PARTS: Final = 64
_MOST_READERS: Final = 64


class Judge:
    """Keeps what was found.

    Args:
        proofs: Knows how tasks came to where they are.
        evidence: Whether anything was lost.

    Attributes:
        found: Conflicts that happened, by pattern and sites.
        evidence: As it was given.
        unsettled: Writes of which it must still be seen what they replaced.
    """

    def __init__(self, proofs: Proofs, evidence: Evidence) -> None:
        self.found: dict[tuple[str, int, int], Conflict] = {}
        self.unsettled: list[Replacing] = []
        self.evidence = evidence
        self._proofs = proofs

    def has_found(self, conflict: Conflict) -> bool:
        """Whether what was foretold has happened since."""
        return cause_of(conflict.window) in self.found

    def judge(
        self, state: TaskState, place: Place, before: Use, kind: Kind, site: int
    ) -> None:
        """Judge a use of a place that another user has written since."""
        writer, other = place.writer, place.wrote
        pattern = pattern_of(before, kind, place.key, site)
        if pattern is None and _is_emptied(place, before, kind):
            pattern = "clobbered-write"
        if pattern is None and self.evidence.is_placed(place, before, kind, site):
            pattern = "lost-update"
        if pattern is None or writer is None:
            return
        if state.heard.get(writer.number, -1) >= other[2]:
            return
        if pattern == "joint-contents":
            state.mixed.setdefault(place, (before, other, writer.user))
            return
        if pattern == "unrepeatable-read":
            state.reread[place] = before
            state.is_due = True
            pattern = self.evidence.reread(before, site)
        window = self._window(pattern, state, place, before, kind, site)
        case = Case(place, window, other, writer.user)
        if pattern == "lost-update":
            self._weigh(state, case)
        else:
            self._report(case)

    def judge_mixed(self, state: TaskState, place: Place, site: int) -> None:
        """Judge a read of all of a container that the task thinks it has filled.

        A history that all share is read in the same way, so this is no error unless
        something says that it was thought to be the task's own: it has taken all for
        its answer after another had emptied it, or it came from where one's own is kept.
        """
        before, other, by = state.mixed.pop(place)
        if not self.evidence.is_answer(before, site):
            return
        is_sure = other[0] == "write" or place.entry.claim is not None
        pattern: Pattern = "mixed-contents" if is_sure else "joint-contents"
        window = self._window(pattern, state, place, before, "read", site)
        self._report(Case(place, window, other, by))

    def judge_reread(self, state: TaskState, place: Place, site: int) -> None:
        """Judge a change of what was read anew in the very line that changes it.

        It takes the newest value, but nobody has asked again whether there is a reason
        to change it.
        """
        before, writer, other = state.reread.get(place), place.writer, place.wrote
        if before is None or writer is None:
            return
        if self.evidence.is_outdated(before, site):
            window = self._window("lost-update", state, place, before, "update", site)
            self._report(Case(place, window, other, writer.user))

    def _weigh(self, state: TaskState, case: Case) -> None:
        """Judge whether a write that followed a read of old lost anything."""
        loss = self.evidence.loss_of(case)
        if loss == "lost":
            self._report(case)
        elif loss is not None:
            self._replace(state, case, is_sure=loss == "if replaced")

    def judge_decision(self, state: TaskState, place: Place, site: int) -> None:
        """Judge a write that replaces another user's by what led to it elsewhere.

        Such as a token that is renewed because of a flag, or a number that was chosen
        because it was free.
        """
        writer, other = place.writer, place.wrote
        if writer is None or writer.user == state.user:
            return
        if state.heard.get(writer.number, -1) >= other[2]:
            return
        before = self.evidence.decision(state, place, site)
        if before is None:
            return
        window = self._window("lost-update", state, place, before, "write", site)
        case = Case(place, window, other, writer.user)
        self._replace(state, case, is_sure=True)

    def _replace(self, state: TaskState, case: Case, *, is_sure: bool) -> None:
        """Judge a write when it is done, and is seen to have replaced another value."""
        thing = case.place.entry.thing
        before = stored(thing, case.place.key)
        site = case.window.second[3]
        self.unsettled.append(Replacing(state, site, thing, before, case, is_sure))

    def settle(self, state: TaskState | None = None, site: int = -1) -> None:
        """Look at what was replaced; a task that is still at that line waits."""
        waiting = []
        for one in self.unsettled:
            if one.state is state and one.site == site:
                waiting.append(one)
                continue
            after = stored(one.thing, one.case.place.key)
            if after is not UNKNOWN and is_same(one.before, after):
                continue
            if not one.is_sure:
                one.case.window.pattern = "stale-check"
            self._report(one.case)
        self.unsettled[:] = waiting

    def _window(
        self,
        pattern: Pattern,
        state: TaskState,
        place: Place,
        before: Use,
        kind: Kind,
        site: int,
    ) -> Window:
        is_known = (pattern, before[3], site) in self.found
        return self._proofs.window(
            pattern, state, place, before, kind, site, is_known=is_known
        )

    def _report(self, case: Case) -> None:
        """Count a conflict that happened; the first and worst of its cause is kept."""
        window, cause = case.window, cause_of(case.window)
        conflict = self.found.get(cause)
        if conflict is None or (
            conflict.pattern == "stale-check" and window.pattern != "stale-check"
        ):
            conflict = self.found[cause] = self._proofs.conflict(case, happened=True)
        conflict.count += 1
        conflict.operations.update(operations(window.user, case.by))

    def judge_parts(self, state: TaskState, entry: Entry, site: int) -> None:
        """Judge a read of all of a container by the keys that the task wrote in it."""
        latest = itertools.islice(reversed(state.uses.items()), _MOST_PARTS)
        for place, before in list(latest):
            if (
                place.entry is entry
                and place.key is not STRUCTURE
                and before[1] != place.version
                and place.writer is not None
                and place.writer.user != state.user
                and (before[0] == "write" or before[0] == "confirmed")
            ):
                self.judge(state, place, before, "read", site)

    def suspect(
        self, state: TaskState, entry: Entry, place: Place, kind: Kind, site: int
    ) -> None:
        """Suspect a first read when its writer wrote what was read before, too.

        An address of before and a key of after a reload belong to no configuration
        that ever was. Judged at the next await, when it is known what was read again.
        """
        places = entry.places or {}
        if place.writer is None or place.writer.user == state.user:
            return
        if len(places) > _MOST_PARTS:
            return
        for other in places.values():
            before = state.uses.get(other)
            if (
                before is not None
                and before[0] == "read"
                and before[1] != other.version
                and other.writer is place.writer
                and other.written[0] == place.written[0] == "write"
                and other.written[2] == place.written[2]
            ):
                second: Use = (kind, place.version, state.step, site)
                stack = self._proofs.stack()
                state.suspects.append((other, before, second, stack))
                state.is_due = True

    def convict(self, state: TaskState) -> None:
        """Report those suspects whose first part was not read again."""
        for place, first, second, stack in state.suspects:
            writer = place.writer
            if state.uses.get(place) is not first or writer is None:
                continue
            if state.heard.get(writer.number, -1) >= place.written[2]:
                continue
            window = Window(
                "torn-read",
                first,
                second,
                state.user,
                stack,
                frozenset(),
                frozenset(),
                self._proofs.await_after(state, place.tick, first[3]),
            )
            self._report(Case(place, window, place.wrote, writer.user))
        state.suspects.clear()

    def judge_kept(self, state: TaskState, place: Place, site: int) -> None:
        """Judge that a task had a value of its own to put where another's stands.

        Whoever comes first may be meant to win, so this is only asked.
        """
        writer, other = place.writer, place.wrote
        if writer is None or writer.user == state.user:
            return
        if state.heard.get(writer.number, -1) >= other[2]:
            return
        use = state.uses.get(place)
        if use is not None:
            window = self._window("kept-value", state, place, use, "read", site)
            self._report(Case(place, window, other, writer.user))

    def see_half(self, half: Half, reader: TaskState, key: Any, site: int) -> None:
        """Note that another task reads what may not be complete."""
        if reader.user == half.state.user or len(half.readers) >= _MOST_READERS:
            return
        if half.key is None and not self.evidence.is_handed(reader, half.use[3]):
            return
        half.readers.setdefault(reader, {})[key] = (reader.step, site)

    def judge_half(self, entry: Entry, half: Half, key: Any, site: int) -> None:
        """Judge that a task completes what others have read half of."""
        state = half.state
        told = key if half.key is None else half.key
        place = (entry.places or {}).get(told) or Place(entry, told)
        for reader, read in half.readers.items():
            first, second = read.get(told), read.get(key)
            if first is None or second is None or first[0] != second[0]:
                continue
            if half.key is not None and not self.evidence.is_one_value(
                first[1], second[1]
            ):
                continue
            window = Window(
                "half-built" if half.key is None else "half-written",
                half.use,
                ("write", 0, state.step, site),
                state.user,
                self._proofs.stack(),
                held_since(state, half.use[2]),
                frozenset(),
                self._proofs.await_after(state, last_tick(state), half.use[3]),
            )
            other: Wrote = ("read", second[1], second[0], 0, ())
            self._report(Case(place, window, other, reader.user))


def _is_emptied(place: Place, before: Use, kind: Kind) -> bool:
    """Whether more is put into a list that another has begun anew since."""
    return (
        kind == "update"
        and place.key is STRUCTURE
        and (before[0] == "write" or before[0] == "confirmed")
        and place.written[0] == "write"
        and CATEGORIES[type(place.entry.thing)] == "sequence"
    )
