"""Who holds what and who waits for what: the state that every patch writes into.

A ``Resource`` is anything that a task can have and another must wait for: a lock, the
permits of a semaphore, the connections of a pool. A ``Hold`` is one unit of it in the
hands of one task. Each is dropped with the object it stands for: the record of a lock
lives in the lock's own ``__dict__``, and a record never refers to its lock.
"""

import asyncio
import itertools
import math
import time
import weakref
from types import CodeType
from typing import Any, NamedTuple, Self

from test_framework.detect.locks.stacks import Place, name_of
from test_framework.detect.scope import current_operation

ATTRIBUTE = "_watched_resource"
"""Where a lock keeps its record."""

_serials = itertools.count(1)


class LockClass:
    """All locks that one line of the program makes, as in Linux's lockdep.

    Attributes:
        kind: Name of their type.
        place: The line that makes them; None for what was made before the watch.
        after: Classes that were acquired while one of this class was held.
        is_sorted: Its locks are declared to be taken in one order, so several of
            them may be held at once.
    """

    __slots__ = ("after", "is_sorted", "kind", "place")

    def __init__(self, kind: str, place: Place | None) -> None:
        self.kind = kind
        self.place = place
        self.after: dict[LockClass, Edge] = {}
        self.is_sorted = False

    def __str__(self) -> str:
        if self.place is None:
            return f"{self.kind} made before the watch began"
        return f"{self.kind} made at {self.place}"


class Resource:
    """One lock, semaphore or pool.

    Attributes:
        ledger: The books it stands in; a lock may outlive its watch.
        lock_class: What it has in common with others of its line.
        serial: Tells it from others of its class.
        capacity: How many may hold it; None when it is not known.
        settled: Serials of what was acquired after it and needs no second thought.
        holders: Who holds it now.
        after: Resources that were acquired while this one was held.
        is_signal: It is released by whoever comes, so holders say nothing: a semaphore
            that one task waits on and another one opens.
        name: How its server calls it; empty for what has no name.
        is_handed_over: Somebody released it whom it did not belong to, and may again.
        is_pool: Its units are given back by anybody.
        is_polled: Who wants it asks again and again; between two questions it sleeps.
        is_keyed: Its class says nothing, since the function that acquires it makes it.
        key: Its rank among those it is sorted with; None if none was declared.
    """

    __slots__ = (
        "__weakref__",
        "after",
        "capacity",
        "holders",
        "is_handed_over",
        "is_keyed",
        "is_polled",
        "is_pool",
        "is_signal",
        "key",
        "ledger",
        "lock_class",
        "name",
        "serial",
        "settled",
    )

    def __init__(
        self,
        ledger: "Ledger",
        lock_class: LockClass,
        capacity: int | None,
        *,
        is_pool: bool = False,
    ) -> None:
        self.ledger = ledger
        self.lock_class = lock_class
        self.serial = next(_serials)
        self.capacity = capacity
        self.holders: list[Hold] = []
        # An order between locks that are gone says nothing about those to come.
        self.after: weakref.WeakKeyDictionary[Resource, Edge] = (
            weakref.WeakKeyDictionary()
        )
        self.is_signal = False
        self.is_handed_over = False
        self.is_pool = is_pool
        self.is_polled = False
        self.is_keyed = False
        self.settled: set[int] = set()
        self.key: Any = None
        self.name = ""

    @property
    def is_exclusive(self) -> bool:
        """Whether at most one task holds it."""
        return self.capacity == 1

    def __str__(self) -> str:
        if self.name:
            return f"{self.lock_class.kind} {self.name!r}"
        if self.is_pool:
            size = "any size" if self.capacity is None else f"size {self.capacity}"
            return f"{self.lock_class.kind} #{self.serial} ({size})"
        where = self.lock_class.place or "made before the watch began"
        return f"{self.lock_class.kind} #{self.serial} ({where})"


class _Fields(NamedTuple):
    resource: Resource
    task: asyncio.Task[Any]
    code: CodeType
    offset: int
    since_s: float


class Hold(_Fields):
    """One unit of a resource in the hands of a task.

    A tuple, since an acquire makes one: twice as quick as an object with slots. It
    is still equal to nothing but itself.

    Attributes:
        resource: What is held.
        task: Who holds it.
        code: The function that acquired it.
        offset: The instruction of it.
        since_s: When, on the monotonic clock.
        token: What tells this unit of a pool from others.
        until_s: When it runs out by itself, on the monotonic clock.
        is_carried: A task that did nothing else acquired it for somebody unknown.
    """

    __slots__ = ()

    token: object = None
    until_s = math.inf
    is_carried = False

    __eq__ = object.__eq__
    __ne__ = object.__ne__
    __hash__ = object.__hash__

    @property
    def place(self) -> Place:
        """Where it was acquired."""
        return Place(self.code, self.offset)


class Carried(Hold):
    """A lock that ``asyncio.create_task(lock.acquire())`` took."""

    __slots__ = ()
    is_carried = True


class Unit(Hold):
    """A connection of a pool, or a lease."""

    @classmethod
    def of(
        cls, resource: Resource, task: asyncio.Task[Any], place: Place, token: object
    ) -> Self:
        """Return a unit that a task has from now on.

        Args:
            resource: What it is of.
            task: Who has it.
            place: Where it was asked for.
            token: Tells it from others.
        """
        made = cls(resource, task, place.code, place.offset, time.monotonic())
        made.token = token
        return made


class Wait:
    """A task that waits for a unit of a resource.

    Attributes:
        resource: What it waits for.
        task: Who waits.
        code: The function that asked for it.
        offset: The instruction of it.
        since_s: When it began, on the monotonic clock.
        operation: The audit's request that waits; None outside of any.
        seen: Line at which each holder that awaited something stood when it began.
        until_s: Who polls has given up when it has not asked again by then, on the
            monotonic clock.
    """

    __slots__ = (
        "code",
        "offset",
        "operation",
        "resource",
        "seen",
        "since_s",
        "task",
        "until_s",
    )

    def __init__(
        self,
        resource: Resource,
        task: asyncio.Task[Any],
        code: CodeType,
        offset: int,
    ) -> None:
        self.resource = resource
        self.task = task
        self.code = code
        self.offset = offset
        self.since_s = time.monotonic()
        self.operation = current_operation()
        self.seen: tuple[tuple[Hold, Place], ...] = ()
        self.until_s = math.inf

    @property
    def place(self) -> Place:
        """Where it was asked for."""
        return Place(self.code, self.offset)


class Edge:
    """Somebody acquired one thing while holding another: the first who did.

    Attributes:
        task: Name of the task.
        actor: The task, while it lives; None when another one did the same since.
        held_at: Where it had acquired the first.
        asked_at: Where it asked for the second.
        guards: Serials of exclusive locks that were always held around both; two
            orders under one guard cannot deadlock (the gate locks of Goodlock).
    """

    __slots__ = ("actor", "asked_at", "guards", "held_at", "task")

    def __init__(
        self,
        task: asyncio.Task[Any],
        held_at: Place,
        asked_at: Place,
        guards: frozenset[int],
    ) -> None:
        self.task = name_of(task)
        self.actor: weakref.ref[asyncio.Task[Any]] | None = weakref.ref(task)
        self.held_at = held_at
        self.asked_at = asked_at
        self.guards = guards

    def learn(self, other: "Edge") -> bool:
        """Add what another sighting says; tell whether it says anything new."""
        guards = self.guards & other.guards
        is_new = guards != self.guards
        self.guards = guards
        if self.actor is not None and self.actor is not other.actor:
            self.actor = None
            is_new = True
        return is_new


class Ledger:
    """The books of one watch.

    Attributes:
        is_open: The watch is on; patched objects outlive it and must be quiet then.
        held_by: What each task holds, oldest first; tasks without any are left out.
        waits: What each blocked task waits for.
    """

    def __init__(self) -> None:
        self.is_open = False
        self.held_by: dict[asyncio.Task[Any], list[Hold]] = {}
        self.waits: dict[asyncio.Task[Any], Wait] = {}
        self._classes: dict[tuple[str, Place | None], LockClass] = {}

    def lock_class(self, kind: str, place: Place | None) -> LockClass:
        """Return the class of what is made at a place."""
        found = self._classes.get((kind, place))
        if found is None:
            found = self._classes[kind, place] = LockClass(kind, place)
        return found

    def give(self, hold: Hold) -> None:
        """Enter a hold."""
        hold.resource.holders.append(hold)
        self.held_by.setdefault(hold.task, []).append(hold)

    def expire(self, resource: Resource) -> None:
        """Strike the holds of a resource that have run out."""
        now_s = time.monotonic()
        for hold in [one for one in resource.holders if one.until_s <= now_s]:
            self.take(hold)

    def take(self, hold: Hold) -> None:
        """Strike a hold; nothing happens when it was struck before."""
        if hold in hold.resource.holders:
            hold.resource.holders.remove(hold)
        held = self.held_by.get(hold.task)
        if held and hold in held:
            held.remove(hold)
            if not held:
                del self.held_by[hold.task]
