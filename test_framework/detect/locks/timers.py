"""What a loop is going to call: who will release a lock, or give up to wait for it.

Tasks that wait for each other are stuck only as far as the loop has nothing in store for
them. A timer may release the lock, a callback of a future may, and a timeout ends the
wait of one of them. All of it is read from the loop's own queues, which uvloop hides.
"""

import asyncio
import functools
from collections.abc import Collection, Iterable, Iterator
from types import FunctionType
from typing import Any

from test_framework.detect.locks.ledger import ATTRIBUTE, Resource

Task = asyncio.Task[Any]


def released_soon(
    loop: asyncio.AbstractEventLoop, resources: Collection[Resource]
) -> set[Resource]:
    """Return those of some locks that a callback may release which was put off.

    A callback that has the lock is taken for one that releases it: ``lock.release``
    itself, a partial of it, a function that closes over the lock.

    Args:
        loop: Whose timers and callbacks are looked through.
        resources: The locks in question.
    """
    wanted = set(resources)
    found: set[Resource] = set()
    if wanted:
        for callback in _callbacks(loop):
            for thing in _parts(callback):
                resource = getattr(thing, "__dict__", {}).get(ATTRIBUTE)
                if resource in wanted:
                    found.add(resource)
    return found


def gives_up_in(tasks: Iterable[Task]) -> float | None:
    """Return the seconds until a timeout ends the wait of one of some tasks.

    Known are ``asyncio.timeout``, ``wait_for``, and cancel scopes of anyio.

    Returns:
        None when there is no timeout, or the loop does not tell.
    """
    tasks = list(tasks)
    if not tasks:
        return None
    awaited = {id(getattr(task, "_fut_waiter", None)): task for task in tasks}
    loop = tasks[0].get_loop()
    left: list[float] = []
    for timer in getattr(loop, "_scheduled", ()):
        if timer.cancelled():
            continue
        scope = getattr(timer._callback, "__self__", None)
        hosts = (getattr(scope, name, None) for name in ("_task", "_host_task"))
        if any(host in tasks for host in hosts if host is not None) or any(
            id(one) in awaited for one in timer._args or ()
        ):
            left.append(max(0.0, timer.when() - loop.time()))
    return min(left, default=None)


def _callbacks(loop: asyncio.AbstractEventLoop) -> Iterator[Any]:
    for queue in ("_ready", "_scheduled"):
        for handle in list(getattr(loop, queue, ())):
            if not handle.cancelled():
                yield from (handle._callback, *(handle._args or ()))
    for task in asyncio.all_tasks(loop):
        for future in (task, getattr(task, "_fut_waiter", None)):
            for callback, _ in getattr(future, "_callbacks", None) or ():
                yield callback


def _parts(callback: Any) -> Iterator[Any]:
    """Yield what a callback has at hand."""
    if isinstance(callback, functools.partial):
        for part in (callback.func, *callback.args, *callback.keywords.values()):
            yield from _parts(part)
    elif isinstance(callback, FunctionType):
        for cell in callback.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:  # not assigned yet
                continue
    else:
        yield callback
        yield getattr(callback, "__self__", None)
