"""What happens beside the fast path: waits, strangers, long holds.

Patches call in here when a task has to wait, already holds something, or releases what
it does not hold; everything costs microseconds then, not nanoseconds.
"""

import asyncio
import contextlib
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import CodeType
from typing import Any

from test_framework.detect.locks.alarms import Alarms, Cause
from test_framework.detect.locks.ledger import (
    ATTRIBUTE,
    Hold,
    Ledger,
    Resource,
    Unit,
    Wait,
)
from test_framework.detect.locks.limits import Limits
from test_framework.detect.locks.order import observe
from test_framework.detect.locks.ranks import rank_of
from test_framework.detect.locks.stacks import (
    Place,
    calling_place,
    current_task,
    is_driver,
    is_installed,
    name_of,
    own_place,
    stand_of,
)
from test_framework.detect.locks.stalls import (
    Outside,
    circles,
    is_waiting,
    runs,
    stuck_tasks,
    tell_deadlock,
    tell_stall,
)
from test_framework.detect.locks.timers import gives_up_in

MAX_SEEN = 4
"""Holders of a pool whose lines are kept for each wait."""

Partners = dict[int | None, "weakref.ref[asyncio.Task[Any]] | None"]
"""Tasks by their id; None stands for a callback."""

MAX_PARTNERS = 64
"""Tasks that are remembered for each end of a queue before the ended ones are dropped."""


@dataclass(slots=True)
class Counts:
    """What was watched, for the coverage."""

    locks: int = 0
    pools: int = 0
    leases: int = 0
    waits: int = 0


class Watch:
    """The books, the alarms and the rules between them.

    Args:
        limits: From when on something is worth an alarm.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.ledger = Ledger()
        self.alarms = Alarms()
        self.counts = Counts()
        self._standing: dict[asyncio.Task[Any], Cause] = {}

    def enrol(self, lock: Any, place: Place | None) -> Resource:
        """Give a lock or semaphore its record.

        Args:
            lock: It.
            place: The line that makes it; None for one made before the watch began.
        """
        self.counts.locks += 1
        lock_class = self.ledger.lock_class(type(lock).__name__, place)
        sorted_classes = self.limits.sorted_classes
        # A line is looked up for each lock only if there are lines to compare it with.
        if sorted_classes and str(place) in sorted_classes:
            lock_class.is_sorted = True
        resource = Resource(self.ledger, lock_class, self._capacity(lock, place))
        resource.key = rank_of(lock)
        resource.is_keyed = place is None
        setattr(lock, ATTRIBUTE, resource)
        return resource

    def adopt(self, lock: Any) -> Resource:
        """Give a record to a lock that was made before this watch, or in an earlier one.

        Who holds it then is not known; the line that made it is if there was a watch.
        """
        earlier: Resource | None = getattr(lock, ATTRIBUTE, None)
        if earlier is None:
            return self.enrol(lock, None)
        resource = self.enrol(lock, earlier.lock_class.place)
        resource.capacity = earlier.capacity
        return resource

    def enrol_pool(self, kind: str, capacity: int | None) -> Resource:
        """Return the record of a pool.

        Args:
            kind: Name of its type.
            capacity: How many connections it has at most; None for any number.
        """
        self.counts.pools += 1
        resource = Resource(
            self.ledger, self.ledger.lock_class(kind, None), capacity, is_pool=True
        )
        resource.is_keyed = True
        return resource

    def enrol_lease(self, name: str) -> Resource:
        """Return the record of a lease of Redis.

        Args:
            name: Its key.
        """
        self.counts.leases += 1
        resource = Resource(
            self.ledger, self.ledger.lock_class("Redis lease", None), 1, is_pool=True
        )
        resource.is_keyed = True
        resource.name = name
        return resource

    @staticmethod
    def _capacity(lock: Any, place: Place | None) -> int | None:
        if isinstance(lock, asyncio.Lock):
            return 1
        # How many permits of an older semaphore were out is not known.
        return None if place is None else int(lock._value)  # says nowhere else

    def nested(
        self,
        held: list[Hold],
        resource: Resource,
        task: asyncio.Task[Any],
        code: CodeType,
        offset: int,
    ) -> None:
        """A task that holds something asks for something."""
        made = resource.lock_class.place
        if made is not None and made.code is code:
            resource.is_keyed = True
        observe(self.alarms, held, resource, task, code, offset)

    def block(
        self,
        resource: Resource,
        task: asyncio.Task[Any],
        code: CodeType,
        offset: int,
    ) -> Wait | None:
        """A task is about to wait; None when it already waits for more than this."""
        ledger = self.ledger
        known = ledger.waits.get(task)
        # Who asks for something else is not about to ask again for what it polls.
        if known is not None and not known.resource.is_polled:
            return None
        self.counts.waits += 1
        if is_installed(code) and task is current_task():
            own = own_place(task)
            code, offset = own.code, own.offset
        wait = ledger.waits[task] = Wait(resource, task, code, offset)
        for hold in resource.holders:
            if runs(ledger, hold.task):
                return wait  # the common case: one that is to give it back goes on
        wait.seen = tuple(
            (hold, place)
            for hold in resource.holders[:MAX_SEEN]
            if hold.task not in ledger.waits
            and (place := stand_of(hold.task))
            # Who has a connection has it to talk to the server.
            and not (resource.is_pool and is_driver(place.code))
        )
        stuck = stuck_tasks(ledger, [task], {})
        for circle in circles(stuck):
            cause = tell_deadlock(self.alarms, ledger, circle, stuck)
            for party in circle:
                self._standing[party] = cause
        return wait

    @contextlib.contextmanager
    def asking(
        self, resource: Resource, *, is_full: bool
    ) -> Iterator[Callable[[object], None]]:
        """Keep the books around a checkout from a pool, or the like.

        Args:
            resource: What a unit is taken of.
            is_full: None is to be had at once.

        Yields:
            What to call with the unit when it is there; without, none was got.
        """
        task = current_task()
        if task is None or not self.ledger.is_open:
            yield lambda _: None
            return
        place = own_place(task)
        held = self.ledger.held_by.get(task)
        if held:
            self.nested(held, resource, task, place.code, place.offset)
        wait = self.block(resource, task, place.code, place.offset) if is_full else None
        got: list[object] = []
        try:
            yield got.append
        finally:
            if got:
                self.unblock(wait)
            else:
                self.give_up(wait)
        # SQLAlchemy's checkout calls itself when a connection came free meanwhile.
        if got and all(hold.token is not got[0] for hold in resource.holders):
            self.ledger.give(Unit.of(resource, task, place, got[0]))

    def given_back(self, resource: Resource, unit: object) -> None:
        """A unit was given back, by whomever."""
        for hold in resource.holders:
            if hold.token is unit:
                self.ledger.take(hold)
                return

    def unblock(self, wait: Wait | None) -> None:
        """A task has what it waited for."""
        if wait is None:
            return
        self.ledger.waits.pop(wait.task, None)
        waited_s = time.monotonic() - wait.since_s
        if waited_s >= self.limits.slow_wait_s:
            self._tell_slow_wait(wait, waited_s)

    def give_up(self, wait: Wait | None) -> None:
        """A task was cancelled while it waited."""
        if wait is None:
            return
        self.unblock(wait)
        cause = self._standing.pop(wait.task, None)
        if cause is not None and cause.broken_by is None:
            cause.broken_by = wait.task
            cause.broken_after_s = time.monotonic() - wait.since_s
            cause.patience_s = self.limits.slow_wait_s

    def released_by_stranger(
        self, resource: Resource, task: asyncio.Task[Any] | None
    ) -> None:
        """Somebody released what he does not hold."""
        if not resource.is_exclusive or resource.lock_class.kind != "Lock":
            # A semaphore may be meant so: one task waits on it, another one opens it.
            resource.is_signal = True
            for hold in list(resource.holders):
                self.ledger.take(hold)
            return
        if not resource.holders:
            return
        hold = resource.holders[0]
        self.ledger.take(hold)
        if hold.is_carried:
            return
        resource.is_handed_over = True
        who = "a callback" if task is None else f"{name_of(task)}"
        where = calling_place()
        state = "had ended" if hold.task.done() else "still believes to hold it"
        self.alarms.tell(
            Cause(
                "lock-released-by-stranger",
                "warning",
                f"{who} released {resource}, which {name_of(hold.task)} holds",
                str(where or hold.place),
                (
                    f"{name_of(hold.task)} acquired it at {hold.place} and {state}",
                    f"{who} released it at {where or 'the call of the loop'}",
                ),
                "Release a lock in the task that acquired it, with 'async with'.",
                (resource,),
            ),
            str(hold.place),
            str(where),
        )

    def held_long(self, hold: Hold) -> None:
        """A lock was held for long."""
        held_s = time.monotonic() - hold.since_s
        self.alarms.tell(
            Cause(
                "lock-held-across-await",
                "note",
                f"{name_of(hold.task)} held {hold.resource} for {held_s:.1f} s",
                str(hold.place),
                (f"acquired at {hold.place}", f"released at {calling_place()}"),
                resources=(hold.resource,),
            ),
            str(hold.place),
        )

    def _tell_slow_wait(self, wait: Wait, waited_s: float) -> None:
        for hold, stand in wait.seen:
            self.alarms.tell(
                Cause(
                    "lock-held-across-await",
                    "warning",
                    f"{name_of(wait.task)} waited {waited_s:.1f} s for "
                    f"{wait.resource}, while its holder {name_of(hold.task)} "
                    "awaited something else",
                    str(hold.place),
                    (
                        f"{name_of(hold.task)} acquired it at {hold.place}",
                        f"and stood at {stand}",
                        f"{name_of(wait.task)} waited at {wait.place}",
                    ),
                    resources=(wait.resource,),
                    operations=() if wait.operation is None else (wait.operation,),
                ),
                str(hold.place),
                "slow wait",
            )

    def note_partner(self, queue: Any, attribute: str) -> None:
        """The running task, or a callback, put into a queue or took from it.

        A queue may outlive its users by far, so it does not keep their tasks alive.
        """
        task = current_task()
        partners: Partners | None = getattr(queue, attribute, None)
        if partners is None:
            partners = {}
            setattr(queue, attribute, partners)
        if task is None:
            partners[None] = None
            return
        known = partners.get(id(task))
        if known is not None and known() is task:
            return
        if len(partners) >= MAX_PARTNERS:
            for key, one in list(partners.items()):
                if one is not None and ((kept := one()) is None or kept.done()):
                    del partners[key]
        partners[id(task)] = weakref.ref(task)

    def is_stuck(self, tasks: Iterable[asyncio.Task[Any]]) -> bool:
        """Tell whether some of the tasks wait for each other, with no timeout of theirs."""
        found = circles(stuck_tasks(self.ledger, tasks, {}))
        return any(gives_up_in(circle) is None for circle in found)

    def look(
        self,
        tasks: Iterable[asyncio.Task[Any]],
        outside: Outside,
        *,
        at_timeout: bool = False,
    ) -> None:
        """Tell of the circles among tasks, and of locks whose holder has ended.

        Args:
            tasks: Where to look.
            outside: What servers know.
            at_timeout: Who waits for an item of a queue should have had it by now.
        """
        stuck = stuck_tasks(self.ledger, tasks, outside, at_timeout=at_timeout)
        for circle in circles(stuck):
            known = {id(self._standing.get(task)) for task in circle}
            if len(known) == 1 and self._standing.get(circle[0]) is not None:
                continue
            cause = tell_deadlock(self.alarms, self.ledger, circle, stuck)
            for party in circle:
                self._standing[party] = cause
        for task, held in list(self.ledger.held_by.items()):
            if task.done():
                for hold in list(held):
                    self._tell_held_at_end(hold)

    def tell_stall(self, tasks: Iterable[asyncio.Task[Any]]) -> None:
        """Tell where tasks wait that have not ended."""
        waiting = [task for task in tasks if is_waiting(task)]
        if waiting:
            tell_stall(self.alarms, self.ledger, waiting)

    def _tell_held_at_end(self, hold: Hold) -> None:
        resource = hold.resource
        if resource.is_pool or hold.is_carried:
            return
        waiting = [
            one for one in self.ledger.waits.values() if one.resource is resource
        ]
        self.alarms.tell(
            Cause(
                "lock-held-at-end",
                "error" if waiting else "warning",
                f"{name_of(hold.task)} ended and still holds {resource}",
                str(hold.place),
                (
                    f"it acquired it at {hold.place}",
                    *(
                        f"{name_of(one.task)} waits for it at {one.place}"
                        for one in waiting
                    ),
                ),
                resources=(resource,),
            ),
            str(hold.place),
        )
        self.ledger.take(hold)
