"""Which task has which session of Postgres, so that locks of both sides make one graph.

A session belongs to the task that took its connection from a pool, or else to one that
has the connection in a variable. Drivers are known by their attributes and not
imported: asyncpg's own connections, and SQLAlchemy's around them.

Postgres itself breaks a deadlock among rows by failing one statement; the error of
asyncpg is caught as it is made, while every task still stands at its line.
"""

import asyncio
import re
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from test_framework.detect.locks.alarms import Alarms, Cause
from test_framework.detect.locks.ledger import Ledger
from test_framework.detect.locks.patching import Patches
from test_framework.detect.locks.stacks import (
    NOWHERE,
    frames_of,
    names_of,
    site_of,
    stack,
)

Task = asyncio.Task[Any]
MODULE = "asyncpg.exceptions._base"
_DEADLOCK_DETECTED = "40P01"


def backend_of(thing: object) -> int | None:
    """Return the process id of the session behind a connection; None for other things."""
    # SQLAlchemy's record of a pool, and its adapter, keep the driver's connection.
    for name in ("dbapi_connection", "driver_connection", "_con"):
        inner = getattr(thing, name, None)
        if inner is not None:
            thing = inner
    ask = getattr(type(thing), "get_server_pid", None)
    if ask is None:
        return None
    try:
        return int(ask(thing))
    except Exception:  # noqa: BLE001  # a connection in any state of a driver we do not know
        return None


def sessions_of(ledger: Ledger, tasks: Iterable[Task]) -> dict[int, Task]:
    """Return the task of each session, by process id.

    Args:
        ledger: Who holds connections of pools.
        tasks: Whose variables are looked through.
    """
    found: dict[int, Task] = {}
    for task in tasks:
        for frame in frames_of(task):
            for value in list(frame.f_locals.values()):
                if hasattr(type(value), "get_server_pid"):
                    pid = backend_of(value)
                    if pid is not None:
                        found.setdefault(pid, task)
    for task, held in list(ledger.held_by.items()):
        for hold in held:
            pid = backend_of(hold.token)
            if pid is not None:
                found[pid] = task
    return found


class DatabaseDeadlocks:
    """Hears of the deadlocks that Postgres broke.

    Args:
        alarms: Where to tell.
        ledger: Who holds connections of pools.
        patches: What patches asyncpg.
    """

    def __init__(self, alarms: Alarms, ledger: Ledger, patches: Patches) -> None:
        self._alarms = alarms
        self._ledger = ledger
        self._patches = patches

    def patch(self, module: ModuleType) -> None:
        """Patch the place where asyncpg makes its errors."""

        def make(original: Any) -> Callable[..., Any]:
            def new(cls: Any, fields: Any, query: Any = None) -> Any:
                error = original(cls, fields, query)
                if getattr(error, "sqlstate", None) == _DEADLOCK_DETECTED:
                    self._tell(str(getattr(error, "detail", "") or ""), query)
                return error

            return new

        self._patches.replace(module.PostgresError, "new", make)

    def _tell(self, detail: str, query: Any) -> None:
        # The message is translated, its numbers are not; others than pids do no harm.
        numbers = [int(word) for word in re.findall(r"\d+", detail)]
        try:
            tasks = asyncio.all_tasks()
        except RuntimeError:
            tasks = set()
        sessions = sessions_of(self._ledger, tasks)
        parties = list(
            dict.fromkeys(sessions[one] for one in numbers if one in sessions)
        )
        evidence = [*detail.splitlines(), f"Postgres failed the statement: {query}"]
        sites = []
        told = names_of(parties)
        for task, name in zip(parties, told, strict=True):
            evidence += [
                f"{name} stood at",
                *(f"  {line}" for line in stack(task)),
            ]
            sites.append(site_of(task))
        who = " and ".join(told) or "sessions of tasks that are not known here"
        self._alarms.tell(
            Cause(
                "database-deadlock",
                "error",
                f"Postgres broke a deadlock between {who}",
                sites[0] if sites else NOWHERE,
                tuple(evidence),
                "Lock rows in one order: sort the keys, or SELECT ... ORDER BY id FOR "
                "UPDATE first.",
            ),
            *(sites or [str(query)]),
        )
