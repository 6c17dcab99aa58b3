"""Whether pools are clean when their users are done, whatever was done to those.

A cancelled user may keep what it has borrowed, or give it back in a state that the next
user does not expect. ``watch_pool`` lets a run ask a pool of the program. Over real
services the gate looks at connections as well, without being asked: see
:mod:`test_framework.explore.gate.hygiene`.

Incidents of this kind: redis/redis-py#2624 and #2665 (CVE-2023-28858, CVE-2023-28859),
aio-libs-abandoned/aioredis-py#1225, psycopg/psycopg#509.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from test_framework.core import UsageError
from test_framework.explore.endings import MisuseError
from test_framework.explore.leftovers import Leftover
from test_framework.explore.loop.clock import give_up
from test_framework.explore.names import NamedTasks
from test_framework.explore.waits import calling_frame, place, source

LINGER_S = 1.0
"""How long tasks that outlive their users may go on before pools are asked, seconds.

Of the time of the loop, which is virtual: drivers give connections back in tasks of
their own, so that a cancellation does not stop them.
"""


def watch_pool(pool: object, clean: Callable[[], object] | None = None) -> None:
    """Ask a pool at the end of the run whether it is clean; it fails the run if not.

    It is asked when all users are done and tasks of theirs have had a second to give
    back what they hold, also when a fault has struck one of them. In a plain test that
    is when the test ends; with tasks left over nothing is asked, for they may hold
    something by right. Without the explorer nothing is done.

    Args:
        pool: Named in the failure. Of SQLAlchemy (an engine or its pool), asyncpg and
            redis-py it is known when they are clean: when nothing is borrowed.
        clean: Raises, or returns something false but None, when the pool is not clean;
            must not await and must change nothing.

    Raises:
        UsageError: ``clean`` is missing for a pool of which nothing is known.

    Example:
        ``watch_pool(engine)``, or
        ``watch_pool(pool, clean=lambda: pool.free == pool.size)``.
    """
    tell = _what_is_borrowed(pool) if clean is None else partial(_answer, clean)
    loop = asyncio.get_running_loop()
    if not isinstance(loop, NamedTasks):
        return
    frame = calling_frame()
    where, code = place(frame), source(frame)
    name = type(pool).__name__

    def ask() -> Leftover | None:
        told = tell()
        if told is None:
            return None
        message = f"{name} is not clean when its users are done: {told}."
        return Leftover("dirty-pool", message, where, (f"watched by {code}",), where)

    loop.pools.append(ask)


async def look_for_leftovers() -> None:
    """Look, now that the users of a scenario are done, what they have left."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, NamedTasks):
        return
    if not loop.has_looked:
        await _linger(loop)
    loop.look_for_leftovers()


async def _linger(loop: Any) -> None:
    """Wait for tasks that may still give back or clean what users have borrowed."""
    if not _late(loop):
        return
    patience = loop.create_future()
    timer = loop.call_later(LINGER_S, give_up, patience)
    while (late := _late(loop)) and not patience.done():
        await asyncio.wait([*late, patience], return_when=asyncio.FIRST_COMPLETED)
    timer.cancel()


def _late(loop: NamedTasks) -> list[asyncio.Task[Any]]:
    """Return the tasks that are waited for: those that outlive who started them.

    While there is dirt it is whoever goes on, for one of them may be there to clean.
    """
    is_dirty = loop.is_dirty()
    if not (is_dirty or loop.pools):
        return []
    return [
        task
        for number, (task, parent) in enumerate(
            zip(loop.tasks, loop.parents, strict=True)
        )
        if number
        and not task.done()
        and (is_dirty or (parent > 0 and loop.tasks[parent].done()))
    ]


def _answer(is_clean: Callable[[], object]) -> str | None:
    """Return what speaks against a pool; None when it is clean."""
    try:
        result = is_clean()
    except Exception as exc:  # noqa: BLE001  # told as the answer
        return f"{type(exc).__name__}: {exc}".partition("\n")[0].removesuffix(": ")
    if asyncio.iscoroutine(result):
        result.close()
        raise MisuseError(
            f"clean={is_clean!r} is async, and nothing would await it: make it a plain "
            "function."
        )
    return None if result is None or result else f"clean answers {result!r}"


def _what_is_borrowed(pool: Any) -> Callable[[], str | None]:
    """Return what asks a pool of a known library.

    Known by their methods, for this room imports no client.

    Raises:
        UsageError: It is of none.
    """
    # An engine of SQLAlchemy and a client of redis-py have one.
    inner = getattr(pool, "pool", None) or getattr(pool, "connection_pool", pool)
    count: Callable[[], int]
    if hasattr(inner, "checkedout"):
        count = inner.checkedout
    elif hasattr(inner, "get_idle_size"):

        def count() -> int:
            return int(inner.get_size() - inner.get_idle_size())

    elif hasattr(inner, "_in_use_connections"):
        # It has no public count.
        def count() -> int:
            return len(inner._in_use_connections)

    else:
        raise UsageError(
            f"watch_pool({pool!r}): expected an engine or pool of SQLAlchemy, a pool of "
            "asyncpg, or a client or pool of redis-py. For another one say when it is "
            "clean, such as clean=lambda: pool.free == pool.size."
        )

    def ask() -> str | None:
        borrowed = count()
        return f"{borrowed} borrowed and not given back" if borrowed else None

    return ask
