"""Who waits for whom, and who waits for ever.

A task that is blocked needs others: all holders of what it asks for must be stuck before
it is, while one stuck child suffices for whoever awaits its children. The stuck tasks
are the greatest set in which nobody's needs can be met from outside of it (Knapp,
Deadlock detection in distributed databases, 1987: the AND-OR model). What nobody can be
known to bring, such as bytes on a socket or the set of an ``Event``, counts as coming.

What is awaited is read from asyncio's own objects: the future a task waits for, the
children of ``gather``, the tasks of a ``TaskGroup`` (also anyio's), the arguments of
``wait`` and ``wait_for``. ``shield`` hides its child from this.
"""

import asyncio
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

from test_framework.detect.locks.alarms import Alarms, Cause
from test_framework.detect.locks.ledger import Ledger, Resource
from test_framework.detect.locks.stacks import (
    Place,
    frame_of,
    frames_of,
    is_plumbing,
    name_of,
    names_of,
    site_of,
    stack,
    steps_of,
)
from test_framework.detect.locks.timers import gives_up_in, released_soon

Task = asyncio.Task[Any]
Outside = Mapping[Task, Iterable[Task]]
"""Tasks that wait in a server for what other tasks of this process hold there."""

GETTERS = "_watched_getters"
PUTTERS = "_watched_putters"
INNERMOST = 4
"""Awaits above a future that are looked at for what they wait for."""

MAX_TOLD = 6
"""Tasks of one deadlock that are told with their stacks."""


@dataclass(frozen=True, slots=True)
class Need:
    """What must happen before a blocked task goes on.

    Attributes:
        doing: As words: ``awaits what it gathered``.
        tasks: Who can do it.
        takes_all: All of ``tasks`` must be stuck for this one to be; else one does.
        resource: The lock or pool, if it is one.
        place: Where the task asked for it.
    """

    doing: str
    tasks: tuple[Task, ...]
    takes_all: bool
    resource: Resource | None = None
    place: Place | None = None

    @property
    def what(self) -> str:
        """What the task does, as words."""
        # Written when it is told: most needs are met before anybody asks.
        if self.resource is None:
            return self.doing
        return f"{self.doing} {self.resource} at {self.place}"

    def is_hopeless(self, stuck: Mapping[Task, Any]) -> bool:
        """Tell whether it is never met, given who is stuck."""
        found = (task in stuck for task in self.tasks)
        return bool(self.tasks) and (all(found) if self.takes_all else any(found))


def need_of(
    ledger: Ledger,
    task: Task,
    outside: Outside,
    *,
    at_timeout: bool = False,
) -> Need | None:
    """Return what a task needs; None when it runs, or nobody knows.

    Args:
        ledger: Who holds and waits.
        task: The one in question.
        outside: What is known from servers.
        at_timeout: Who waits for an item should have had it by now.
    """
    if task.done():
        return None
    wait = ledger.waits.get(task)
    # A release is booked before anybody is woken: what is held now is not to be had.
    if wait is not None and wait.until_s > time.monotonic():
        ledger.expire(wait.resource)
        return _need_of_unit(wait.resource, wait.place)
    waiter: Any = getattr(task, "_fut_waiter", None)
    if waiter is None or waiter.done():
        return None
    blockers = tuple(outside.get(task, ()))
    if blockers:
        return Need(
            "waits in Postgres for what another session holds",
            blockers,
            takes_all=False,
        )
    if isinstance(waiter, asyncio.Task):
        return Need(f"awaits {name_of(waiter)}", (waiter,), takes_all=False)
    children = getattr(waiter, "_children", None)
    if children:
        return _need_of_children("awaits what it gathered", children)
    return _need_of_frames(task, at_timeout=at_timeout)


def _need_of_unit(resource: Resource, place: Place) -> Need | None:
    holders = resource.holders
    if resource.is_signal or resource.capacity is None:
        return None
    # Somebody unknown has a unit, or one is free and about to be taken.
    if len(holders) < resource.capacity:
        return None
    tasks = tuple(dict.fromkeys(one.task for one in holders))
    if any(task.done() for task in tasks):
        return None
    return Need("waits for", tasks, takes_all=True, resource=resource, place=place)


def _need_of_children(what: str, children: Iterable[Any]) -> Need | None:
    tasks = tuple(
        one for one in children if isinstance(one, asyncio.Task) and not one.done()
    )
    return Need(what, tasks, takes_all=False) if tasks else None


def _need_of_frames(task: Task, *, at_timeout: bool) -> Need | None:
    # What awaits a plain future stands right above it.
    for step in reversed(steps_of(task)[-INNERMOST:]):
        frame = frame_of(step)
        if frame is None or frame.f_code.co_qualname not in _KNOWN:
            continue
        need = _need_of_frame(task, frame, at_timeout=at_timeout)
        if need is not None:
            return need
    return None


def _need_of_frame(task: Task, frame: FrameType, *, at_timeout: bool) -> Need | None:
    name, names = frame.f_code.co_qualname, frame.f_locals
    if name == "TaskGroup.__aexit__":
        return _need_of_children(
            "awaits its task group", getattr(names["self"], "_tasks", ())
        )
    if name == "wait_for":
        return _need_of_children("awaits with a timeout", [names.get("fut")])
    if name == "_wait" and "fs" in names:
        # Who looks at tasks for a while and goes on takes them as they are.
        if names.get("timeout") is not None and not at_timeout:
            return None
        need = _need_of_children("awaits a set of tasks", names["fs"])
        if need is not None and names.get("return_when") == "FIRST_COMPLETED":
            return Need(need.doing, need.tasks, takes_all=True)
        return need
    if name == "Queue.put":
        return _need_of_queue(task, names.get("self"), putting=True)
    # A worker that waits for an item is idle, as workers are.
    if name == "Queue.get" and at_timeout:
        return _need_of_queue(task, names.get("self"), putting=False)
    return None


_KNOWN = {
    "TaskGroup.__aexit__",
    "wait_for",
    "_wait",
    "Queue.put",
    "Queue.get",
}


def _need_of_queue(task: Task, queue: Any, *, putting: bool) -> Need | None:
    partners = getattr(queue, GETTERS if putting else PUTTERS, None) or {}
    if None in partners:  # a callback did it once and may do it again
        return None
    kept = (reference() for reference in partners.values())
    alive = tuple(one for one in kept if one is not None and not one.done())
    # A worker that feeds itself and has nothing to do is idle, not stuck.
    if not putting and set(alive) <= {task}:
        return None
    what = (
        f"waits for space in a Queue of {queue.maxsize}"
        if putting
        else "waits for an item of a Queue"
    )
    return Need(what, alive, takes_all=True) if alive else None


def stuck_tasks(
    ledger: Ledger,
    starts: Iterable[Task],
    outside: Outside,
    *,
    at_timeout: bool = False,
) -> dict[Task, Need]:
    """Return the tasks among those reachable from ``starts`` that never go on.

    Args:
        ledger: Who holds and waits.
        starts: Where to begin.
        outside: What is known from servers.
        at_timeout: Who waits for an item should have had it by now.
    """
    stuck: dict[Task, Need] = {}
    waiting = list(starts)
    met: set[Task] = set()
    while waiting:
        task = waiting.pop()
        if task in met:
            continue
        met.add(task)
        need = need_of(ledger, task, outside, at_timeout=at_timeout)
        if need is not None:
            stuck[task] = need
            waiting += need.tasks
    _drop_hopeful(stuck)
    # Asked late: most who wait are not stuck, and need no look at the loop.
    for loop in {task.get_loop() for task in stuck}:
        asked = {need.resource for need in stuck.values() if need.resource is not None}
        soon = released_soon(loop, asked)
        for task in [one for one, need in stuck.items() if need.resource in soon]:
            del stuck[task]
    _drop_hopeful(stuck)
    return stuck


def _drop_hopeful(stuck: dict[Task, Need]) -> None:
    while True:
        hopeful = [one for one, need in stuck.items() if not need.is_hopeless(stuck)]
        if not hopeful:
            return
        for task in hopeful:
            del stuck[task]


def circles(stuck: Mapping[Task, Need]) -> list[list[Task]]:
    """Return the circles that stuck tasks stand in; each task is in one at most.

    Tasks that only wait for a circle are in none.
    """
    found: list[list[Task]] = []
    placed: set[Task] = set()
    for start in stuck:
        path: list[Task] = []
        task = start
        while task not in path and task not in placed:
            path.append(task)
            task = next(one for one in stuck[task].tasks if one in stuck)
        if task in path:
            circle = path[path.index(task) :]
            # All holders of a semaphore that is exhausted belong to it.
            others = [
                one
                for member in circle
                if stuck[member].takes_all
                for one in stuck[member].tasks
                if one in stuck
            ]
            found.append(list(dict.fromkeys([*circle, *others])))
        placed.update(path)
    return found


def tell_deadlock(
    alarms: Alarms, ledger: Ledger, circle: Sequence[Task], stuck: Mapping[Task, Need]
) -> Cause:
    """Tell of tasks that wait for each other."""
    names = names_of(circle[:MAX_TOLD])
    sites = [_site(ledger, task) for task in circle]
    evidence: list[str] = []
    for task, name in zip(circle, names, strict=False):
        evidence += _lines(ledger, task, name, stuck[task].what)
    if len(circle) > MAX_TOLD:
        evidence.append(f"and {len(circle) - MAX_TOLD} more tasks")
    claim = (
        f"{names[0]} waits for itself {_until(circle, stuck, 'never goes on')}"
        if len(circle) == 1
        else f"{_listed(names)} wait for each other "
        f"{_until(circle, stuck, 'never go on')}"
    )
    resources = tuple(
        need.resource for task in circle if (need := stuck[task]).resource is not None
    )
    cause = Cause(
        "deadlock",
        "error",
        claim,
        sites[0],
        tuple(evidence),
        resources=resources,
        operations=tuple(
            wait.operation
            for task in circle
            if (wait := ledger.waits.get(task)) and wait.operation is not None
        ),
    )
    return alarms.tell(cause, *sites)


def _listed(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _until(circle: Sequence[Task], stuck: Mapping[Task, Need], never: str) -> str:
    """Return for how long tasks wait for each other."""
    wanted = [need.resource for task in circle if (need := stuck[task]).resource]
    ends_s = min((hold.until_s for one in wanted for hold in one.holders), default=0.0)
    if 0.0 < ends_s < math.inf:
        return f"until a lease runs out in {ends_s - time.monotonic():.1f} s"
    if any(one.is_polled for one in wanted):
        return "and ask again and again"
    if not hasattr(circle[0].get_loop(), "_scheduled"):
        return "until one of them is cancelled"
    left_s = gives_up_in(circle)
    if left_s is None:
        return f"and {never}"
    return f"until a timeout of {left_s:.1f} s ends it"


def runs(ledger: Ledger, task: Task) -> bool:
    """Tell whether a task has its next step before it, as far as that is plain."""
    waiter: Any = getattr(task, "_fut_waiter", None)
    # The running task is the one that is about to wait.
    return (waiter is None or waiter.done()) and task not in ledger.waits


def is_waiting(task: Task) -> bool:
    """Tell whether a task waits for a future that is not done."""
    waiter: Any = getattr(task, "_fut_waiter", None)
    return not task.done() and waiter is not None and not waiter.done()


def _lines(ledger: Ledger, task: Task, name: str, doing: str) -> list[str]:
    """Return what a task holds and does, and where it stands."""
    held = [f"{one.resource} since {one.place}" for one in ledger.held_by.get(task, ())]
    return [
        f"{name} holds {', '.join(held) or 'nothing'} and {doing}",
        *(f"  {line}" for line in stack(task)),
    ]


def is_idle(loop: asyncio.AbstractEventLoop) -> bool | None:
    """Tell whether a loop has nothing to run, no timer and no socket.

    Returns:
        None when the loop does not say, as uvloop's does not.
    """
    ready = getattr(loop, "_ready", None)
    timers = getattr(loop, "_scheduled", None)
    selector = getattr(loop, "_selector", None)
    if ready is None or timers is None or selector is None:
        return None
    # The loop wakes itself through one socket: so does who asks from another thread.
    sockets = len(selector.get_map() or ()) - 1
    busy = [
        one
        for one in (*ready, *timers)
        if not one.cancelled()
        and getattr(one._callback, "__name__", "") != "_read_from_self"
    ]
    return not busy and sockets <= 0


def tell_stall(alarms: Alarms, ledger: Ledger, waiting: Sequence[Task]) -> None:
    """Tell where each task waits.

    That nobody is left to wake them is an error where the loop shows it; else they may
    wait for a socket or a timer, and it is a note.
    """
    idle = all(is_idle(loop) for loop in {task.get_loop() for task in waiting})
    evidence: list[str] = []
    for task, name in zip(waiting, names_of(waiting[:MAX_TOLD]), strict=False):
        evidence += _lines(ledger, task, name, what_of(task))
    if len(waiting) > MAX_TOLD:
        evidence.append(f"and {len(waiting) - MAX_TOLD} more tasks")
    are_several = len(waiting) > 1
    count = f"{len(waiting)} tasks" if are_several else "1 task"
    sites = [_site(ledger, task) for task in waiting]
    alarms.tell(
        Cause(
            "task-stall",
            "error" if idle else "note",
            f"{count} wait{'' if are_several else 's'} and nobody is left to wake "
            f"{'them' if are_several else 'it'}"
            if idle
            else f"{count} had not ended when time ran out; no circle among them is known",
            sites[0],
            tuple(evidence),
        ),
        *sites,
    )


_VERBS = {
    "Lock.acquire": "waits for a Lock",
    "Semaphore.acquire": "waits for a permit of a Semaphore",
    "Condition.wait": "waits to be notified by a Condition",
    "Event.wait": "waits for an Event to be set",
    "Queue.get": "waits for an item of a Queue",
    "Queue.put": "waits for space in a Queue",
    "Queue.join": "waits until a Queue is done",
    "Barrier.wait": "waits for others at a Barrier",
    "TaskGroup.__aexit__": "awaits its task group",
    "wait_for": "awaits with a timeout",
    "sleep": "sleeps",
}


def what_of(task: Task) -> str:
    """Return what a task waits for, as words."""
    for frame in frames_of(task):
        verb = _VERBS.get(frame.f_code.co_qualname)
        if verb is not None and is_plumbing(frame.f_code):
            return verb
    waiter: Any = getattr(task, "_fut_waiter", None)
    if isinstance(waiter, asyncio.Task):
        return f"awaits {name_of(waiter)}"
    if getattr(waiter, "_children", None):
        return "awaits what it gathered"
    return "waits for a future"


def _site(ledger: Ledger, task: Task) -> str:
    wait = ledger.waits.get(task)
    if wait is not None:
        return str(wait.place)
    return site_of(task)
