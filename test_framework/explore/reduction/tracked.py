"""What the steps of one run do to shared state, as the run goes.

A step is what a task does from one suspension to the next, with the callbacks that it
causes; an answer or a job from outside is a step too. The recorder gives it its
accesses and hands it to ``HappensBefore``.

A step that only comes to wait (for a task, for a held lock) and did nothing before is
no step: the task counts as not ready until it can go on. That is right only while all
who share a lock come to it that way, for then every order of its queue is one that the
orders of such steps can make. Else the recorder asks for a strict repetition, in which
every step counts and locks queue as they do in asyncio.

Objects are numbered by who made them, never by address nor by who meets them: equal
runs must use equal numbers, or locations are merged or parted in silence.
"""

import asyncio
from collections.abc import Callable, Hashable
from enum import Enum
from typing import TYPE_CHECKING, Any

from test_framework.explore.reduction.happens_before import (
    ALL_STEPS,
    Event,
    HappensBefore,
)

if TYPE_CHECKING:
    from test_framework.explore.loop import ExplorationLoop

_RawFuture = asyncio.Future  # while runs are tracked, the name means another class
_is_done = asyncio.Future.done
_PLAIN_KEYS = (str, bytes, int, type(None), Enum)

Path = tuple[Hashable, ...]


class _Waiting:
    """A task whose last step only came to wait; the step is undone."""

    __slots__ = ("guards", "lock", "wakers")

    def __init__(self, wakers: int, guards: int, lock: Any) -> None:
        self.wakers = wakers
        self.guards = guards
        self.lock = lock


class Recorder:
    """Keeps the steps of one run after the other.

    Processes and locations are numbered once for all runs.

    Attributes:
        order: The steps of the run and their order.
        events: Those steps, without those that only came to wait.
        is_open: A step is being made.
        is_strict: Every step counts, and locks queue.
        needs_strict: The run showed that only a strict repetition is right.
        refusal: Why no proof by classes is possible; empty when it is.
        names: What was registered, by name.
        sleeping: Steps that are explored already and conflict with none since.
        blocked: Option and lock of every task that waits for a lock at the end.
        left: Options that could have gone when the run ended.
        is_redundant: All that can follow was explored already.
        is_muted: What is used meanwhile is no access of the step.
    """

    def __init__(self) -> None:
        self.is_strict = False
        self.refusal = ""
        self.names: dict[str, None] = {}
        self._paths: dict[Path, int] = {}
        self._locations: dict[Hashable, int] = {}
        self._strangers: dict[int, tuple[Any, Path]] = {}
        self.loop: ExplorationLoop | None = None
        self._takers: dict[int, set[int]] = {}
        self._late_taken: set[int] = set()
        self.begin_run(0, {})

    # -- one run -------------------------------------------------------------------

    def begin_run(self, awake: int, sleeping: dict[int, Event]) -> None:
        """Forget the last run.

        Args:
            awake: Index of the first step that is compared with those that sleep.
            sleeping: Steps, by process, that are explored already at that point.
        """
        self.order = HappensBefore()
        self.events = self.order.events
        self.is_open = False
        self.needs_strict = False
        self._assumed = 0
        self._changed = 0
        self.awake = awake
        self.sleeping = sleeping
        self.blocked: list[tuple[int, int]] = []
        self.left: list[int] = []
        self.is_redundant = False
        self.processes: dict[int, int] = {}
        self.waiting: dict[int, _Waiting] = {}
        self._is_over = False
        self._wakers: dict[int, int] = {}
        self._children: dict[int, int] = {}
        self._made: dict[int, int] = {}
        self._objects: dict[int, tuple[Any, Path]] = {}
        self._bits: dict[tuple[int, Hashable], int] = {}
        self._own: dict[int, int] = {}
        self._acquired: dict[int, int] = {}
        self._gates: dict[int, list[asyncio.Future[None]]] = {}
        self._also_waking = 0
        self.is_muted = False
        self._looked_at = 0
        self._clear(0)

    def _clear(self, number: int) -> None:
        self.number = number
        self._reads = self._writes = self._joins = self._guards = 0
        self._lock_bit = 0
        self._holder = -1
        self._parked: Any = None
        self._has_effect = False
        self._looked_after = 0
        self._is_stepped = False
        self._step_wakers = 0

    def begin(self, number: int) -> None:
        """Begin a step of a task or an event from outside; the last one is over."""
        self.close(number)
        if self._is_over:
            return
        if self.sleeping and len(self.events) >= self.awake:
            process = self.processes[number]
            if process in self.sleeping and not self.is_blocked(number):
                self.is_redundant = True
        self._clear(number)
        self._step_wakers = self._wakers.pop(number, 0)
        waited = self.waiting.pop(number, None)
        if waited is not None:
            # Woken from a lock: it would have been ready all the time.
            if waited.lock is not None:
                self._step_wakers = 0
            self._step_wakers |= waited.wakers
            self._guards = waited.guards
        if self.loop is not None and self.loop._callbacks:
            # It is this step that the callbacks left by the last one wait for.
            self._writes = ALL_STEPS
        self.is_open = True

    def stepped(self, check: Callable[[int], None] | None, number: int) -> None:
        """Note that a task has made its step; its callbacks are to come.

        Args:
            check: Looks at the invariants; its reads are no accesses of the step.
            number: Option that went.
        """
        if check is not None:
            self._look(check, number)
        self._is_stepped = True

    def called_soon(self) -> None:
        """Note that a callback was queued."""
        if self._is_stepped:
            self._writes |= ALL_STEPS

    def close(self, following: int | None = None) -> None:
        """End the step, if one is open, and order it among those before.

        Args:
            following: Option that goes next, when that is known.
        """
        if not self.is_open:
            return
        self.is_open = False
        number = self.number
        reads, writes = self._reads | self._guards | ALL_STEPS, self._writes
        if writes & self._looked_at:
            # Invariants see every state that such steps make, so their order matters.
            reads |= self._looked_at
            if writes & self._looked_at & ~self._looked_after:
                self.refuse(
                    "an invariant looks at what callbacks or executor jobs change"
                )
        if number >= 0:
            loop = self.loop
            if TYPE_CHECKING:
                assert loop is not None  # for the type checker
            own = self._own[number]
            task = loop.tasks[number]
            waiter = getattr(task, "_fut_waiter", None)
            if type(waiter) is _RawFuture and self._parked is None:
                self.refuse("it awaits a future that is not of the loop")
            if _is_done(task):
                writes |= own
                if number == 0:
                    writes |= ALL_STEPS
            elif (
                not self.is_strict
                and not self.is_dirty
                and number != following
                and number not in loop._options
            ):
                self.waiting[number] = _Waiting(
                    self._step_wakers, self._guards, self._parked
                )
                return
            reads |= own
        index = len(self.events)
        event = Event(self.processes[number], number, index, reads, writes, self._joins)
        self.order.add(
            event, self._step_wakers, self._guards, self._lock_bit, self._holder
        )
        if self.sleeping and event.index >= self.awake:
            self.sleeping = {
                process: other
                for process, other in self.sleeping.items()
                if not other.conflicts(event)
            }

    def end(self) -> None:
        """End the run: main is done, or nothing can go."""
        self.close()
        if self._is_over:
            return
        self._is_over = True
        loop = self.loop
        if TYPE_CHECKING:
            assert loop is not None  # for the type checker
        order = self.order
        self.left = [number for number in loop._options if not self.is_blocked(number)]
        for number, waited in self.waiting.items():
            if waited.lock is not None and self._is_held(waited.lock):
                holder = self._acquired.get(self.bit(waited.lock), -1)
                firm = waited.wakers | order.contributors(waited.guards)
                firm |= order.steps_of(self.processes[number])
                if holder >= 0 and not order.closure(firm) >> holder & 1:
                    self.blocked.append((number, holder))

    # -- processes -----------------------------------------------------------------

    def spawned(self, number: int, task: Any = None) -> None:
        """Note that the step made a task, or an event from outside if it is None."""
        creator = self.processes[self.number] if self.is_open else -1
        count = self._children.get(creator, 0)
        self._children[creator] = count + 1
        path = (creator, count)
        process = self._paths.get(path)
        if process is None:
            process = self._paths[path] = len(self._paths)
        self.processes[number] = process
        self._wakers[number] = 1 << len(self.events) if self.is_open else 0
        if task is not None:
            own = self.location(("task", process))
            self._own[number] = self._bits[id(task), None] = own
        self._has_effect = True

    def woke(self, number: int) -> None:
        """Note that a task can go on because of this step."""
        if self.is_open:
            self._wakers[number] = 1 << len(self.events) | self._also_waking

    # -- accesses --------------------------------------------------------------------

    @property
    def is_dirty(self) -> bool:
        """Whether the open step did anything but pass guards."""
        return bool(self._reads or self._writes or self._joins or self._has_effect)

    def location(self, key: Hashable) -> int:
        """Return the bit of a location that has a name of its own."""
        index = self._locations.get(key)
        if index is None:
            index = self._locations[key] = len(self._locations) + 1
        return 1 << index

    def bit(self, thing: Any, key: Hashable = None) -> int:
        """Return the bit of a part of an object, or of all of it."""
        found = self._bits.get((id(thing), key))
        if found is None:
            path = self.path_of(thing)
            # A key that hashes by its address would differ from run to run.
            name = key if is_plain(key) else None
            found = self.location((path, name))
            self._bits[id(thing), key] = found
        return found

    def path_of(self, thing: Any) -> Path:
        """Return the number of an object that was numbered when it was made."""
        known = self._objects.get(id(thing)) or self._strangers.get(id(thing))
        if known is None:
            # By whom it is met first differs from run to run.
            self.refuse(f"it uses a {type(thing).__name__} whose making was not seen")
            return self.made(thing)
        return known[1]

    def made(self, thing: Any) -> Path:
        """Number an object: who made it, and how many that one had made before."""
        creator = self.processes[self.number] if self.is_open else -1
        count = self._made.get(creator, 0)
        self._made[creator] = count + 1
        # The object is kept, or its address might be used again.
        self._objects[id(thing)] = (thing, (creator, count))
        return creator, count

    def closure(self, thing: Any) -> None:
        """Number what keeps state for callbacks, unless it is numbered."""
        if id(thing) not in self._objects and id(thing) not in self._strangers:
            self.made(thing)

    def met(self, thing: Any) -> None:
        """Number an object that may be older than the run, once for all runs."""
        if id(thing) not in self._objects and id(thing) not in self._strangers:
            self._strangers[id(thing)] = (thing, ("stranger", len(self._strangers)))

    def read(self, bit: int) -> None:
        """Note a read."""
        if not self.is_muted:
            self._reads |= bit

    def write(self, bit: int) -> None:
        """Note a write."""
        if not self.is_muted:
            self._writes |= bit
            self._changed |= bit
            if bit & self._assumed:
                self.needs_strict = True

    def read_lock(self, bit: int) -> None:
        """Note that a lock was read from where it is kept, such as an attribute.

        Nearly always it stays there from the beginning; then to read it conflicts with
        nothing, and whoever goes on to wait for it has made no step yet.
        """
        if self.is_strict or bit & self._changed:
            self.read(bit)
        elif not self.is_muted:
            self._assumed |= bit

    def awaits(self, future: Any) -> None:
        """Note that the task goes on only when a future is done."""
        if self.is_muted:
            return
        if self.is_strict or self.is_dirty:
            self._reads |= self.bit(future)
        else:
            self._guards |= self.bit(future)

    def _look(self, check: Callable[[int], None], number: int) -> None:
        kept = self._reads, self._writes, self._joins, self._guards, self._has_effect
        self._reads = 0
        try:
            check(number)
        finally:
            self._looked_at |= self._reads
            self._reads, self._writes, self._joins, self._guards, self._has_effect = (
                kept
            )
            self._looked_after = self._writes

    def begin_join(self, bit: int) -> None:
        """Contribute to a result; what that wakes was woken by all contributors."""
        self._joins |= bit
        self._also_waking = self.order.contributors(bit)
        self.is_muted = True

    def end_join(self) -> None:
        """End a contribution."""
        self.is_muted = False
        self._also_waking = 0

    # -- locks -----------------------------------------------------------------------

    def must_park(self, lock: Any) -> bool:
        """Tell whether the task has to wait for a lock, as if it were not ready."""
        if not self.is_open or self.is_strict or self.needs_strict:
            return False
        self.met(lock)
        bit = self.bit(lock)
        takers = self._takers.setdefault(bit, set())
        takers.add(self.processes[self.number])
        if self.is_dirty:
            self._late_taken.add(bit)
        if bit in self._late_taken and len(takers) > 1:
            self.needs_strict = True
            return False
        if self._is_held(lock):
            self._parked = lock
            return True
        if not self.is_dirty:
            self._lock_bit = bit
            self._holder = self._acquired.get(bit, -1)
        return False

    def gate(self, lock: Any, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """Return a future that is done when the lock was released."""
        future: asyncio.Future[None] = _RawFuture(loop=loop)
        self._gates.setdefault(id(lock), []).append(future)
        return future

    def acquired(self, lock: Any) -> None:
        """Note that the step took a lock."""
        if self.is_open:
            self._parked = None
            self._acquired[self.bit(lock)] = len(self.events)

    def released(self, lock: Any) -> None:
        """Let those who wait for a lock try again."""
        for future in self._gates.pop(id(lock), ()):
            if not future.done():
                future.set_result(None)

    def _is_held(self, lock: Any) -> bool:
        inside = object.__getattribute__(lock, "__dict__")
        return bool(inside["_locked"])

    def is_blocked(self, number: int) -> bool:
        """Tell whether a task is ready only to find its lock held."""
        waited = self.waiting.get(number)
        return (
            waited is not None
            and waited.lock is not None
            and self._is_held(waited.lock)
        )

    def cancelling(self, number: int) -> None:
        """Note that a task is cancelled: where it waits matters after all."""
        if number in self.waiting:
            self.needs_strict = True

    def refuse(self, reason: str) -> None:
        """Note why no proof by classes is possible; the first reason is kept."""
        self.refusal = self.refusal or reason


class RedundantError(SystemExit):
    """Raised to end a run all of whose continuations were explored already."""


def is_plain(key: object) -> bool:
    """Tell whether a key is equal to itself in every run."""
    if isinstance(key, tuple):
        return all(is_plain(item) for item in key)
    return isinstance(key, _PLAIN_KEYS)
