"""The order in which locks are taken: a deadlock is predicted from runs without one.

Whoever acquires B while holding A draws an edge from A to B. A new edge that closes a
cycle is an inversion: some schedule lets each task have what the next one waits for,
even if the tasks of this run never met. Edges are drawn between the locks themselves,
which is proof that the very same locks are taken both ways, and between their classes,
which also sees that two locks of two users are.

No alarm when one exclusive lock was held around every edge of the cycle: then only
one task at a time is in it. Locks of one class may be nested as long as their own order
has no cycle (sorted by user id, say); this is a note unless the class is declared
sorted, and a warning when it goes against declared ranks.

A cycle needs two tasks: what one task does in turn, in both orders, is none until
another one does likewise. It takes a try-lock for a lock.

Source: lockdep (Documentation/locking/lockdep-design.rst in Linux); gate locks after
Havelund, Using Runtime Analysis to Guide Model Checking of Java Programs, SPIN 2000.
"""

import asyncio
import copy
from collections.abc import Callable, Iterable, Mapping
from types import CodeType
from typing import Any, TypeVar

from test_framework.detect.locks.alarms import Alarms, Cause
from test_framework.detect.locks.ledger import Edge, Hold, LockClass, Resource
from test_framework.detect.locks.stacks import Place, name_of

Node = TypeVar("Node")
"""A lock or a class of locks."""


MAX_SETTLED = 1000
"""Locks that are remembered as settled after another one; a cache, cleared when full."""


def observe(
    alarms: Alarms,
    held: list[Hold],
    resource: Resource,
    task: asyncio.Task[Any],
    code: CodeType,
    offset: int,
) -> None:
    """Note that a task that holds something asks for ``resource``.

    Args:
        alarms: Where to tell.
        held: What the task holds, oldest first; not empty.
        resource: What it asks for.
        task: Who asks.
        code: In which function.
        offset: At which instruction.
    """
    if resource.is_signal:
        return
    for hold in held:
        if hold.resource is resource:
            if not resource.is_exclusive:
                _tell_nested(alarms, hold, Place(code, offset))
            return
    # The edges to what was taken earlier are there: from that to this latest one.
    latest = next((one for one in reversed(held) if not one.resource.is_signal), None)
    if latest is None:
        return
    first = latest.resource
    edge = first.after.get(resource)
    if edge is not None and not edge.guards:
        if edge.actor is None:
            if len(first.settled) >= MAX_SETTLED:
                first.settled.clear()
            first.settled.add(resource.serial)
            return
        if edge.actor() is task:
            return
    guards = _guards(held, first, resource)
    seen = Edge(task, latest.place, Place(code, offset), guards)
    if edge is None:
        edge = first.after[resource] = seen
    elif not edge.learn(seen):
        return
    _judge(alarms, first, resource, edge)


def _guards(held: list[Hold], first: Resource, second: Resource) -> frozenset[int]:
    return frozenset(
        hold.resource.serial
        for hold in held
        if hold.resource.is_exclusive and hold.resource not in (first, second)
    )


def _judge(alarms: Alarms, first: Resource, second: Resource, edge: Edge) -> None:
    if _falls(first, second):
        _tell_falling(alarms, first, second, edge)
        return
    cycle = _cycle(first, second, edge, lambda node: node.after)
    if cycle:
        _tell_inversion(alarms, cycle)
        return
    if first.is_keyed or second.is_keyed:
        return
    above, below = first.lock_class, second.lock_class
    if above is below:
        if not above.is_sorted and first.key is None:
            _tell_undeclared(alarms, above, edge)
        return
    known = above.after.get(below)
    if known is None:
        known = above.after[below] = copy.copy(edge)
    elif not known.learn(edge):
        return
    if known is not None:
        classes = _cycle(above, below, known, lambda node: node.after)
        if classes:
            _tell_inversion(alarms, classes)


def _cycle(
    first: Node,
    second: Node,
    edge: Edge,
    after: Callable[[Node], Mapping[Node, Edge]],
) -> list[tuple[Node, Node, Edge]]:
    """Return the edges of a cycle through ``edge`` that no guard makes safe."""
    way = [(first, second, edge)]
    guards = [edge.guards]
    # What is still to be tried from each node of the way.
    open_nodes = [iter(list(after(second).items()))]
    seen = {second}
    # Not recursive: a program may hold a thousand locks in a row.
    while open_nodes:
        step = next(open_nodes[-1], None)
        if step is None:
            open_nodes.pop()
            way.pop()
            guards.pop()
            continue
        node, drawn = step
        common = guards[-1] & drawn.guards
        before = way[-1][1]
        if node is first and not common:
            found = [*way, (before, node, drawn)]
            if _takes_two(edge for _, _, edge in found):
                return found
        if node is not first and node not in seen:
            seen.add(node)
            way.append((before, node, drawn))
            guards.append(common)
            open_nodes.append(iter(list(after(node).items())))
    return []


def _takes_two(edges: Iterable[Edge]) -> bool:
    """Tell whether two tasks drew the edges, so that they could meet."""
    actors = [edge.actor for edge in edges]
    # By identity: a reference to a task that is gone has no hash.
    return any(actor is None or actor is not actors[0] for actor in actors)


def _falls(first: Resource, second: Resource) -> bool:
    """Tell whether declared ranks go down; ranks that cannot be compared do not."""
    if first.key is None or second.key is None:
        return False
    if first.lock_class is not second.lock_class:
        return False
    try:
        return bool(second.key < first.key)
    except TypeError:
        return False


def _tell_inversion(alarms: Alarms, cycle: list[tuple[Node, Node, Edge]]) -> None:
    names = [str(first) for first, _, _ in cycle]
    evidence = [
        f"{edge.task} held {first} since {edge.held_at} "
        f"and asked for {second} at {edge.asked_at}"
        for first, second, edge in cycle
    ]
    sites = [str(edge.asked_at) for _, _, edge in cycle]
    alarms.tell(
        Cause(
            "lock-order-inversion",
            "warning",
            f"{' and '.join(names)} are taken in opposite orders: tasks that meet "
            "between the two wait for each other for ever",
            sites[0],
            tuple(evidence),
            "Take them in one order everywhere, or hold one lock around both.",
            _resources(first for first, _, _ in cycle),
        ),
        *sites,
        *(str(edge.held_at) for _, _, edge in cycle),
    )


def _resources(nodes: Iterable[object]) -> tuple[Resource, ...]:
    return tuple(node for node in nodes if isinstance(node, Resource))


def _tell_falling(
    alarms: Alarms, first: Resource, second: Resource, edge: Edge
) -> None:
    alarms.tell(
        Cause(
            "lock-order-inversion",
            "warning",
            f"the {second.lock_class} of rank {second.key!r} is taken under that of "
            f"rank {first.key!r}, against their declared order",
            str(edge.asked_at),
            (
                (
                    f"{edge.task} held rank {first.key!r} since {edge.held_at} "
                    f"and asked for rank {second.key!r} at {edge.asked_at}"
                ),
            ),
            "Sort what is to be locked by its rank before the first is taken.",
            (first, second),
        ),
        str(edge.held_at),
        str(edge.asked_at),
    )


def _tell_undeclared(alarms: Alarms, lock_class: LockClass, edge: Edge) -> None:
    alarms.tell(
        Cause(
            "lock-order-undeclared",
            "note",
            f"two locks of one class ({lock_class}) are held at once, and nothing says "
            "in which order they are taken",
            str(edge.asked_at),
            (
                (
                    f"{edge.task} held one since {edge.held_at} "
                    f"and asked for the other at {edge.asked_at}"
                ),
                "no run so far took them the other way round",
            ),
            "Make the locks with ordered(lock, key), or name the class in "
            "sorted_classes of the watcher.",
        ),
        str(edge.asked_at),
    )


def _tell_nested(alarms: Alarms, hold: Hold, asked_at: Place) -> None:
    resource = hold.resource
    what = "connection" if resource.is_pool else "permit"
    size = "all" if resource.capacity is None else str(resource.capacity)
    alarms.tell(
        Cause(
            "permit-nested",
            "warning",
            f"a task that has a {what} of {resource} asks for another one: {size} "
            "tasks that do so at once wait for ever",
            str(asked_at),
            (
                (
                    f"{name_of(hold.task)} had one since {hold.place} "
                    f"and asked for the second at {asked_at}"
                ),
            ),
            f"Pass the {what} on instead of taking a second one, or give the inner "
            "work a pool of its own.",
            (resource,),
        ),
        str(hold.place),
        str(asked_at),
    )
