"""Who used what, and which uses cannot have happened one user after the other.

On one event loop all accesses are in one order, so nothing races in the sense of
threads; what goes wrong is *atomicity across an await*. So each place (an attribute of
one object, a key of one dictionary, a variable) has a version that counts its writes,
and each task remembers the version it saw last. When it comes back and another user
wrote in between, ``patterns`` says whether the three uses are at odds. That costs the
same per access however many users there are, and is exact for what happened.

A write is no conflict when its writer announced it to the reader, by an event, a queue
or a future, and the reader waited for that: the two agreed on it.

Users who come one after the other foretell what would happen at once: two uses of one
of them with an await between are a *window*, and a write of another one, without a
lock that both held, could fall into it.

Memory is bounded, by what tasks keep here and by what ``shelf`` keeps of objects.

Source: Lu et al., AVIO (ASPLOS 2006), for the triples; Flanagan and Freund, FastTrack
(PLDI 2009), for what one task alone uses; Warszawski and Bailis, ACIDRain (SIGMOD
2017), for what sequential users foretell; Raychev et al., EventRacer (OOPSLA 2013),
for synchronisation by hand.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Set as AbstractSet
from threading import get_ident, main_thread
from typing import Any, Final

from test_framework.detect.access.books import (
    Claim,
    Conflict,
    Entry,
    Half,
    TaskState,
    User,
)
from test_framework.detect.access.evidence import Evidence
from test_framework.detect.access.flows import Flows
from test_framework.detect.access.foresight import Foresight
from test_framework.detect.access.judge import Judge
from test_framework.detect.access.methods import STRUCTURE, Kind
from test_framework.detect.access.patterns import (
    IN_SEQUENCE,
    IN_STEP,
    JUDGED_OF_STRUCTURE,
    JUDGED_OF_VALUE,
    OPENING_OF_STRUCTURE,
    OPENING_OF_VALUE,
    WRITES,
)
from test_framework.detect.access.proofs import Proofs
from test_framework.detect.access.shelf import Shelf, is_only_ours
from test_framework.detect.access.signals import Signals
from test_framework.detect.access.sites import Sites
from test_framework.detect.access.trials import Trials
from test_framework.detect.scope import current_operation, current_user

MOST_TOUCHED: Final = 8_192
_MAIN: Final = main_thread().ident
_GROWN_KEPT: Final = 16
_TIDIED_EACH: Final = 64
"""Steps after which it is seen whether a task has used too much to remember."""


class Ledger:
    """Keeps the books; every probe of the rewritten modules reports here.

    Args:
        sites: The places of the probes.
        flows: What flows from one into another.
        files: Paths of the watched modules, of which stacks are kept.
        hold_s: See ``Trials``.

    Attributes:
        accesses: How many uses were noted.
        in_threads: Sites that ran in a thread without a loop, which is not watched.
        has_requests: Whether a task worked for a request of the audit.
        signals: Who told whom.
        trials: What was foretold and is worth a try.
        judge: What was found.
        foresight: What was foretold.
    """

    def __init__(
        self, sites: Sites, flows: Flows, files: AbstractSet[str], *, hold_s: float
    ) -> None:
        self.accesses = 0
        self.in_threads: set[int] = set()
        self.has_requests = False
        self.signals = Signals(self)
        self.trials = Trials(self, hold_s=hold_s)
        proofs, evidence = Proofs(sites, flows, files), Evidence(sites, flows)
        self.judge = Judge(proofs, evidence)
        self.foresight = Foresight(proofs, evidence, self.trials)
        self._stack = proofs.stack
        self._unsettled = self.judge.unsettled
        self._join = self.judge.evidence.join
        self._states: dict[Any, TaskState] = {}
        self._shelf = Shelf(self.foresight.give_up)
        self._entries = self._shelf.entries
        self._tasks = 0
        self._tick = 0
        # asyncio.current_task would be most of what a use costs: it asks for the loop,
        # and on Python 3.11 that is a system call.
        self._loops: dict[int, Any] = {}
        self._current: Any = getattr(asyncio.tasks, "_current_tasks", _CurrentTask())

    def close(self) -> None:
        """Note nothing more, and let go of everything but the conflicts."""
        self._current, self._loops = {}, {}
        self._states.clear()
        self._entries.clear()

    def state(self) -> TaskState | None:
        """Return the state of the running task; None outside of tasks."""
        try:
            return self._states[self._current[self._loops[get_ident()]]]
        except KeyError:
            return self._look_up()

    def state_of(self, task: object) -> TaskState | None:
        """Return the state of a task that has not ended."""
        return self._states.get(task)

    def knows(self, thing: Any, key: Any) -> bool:
        """Whether a running task used a place."""
        entry = self._entries.get(id(thing))
        if entry is None:
            return False
        return key in (entry.alone if entry.places is None else entry.places)

    def claim(self, thing: Any, why: Claim) -> None:
        """Note that whoever gets a container thinks that it is the only one."""
        state = self.state()
        if state is not None:
            entry = self._entries.get(id(thing)) or self._shelf.adopt(thing, state)
            entry.claim = why

    def halve(self, thing: Any, key: Any, site: int) -> None:
        """Note that the running task has written what another part belongs to."""
        state, entry = self.state(), self._entries.get(id(thing))
        if state is not None and entry is not None:
            entry.half = Half(state, key, ("write", 0, state.step, site))

    def keep(self, thing: Any, key: Any, site: int) -> None:
        """Judge that the running task goes on with what stands where it put its own."""
        state, entry = self.state(), self._entries.get(id(thing))
        place = entry.places.get(key) if entry is not None and entry.places else None
        if state is not None and place is not None:
            self.judge.judge_kept(state, place, site)

    def publish(self, thing: Any, site: int) -> None:
        """Note that the running task lets others find what it has yet to complete."""
        state = self.state()
        if state is not None:
            entry = self._entries.get(id(thing)) or self._shelf.adopt(thing, state)
            entry.half = Half(state, None, ("write", 0, state.step, site))

    def complete(self, thing: Any, key: Any, site: int) -> None:
        """Judge that the running task is about to write the other part."""
        state, entry = self.state(), self._entries.get(id(thing))
        if state is None or entry is None or entry.half is None:
            return
        half = entry.half
        if half.key is not None or half.state is not state:
            entry.half = None
        if half.state is state:
            self.judge.judge_half(entry, half, key, site)

    def version(self, conflict: Conflict) -> int:
        """Return how often the place of a conflict was written since it is shared."""
        places = conflict.entry.places
        place = None if places is None else places.get(conflict.key)
        return 0 if place is None else place.version

    def stands_in(self, conflict: Conflict) -> bool:
        """Whether the running task has just done the first use of a conflict."""
        state, entry = self.state(), conflict.entry
        if entry.owner is not None:
            use = entry.alone.get(conflict.key) if entry.owner is state else None
        else:
            place = (entry.places or {}).get(conflict.key)
            use = state.uses.get(place) if place and state else None
        return use is not None and use[3] == conflict.window.first[3]

    def has_found(self, conflict: Conflict) -> bool:
        """Whether what was foretold has happened since."""
        return self.judge.has_found(conflict)

    def grow(self, thing: Any, site: int) -> None:
        """Note that the running task adds to a container, or takes from it.

        As long as nobody asks what all is in there, it matters only who did so, and
        that he who did it last knows more than he asks for.
        """
        try:
            state = self._states[self._current[self._loops[get_ident()]]]
        except KeyError:
            found = self._look_up(site)
            if found is None:
                return
            state = found
        try:
            entry = self._entries[id(thing)]
        except KeyError:
            entry = self._shelf.adopt(thing, state)
        if entry.is_asked:
            self.note(thing, STRUCTURE, "update", site)
            return
        self.accesses += 1
        grown = entry.grown
        if grown is None:
            entry.grown = deque(((state, state.step, site, self._tick),), _GROWN_KEPT)
        else:
            grown.append((state, state.step, site, self._tick))

    def note(self, thing: Any, key: Any, kind: Kind, site: int) -> None:
        """Note that the running task uses a place, and judge it.

        Args:
            thing: The object.
            key: Its attribute, key or variable; equal keys are one place.
            kind: How it is used.
            site: Where.
        """
        # Written for speed, as all that a probe calls: it is most of what tracking
        # costs. A failed look-up is rare, and one that succeeds is cheaper than get().
        try:
            state = self._states[self._current[self._loops[get_ident()]]]
        except KeyError:
            found = self._look_up(site)
            if found is None:
                return
            state = found
        try:
            entry = self._entries[id(thing)]
        except KeyError:
            entry = self._shelf.adopt(thing, state)
        self.accesses += 1
        if key is STRUCTURE and not entry.is_asked:
            entry.is_asked = True
            if entry.grown is not None:
                self._shelf.catch_up(entry, entry.grown)
        if entry.owner is not state:
            self._note_shared(entry, state, key, kind, site)
            return
        # Nobody else is there: no version to keep.
        step = state.step
        before = entry.alone.get(key)
        if before is not None:
            was, _, when, where = before
            if when != step:
                opening = OPENING_OF_STRUCTURE if key is STRUCTURE else OPENING_OF_VALUE
                if kind in opening[was]:
                    self.foresight.open(entry, state, key, before, kind, site)
                kind = IN_SEQUENCE[was].get(kind, kind)
            elif was == kind:
                if where != site:
                    self._join(where, site)
                return
            elif was == "read" and kind == "write" and where == site:
                # ``a.x = a.x + 1``, in one line and one step, changes the old value.
                kind = "update"
            else:
                kind = IN_STEP[was].get(kind, kind)
            if where != site and kind not in WRITES:
                self._join(site, where)
        if kind == "show":
            return
        if entry.windows and (kind == "write" or kind == "update"):
            self.foresight.foretell(entry, state, key, kind, site)
        entry.alone[key] = ("read" if kind == "check" else kind, 0, step, site)

    def _note_shared(
        self, entry: Entry, state: TaskState, key: Any, kind: Kind, site: int
    ) -> None:
        if self._unsettled:
            self.judge.settle(state, site)
        places = entry.places
        if places is None:
            places = self._shelf.share(entry)
        place = places.get(key)
        if place is None:
            place = self._shelf.add(places, entry, key)
        uses = state.uses
        before = uses.get(place)
        step = state.step
        writer = place.writer
        if before is None:
            place.users += 1
            if entry.latest is not state:
                self._shelf.join_in(entry, state)
            if (
                writer is not None
                and kind not in WRITES
                and key is not STRUCTURE
                and not entry.is_keyed
            ):
                self.judge.suspect(state, entry, place, kind, site)
        else:
            was, version, when, where = before
            if version != place.version:
                judged = JUDGED_OF_STRUCTURE if key is STRUCTURE else JUDGED_OF_VALUE
                if (
                    kind in judged[was]
                    and writer is not None
                    and writer.user != state.user
                ):
                    self.judge.judge(state, place, before, kind, site)
            else:
                if when != step:
                    opening = (
                        OPENING_OF_STRUCTURE if key is STRUCTURE else OPENING_OF_VALUE
                    )
                    if kind in opening[was]:
                        self.foresight.open(entry, state, key, before, kind, site)
                    kind = IN_SEQUENCE[was].get(kind, kind)
                elif was == kind and kind not in WRITES:
                    if where != site:
                        self._join(where, site)
                    return
                elif was == "read" and kind == "write" and where == site:
                    # ``a.x = a.x + 1``, in one line and step, changes the old value.
                    kind = "update"
                    if state.reread:
                        self.judge.judge_reread(state, place, site)
                else:
                    kind = IN_STEP[was].get(kind, kind)
                if where != site and kind not in WRITES:
                    self._join(site, where)
        if kind == "write":
            if writer is not state and writer is not None:
                self.judge.judge_decision(state, place, site)
        elif kind != "update":
            if kind != "result":
                place.is_relied = True
            if key is STRUCTURE and kind != "size":
                if place in state.mixed:
                    self.judge.judge_mixed(state, place, site)
                if kind == "read":
                    self.judge.judge_parts(state, entry, site)
            if kind == "show":
                return
            if entry.half is not None:
                self.judge.see_half(entry.half, state, key, site)
            if kind == "check":
                kind = "read"
            uses[place] = (kind, place.version, step, site)
            return
        version = place.version = place.version + 1
        place.writer = state
        place.tick = self._tick
        if place.is_relied and place.users > 1:
            # It costs more than all the rest: only where somebody else relies on it.
            place.stack = self._stack()
        elif place.stack:
            place.stack = ()
        if entry.windows:
            self.foresight.foretell(entry, state, key, kind, site)
        uses[place] = place.written = (kind, version, step, site)

    def resume(self, value: Any, site: int) -> Any:
        """Note that an await of the running task is over; hand its value on."""
        try:
            state = self._states[self._current[self._loops[get_ident()]]]
        except KeyError:
            found = self._look_up()
            if found is None:
                return value
            state = found
        if self._unsettled:
            self.judge.settle()
        self._tick = tick = self._tick + 1
        state.step = step = state.step + 1
        state.awaits.append((tick, site))
        if state.is_due or not step % _TIDIED_EACH:
            self._tidy(state, site)
        return value

    def _tidy(self, state: TaskState, site: int) -> None:
        """Do what was left to the end of an await."""
        state.is_due = False
        state.reread.clear()
        if state.suspects:
            self.judge.convict(state)
        if state.fresh:
            for entry in state.fresh:
                if is_only_ours(entry):
                    # It was of this step only.
                    self._shelf.drop(entry)
            state.fresh.clear()
        if len(state.uses) + len(state.entries) > MOST_TOUCHED:
            self._shelf.forget(state, len(state.uses) // 2, len(state.entries) // 2)
        for source in state.waits_for.pop(site, ()):
            self.signals.hear(source)
        state.is_due = bool(state.waits_for)

    # Books.

    def _look_up(self, site: int | None = None) -> TaskState | None:
        """Return the state of the running task, and remember the loop of its thread."""
        loop = asyncio._get_running_loop()
        if loop is None:
            if site is not None and get_ident() != _MAIN:
                self.in_threads.add(site)
            return None
        self._loops[get_ident()] = loop
        task = self._current.get(loop)
        if task is None:
            return None
        return self._states.get(task) or self._begin(task)

    def _begin(self, task: asyncio.Task[Any]) -> TaskState:
        self._tasks += 1
        operation = current_operation()
        name = task.get_name() if operation is None else ""
        user = User(operation, name, current_user())
        self.has_requests |= operation is not None
        state = self._states[task] = TaskState(user, self._tasks)
        # An empty context: a copy would keep the values of this request alive.
        task.add_done_callback(self._end, context=_NO_CONTEXT)
        return state

    def _end(self, task: asyncio.Task[Any]) -> None:
        state = self._states.pop(task, None)
        if state is None:
            return
        if self._unsettled:
            self.judge.settle()
        if state.suspects:
            self.judge.convict(state)
        # Whoever awaits the task knows all that it did.
        self.signals.tell_end(task, state)
        state.is_over = True
        for place in state.uses:
            place.users -= 1
        state.uses.clear()
        self._shelf.forget(state, 0, len(state.entries))


_NO_CONTEXT: Final = contextvars.Context()


class _CurrentTask:
    """The running task, where Python has no table of them (3.14 and later)."""

    def __getitem__(self, loop: object) -> Any:
        """Return the running task.

        Raises:
            KeyError: It is outside of tasks.
        """
        task = self.get(loop)
        if task is None:
            raise KeyError(loop)
        return task

    @staticmethod
    def get(_: object) -> Any:
        """Return the running task; None outside of tasks."""
        try:
            return asyncio.current_task()
        except RuntimeError:
            return None
