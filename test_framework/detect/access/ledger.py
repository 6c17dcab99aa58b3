"""Who used what, and which uses cannot have happened one user after the other.

On one event loop all accesses are in one order, so nothing races in the sense of
threads; what goes wrong is *atomicity across an await*. So each place (an attribute of
one object, a key of one dictionary, a variable) has a version that counts its writes,
and each task remembers the version it saw last. When it comes back and another user
wrote in between, the three accesses are one of the unserialisable triples: no order of
the two users, one after the other, could have had this effect. That costs the same
per access however many users there are, and is exact for what happened.

What is not a conflict, although another user wrote:

* an ``update`` after an ``update`` (counters, ``append``): each takes the newest value;
* a place that was read again after the other's write: that is a check that holds;
* a write that its writer announced to the reader, by an event, a queue or a future,
  and that the reader waited for: the two agreed on it.

Memory is bounded. Objects are referred to weakly, plain dictionaries and lists, which
cannot be, are held until the next await, and longer only if somebody else holds them
too, until the tasks that used them end; when there are too many places
those are forgotten first that no running task has used.

Source: Lu et al., AVIO (ASPLOS 2006), for the triples; Flanagan and Freund, FastTrack
(PLDI 2009), for the same-epoch shortcut; Raychev et al., EventRacer (OOPSLA 2013), for
synchronisation by hand.
"""

import asyncio
import contextvars
import sys
import weakref
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any, Final, Literal, NamedTuple

from test_framework.detect.access.methods import STRUCTURE, Kind, category_of
from test_framework.detect.scope import current_operation

Pattern = Literal[
    "lost-update", "clobbered-write", "changed-iteration", "unrepeatable-read"
]
Stack = tuple[tuple[CodeType, int], ...]

MOST_OBJECTS: Final = 20_000
MOST_PLACES: Final = 4_096
MOST_TOUCHED: Final = 8_192
_MOST_FRAMES: Final = 16
_AWAITS_KEPT: Final = 32

# What comes of (use before, use now) when another user wrote in between. In the
# structure of a container ``read`` is a snapshot, which a later ``update`` does not
# contradict: "tell all of list(sockets), then discard mine" is right.
_OF_VALUE: Final[dict[tuple[str, str], Pattern]] = {
    ("read", "write"): "lost-update",
    ("read", "update"): "lost-update",
    ("load", "write"): "lost-update",
    ("result", "write"): "lost-update",
    ("result", "read"): "unrepeatable-read",
    ("confirmed", "write"): "lost-update",
    ("confirmed", "update"): "lost-update",
    ("confirmed", "read"): "clobbered-write",
    ("confirmed", "show"): "clobbered-write",
    ("write", "read"): "clobbered-write",
    ("write", "show"): "clobbered-write",
    ("read", "read"): "unrepeatable-read",
    ("iterate", "iterate"): "changed-iteration",
}
_ASSERTED: Final = frozenset({"write", "confirmed"})
_OF_STRUCTURE: Final[dict[tuple[str, str], Pattern]] = {
    ("read", "write"): "lost-update",
    ("result", "write"): "lost-update",
    ("size", "write"): "lost-update",
    ("size", "update"): "lost-update",
    ("confirmed", "write"): "lost-update",
    ("confirmed", "read"): "clobbered-write",
    ("confirmed", "size"): "clobbered-write",
    ("write", "read"): "clobbered-write",
    ("write", "size"): "clobbered-write",
    ("iterate", "iterate"): "changed-iteration",
}


class User(NamedTuple):
    """Whom a task works for: a request of the audit, or itself."""

    operation: int | None
    task: str

    def __str__(self) -> str:
        if self.operation is None:
            return f"task {self.task}"
        return f"request {self.operation}"


class Use(NamedTuple):
    """One access to one place.

    Attributes:
        kind: How the place was used; a ``write`` that is updated stays one.
        version: How often the place had been written when it was over.
        step: Step of the task, which counts its awaits.
        site: Number of the site.
        stack: Code and instruction of its frames, innermost first.
        user: Whom it was for.
    """

    kind: Kind
    version: int
    step: int
    site: int
    stack: Stack
    user: User


@dataclass(slots=True, eq=False)
class TaskState:
    """What one running task did and waits for.

    Attributes:
        user: Whom it works for.
        number: Counts tasks.
        step: Counts its awaits that are over.
        touched: Places that it used.
        awaits: Its latest awaits: instant of their end, and site.
        heard: Numbers of tasks that announced something to it, and their steps then.
        receivers: What a probe handed to the next one of the same expression.
        loads: Places whose new value is being awaited.
        waits_for: What it awaits.
        fresh: Objects that were held for it since its last await.
    """

    user: User
    number: int
    step: int = 0
    touched: list["Place"] = field(default_factory=list)
    awaits: list[tuple[int, int]] = field(default_factory=list)
    heard: dict[int, int] = field(default_factory=dict)
    receivers: dict[int, Any] = field(default_factory=dict)
    loads: dict[int, tuple[Any, Any]] = field(default_factory=dict)
    waits_for: dict[int, Any] = field(default_factory=dict)
    fresh: list["Entry"] = field(default_factory=list)


class Place:
    """An attribute, key or variable: how often it was written, and who saw what."""

    __slots__ = ("entry", "key", "last", "tick", "version", "write", "writer", "wrote")

    def __init__(self, entry: "Entry", key: Any) -> None:
        self.entry = entry
        self.key = key
        self.version = 0
        self.last: dict[TaskState, Use] = {}
        self.write: Use | None = None
        self.writer = 0
        self.wrote = 0
        self.tick = 0


class Entry:
    """One object and its places."""

    __slots__ = ("held", "places", "users")

    def __init__(self, held: Any) -> None:
        self.held = held
        self.places: dict[Any, Place] = {}
        self.users = 0

    @property
    def thing(self) -> Any:
        """The object; None when it is gone."""
        return self.held() if isinstance(self.held, _Reference) else self.held


@dataclass(slots=True)
class Conflict:
    """Three accesses that no order of the users explains.

    Attributes:
        pattern: Which triple they are.
        owner: Class of the object, or name of the module.
        key: The attribute, key or variable.
        is_keyed: It is a key of a container, and no name in the source.
        entry: The object.
        first: The use before.
        other: What the other user wrote.
        second: The use after.
        awaited: Site of the await that let the other in; None when not known.
        count: How often it happened.
        operations: The audit's requests it happened in.
    """

    pattern: Pattern
    owner: str
    key: Any
    is_keyed: bool
    entry: Entry
    first: Use
    other: Use
    second: Use
    awaited: int | None
    count: int = 0
    operations: set[int] = field(default_factory=set)


class _Reference(weakref.ref[Any]):
    __slots__ = ("key",)

    key: int


class Ledger:
    """Keeps the books; every probe of the rewritten modules reports here.

    Args:
        files: Paths of the watched modules, of which stacks are kept.

    Attributes:
        conflicts: What was found, by pattern and sites.
        accesses: How many uses were noted.
    """

    def __init__(self, files: AbstractSet[str]) -> None:
        self._files = files
        self.conflicts: dict[tuple[str, int, int], Conflict] = {}
        self.accesses = 0
        self._states: dict[Any, TaskState] = {}
        self._entries: dict[int, Entry] = {}
        self._signals: weakref.WeakKeyDictionary[Any, dict[int, int]]
        self._signals = weakref.WeakKeyDictionary()
        self._tasks = 0
        self._tick = 0
        self._sweep_at = 2_048
        self._current: Callable[[], Any] = _current_task_finder()

    def close(self) -> None:
        """Note nothing more, and let go of everything but the conflicts."""
        self._current = lambda: None
        self._states.clear()
        self._entries.clear()

    def state(self) -> TaskState | None:
        """Return the state of the running task; None outside of tasks."""
        task = self._current()
        if task is None:
            return None
        return self._states.get(task) or self._begin(task)

    def note(self, thing: Any, key: Any, kind: Kind, site: int) -> None:
        """Note that the running task uses a place, and judge it.

        Args:
            thing: The object.
            key: Its attribute, key or variable; equal keys are one place.
            kind: How it is used.
            site: Where.
        """
        task = self._current()
        if task is None:
            return
        state = self._states.get(task) or self._begin(task)
        entry = self._entries.get(id(thing)) or self._adopt(thing, state)
        place = entry.places.get(key) or self._add(entry, key)
        before = place.last.get(state)
        version = place.version
        is_write = kind == "write" or kind == "update"
        if before is None:
            state.touched.append(place)
            entry.users += 1
        elif before.version == version:
            # Nobody wrote since. A value that is shown relies on nothing, one that is
            # seen again adds nothing, and what was put and then changed is still known.
            if kind == "show" or (
                kind == before.kind and before.step == state.step and not is_write
            ):
                return
            kind = _in_sequence(before, kind, state.step, site)
        elif place.write is not None and place.write.user != state.user:
            self._judge(state, place, before, kind, site)
        if kind == "show":
            return
        if kind == "check":
            kind = "read"
        self.accesses += 1
        if is_write:
            self._tick += 1
            place.version = version = version + 1
        use = Use(
            kind, version, state.step, site, self._stack(sys._getframe(2)), state.user
        )
        if is_write:
            place.write = use
            place.writer = state.number
            place.wrote = state.step
            place.tick = self._tick
        place.last[state] = use

    def resume(self, site: int) -> None:
        """Note that an await of the running task is over."""
        state = self.state()
        if state is None:
            return
        self._tick += 1
        state.step += 1
        awaits = state.awaits
        awaits.append((self._tick, site))
        if len(awaits) > 2 * _AWAITS_KEPT:
            del awaits[:_AWAITS_KEPT]
        if state.fresh:
            for entry in state.fresh:
                # Our entry and the argument: it was of this step only.
                if sys.getrefcount(entry.held) <= 2:
                    self._drop(entry)
            state.fresh.clear()
        if len(state.touched) > MOST_TOUCHED:
            self._forget(state, MOST_TOUCHED // 2)
        if site in state.waits_for:
            self.hear(state.waits_for.pop(site))

    def signal(self, source: Any) -> None:
        """Note that the running task announces what it did so far."""
        state = self.state()
        if state is not None:
            self._signals.setdefault(source, {})[state.number] = state.step

    def hear(self, source: Any) -> None:
        """Note that the running task waited for an announcement."""
        state = self.state()
        if state is None:
            return
        state.heard.update(self._signals.get(source, {}))
        ended = self._states.get(source)
        if ended is not None:
            # A task that is done, of whose end we are told after its waiter.
            state.heard[ended.number] = ended.step
        for part in getattr(source, "_children", ()):
            # Of asyncio.gather.
            self.hear(part)

    def knows(self, thing: Any, key: Any) -> bool:
        """Whether a place was ever used."""
        entry = self._entries.get(id(thing))
        return entry is not None and key in entry.places

    def _judge(
        self, state: TaskState, place: Place, before: Use, kind: Kind, site: int
    ) -> None:
        other = place.write
        patterns = _OF_STRUCTURE if place.key is STRUCTURE else _OF_VALUE
        pattern = patterns.get((before.kind, kind))
        if pattern is None or other is None:
            return
        if pattern == "unrepeatable-read" and before.site == site:
            # The same question asked anew, as in a loop, wants the newest answer.
            return
        if state.heard.get(place.writer, -1) >= place.wrote:
            return
        cause = (pattern, before.site, site)
        found = self.conflicts.get(cause)
        if found is None:
            stack = self._stack(sys._getframe(3))
            found = self.conflicts[cause] = Conflict(
                pattern,
                _owner_of(place.entry.thing),
                place.key,
                category_of(type(place.entry.thing)) is not None,
                place.entry,
                before,
                other,
                Use(kind, place.version, state.step, site, stack, state.user),
                _await_between(state, place),
            )
        found.count += 1
        found.operations.update(
            user.operation
            for user in (state.user, other.user)
            if user.operation is not None
        )

    def _begin(self, task: asyncio.Task[Any]) -> TaskState:
        self._tasks += 1
        # The operation is that of the context in which the task runs right now.
        user = User(current_operation(), task.get_name())
        if user.operation is not None:
            user = User(user.operation, "")
        state = self._states[task] = TaskState(user, self._tasks)
        # An empty context: a copy would keep the values of this request alive.
        task.add_done_callback(self._end, context=contextvars.Context())
        return state

    def _end(self, task: asyncio.Task[Any]) -> None:
        state = self._states.pop(task, None)
        if state is not None:
            # Whoever awaits the task knows all that it did.
            self._signals[task] = {state.number: state.step}
            self._forget(state, len(state.touched))

    def _forget(self, state: TaskState, count: int) -> None:
        """Give up the places that a task used first."""
        for place in state.touched[:count]:
            entry = place.entry
            if place.last.pop(state, None) is not None:
                entry.users -= 1
            if entry.users == 0 and not isinstance(entry.held, _Reference):
                self._drop(entry)
        del state.touched[:count]

    def _drop(self, entry: Entry) -> None:
        if self._entries.get(id(entry.held)) is entry:
            del self._entries[id(entry.held)]
        # Its places may still be known to tasks: they must not keep it alive.
        entry.held = None

    def _adopt(self, thing: Any, state: TaskState) -> Entry:
        key = id(thing)
        try:
            held: Any = _Reference(thing, self._gone)
            held.key = key
        except TypeError:
            held = thing
        entry = self._entries[key] = Entry(held)
        if held is thing:
            state.fresh.append(entry)
        if len(self._entries) > self._sweep_at:
            self._sweep()
        return entry

    def _gone(self, reference: _Reference) -> None:
        entry = self._entries.get(reference.key)
        if entry is not None and entry.held is reference:
            del self._entries[reference.key]

    def _sweep(self) -> None:
        """Forget what only we hold, and the oldest of what nobody uses."""
        entries = self._entries
        for entry in list(entries.values()):
            is_held = not isinstance(entry.held, _Reference)
            # Our entry and the argument of getrefcount.
            if is_held and sys.getrefcount(entry.held) <= 2:
                self._drop(entry)
        if len(entries) > MOST_OBJECTS:
            idle = [key for key, entry in entries.items() if entry.users == 0]
            for key in (idle or list(entries))[: MOST_OBJECTS // 2]:
                entries.pop(key, None)
        self._sweep_at = max(2_048, 2 * len(entries))

    def _stack(self, frame: FrameType | None) -> Stack:
        """Return the service's innermost frames, without keeping their locals alive."""
        files = self._files
        while frame is not None and frame.f_code.co_filename not in files:
            frame = frame.f_back
        stack: list[tuple[CodeType, int]] = []
        while frame is not None and frame.f_code.co_filename in files:
            stack.append((frame.f_code, frame.f_lasti))
            frame = frame.f_back
        return tuple(stack[:_MOST_FRAMES])

    @staticmethod
    def _add(entry: Entry, key: Any) -> Place:
        if len(entry.places) >= MOST_PLACES:
            for old in [key for key, one in entry.places.items() if not one.last]:
                del entry.places[old]
        place = entry.places[key] = Place(entry, key)
        return place


def _in_sequence(before: Use, kind: Kind, step: int, site: int) -> Kind:
    """Return what a use comes to right after another one of the same task."""
    if before.kind in _ASSERTED:
        if kind == "read" or kind == "check":
            return "confirmed"
        if kind == "update":
            return "write"
    is_seen = kind == "read" or kind == "size"
    if is_seen and before.kind == "update" and before.step == step:
        # "append, and if there are enough of them": no limit that was looked up.
        return "result"
    if kind == "write" and before[:1] == ("read",) and before[2:4] == (step, site):
        # ``a.x = a.x + 1``, in one line and one step, changes the old value.
        return "update"
    return kind


def _await_between(state: TaskState, place: Place) -> int | None:
    """Return the innermost await that began before the other's write and ended after."""
    return next((site for tick, site in state.awaits if tick > place.tick), None)


def _owner_of(thing: Any) -> str:
    if isinstance(thing, type):
        return thing.__qualname__
    name = getattr(thing, "__name__", None)
    if type(thing).__name__ == "module" and isinstance(name, str):
        return name
    return type(thing).__qualname__


def _current_task_finder() -> Callable[[], Any]:
    """Return the quickest way to the running task of this Python."""
    if sys.version_info >= (3, 12):
        # Written in C; raises outside of a loop.
        current = asyncio.current_task

        def find() -> Any:
            try:
                return current()
            except RuntimeError:
                return None

        return find
    running, tasks = asyncio._get_running_loop, asyncio.tasks._current_tasks  # type: ignore[attr-defined]  # CPython 3.11

    return lambda: tasks.get(running())
