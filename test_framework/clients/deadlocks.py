"""The deadlock watcher of a service: asks Postgres who waits there for whom.

A task that waits for a row waits for the task that has the session which holds it. With
the locks of asyncio and the leases of Redis in one graph, a circle over both is seen:
one task holds a lock and waits for a row, another one has the row and waits for the lock.
Postgres alone never sees that one.

Postgres breaks a deadlock among rows itself, by failing a statement, and counts it in
``pg_stat_database``. What was counted since the start and seen by nobody, for another
driver met it or another process, is told with its number alone.

It only reads what any role may: that count, and ``pg_blocking_pids`` of the sessions of
this process. The server is asked when alarms are, from a thread of its own, since the
loop that would have to wait is the one that is stuck.
"""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import asyncpg

from test_framework.core import AlarmRecord, UsageError, WatchRecord
from test_framework.detect.locks import DeadlockWatcher

TIMEOUT_S = 3.0
"""How long Postgres may take to answer, seconds."""

_BLOCKERS = """
SELECT pid, pg_blocking_pids(pid) AS blockers
FROM unnest($1::int[]) AS pid
"""

_BROKEN = """
SELECT datname, deadlocks FROM pg_stat_database WHERE datname = current_database()
"""

_LATE = (
    "Deadlocks that Postgres broke in the last ten seconds, if another driver than "
    "asyncpg met them: the server counts them late."
)

Task = asyncio.Task[Any]
T = TypeVar("T")


class ServiceDeadlockWatcher(DeadlockWatcher):
    """A ``DeadlockWatcher`` that knows what waits inside of Postgres.

    Args:
        postgres_url: ``postgresql://...`` of the service's database; that in
            ``DATABASE_URL``, if it is one, when it is left out; none when it is empty.
        slow_hold_s: As for ``DeadlockWatcher``.
        slow_wait_s: As for ``DeadlockWatcher``.
        sorted_classes: As for ``DeadlockWatcher``.
        is_counting: Whether to count the deadlocks that Postgres broke, which costs a
            connection at the start.

    Raises:
        UsageError: ``postgres_url`` is not that of a Postgres database.
    """

    def __init__(
        self,
        *,
        postgres_url: str | None = None,
        slow_hold_s: float = 1.0,
        slow_wait_s: float = 1.0,
        sorted_classes: Sequence[str] = (),
        is_counting: bool = True,
    ) -> None:
        super().__init__(
            slow_hold_s=slow_hold_s,
            slow_wait_s=slow_wait_s,
            sorted_classes=sorted_classes,
        )
        self._url = ""
        given = (
            os.environ.get("DATABASE_URL", "") if postgres_url is None else postgres_url
        )
        scheme, _, rest = given.partition("://")
        if rest and scheme.startswith("postgres"):
            self._url = f"postgresql://{rest}"
        elif postgres_url:  # what stands in the environment may be for somebody else
            raise UsageError(
                f"postgres_url: scheme {scheme if rest else ''!r} is not that of "
                "Postgres; expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE. "
                "Leave it empty to watch no database."
            )
        self._failure = ""
        self._is_counting = is_counting
        self._broken_before: int | None = None

    def start(self) -> None:
        """Watch, and note how many deadlocks Postgres has broken so far."""
        super().start()
        self._broken_before = None
        if self._url and self._is_counting:
            counted = self._ask(_fetch_broken)
            self._broken_before = None if counted is None else counted[1]

    def alarms(self) -> list[AlarmRecord]:
        """Return what it saw so far, and what Postgres counted beyond that."""
        found = super().alarms()
        if self._broken_before is None:
            return found
        counted = self._ask(_fetch_broken)
        if counted is None:
            return found
        database, broken = counted
        told = sum(one.count for one in found if one.rule == "database-deadlock")
        unseen = broken - self._broken_before - told
        if unseen > 0:
            found.append(
                AlarmRecord(
                    rule="database-deadlock",
                    level="error",
                    claim=(
                        f"Postgres broke {unseen} deadlock"
                        f"{'' if unseen == 1 else 's'} that no task of this process "
                        "was seen in"
                    ),
                    site=f"database {database}",
                    evidence=(
                        (
                            f"pg_stat_database counts {broken} deadlocks of {database}, "
                            f"{self._broken_before} of them from before the start"
                        ),
                        "the log of the server names the statements",
                    ),
                    count=unseen,
                )
            )
        return found

    def coverage(self) -> WatchRecord:
        """Return what it looked at; a server that did not answer is named."""
        record = super().coverage()
        if not self._url:
            unwatched = (
                "Waits inside of Postgres: no URL of a Postgres database was given."
            )
        elif self._failure:
            unwatched = f"Waits inside of Postgres: {self._failure}"
        else:
            return WatchRecord(
                record.detector,
                (*record.watched, "Postgres row and advisory locks"),
                (*record.unwatched, *((_LATE,) if self._is_counting else ())),
                record.facts,
            )
        return WatchRecord(
            record.detector,
            record.watched,
            (*record.unwatched, unwatched),
            record.facts,
        )

    def _outside(self, tasks: Iterable[Task]) -> Mapping[Task, Iterable[Task]]:
        sessions = self._sessions(tasks)
        if not self._url or len(sessions) < 2:
            return {}
        waits: dict[Task, list[Task]] = {}
        pids = list(sessions)
        blocked = self._ask(lambda connection: _fetch_blockers(connection, pids)) or {}
        for pid, blockers in blocked.items():
            known = [sessions[one] for one in blockers if one in sessions]
            others = [one for one in known if one is not sessions[pid]]
            if others:
                waits.setdefault(sessions[pid], []).extend(others)
        return waits

    def _ask(self, question: Callable[[Any], Awaitable[T]]) -> T | None:
        """Return the answer of the server; None when it gave none, which is noted."""
        answer: list[T] = []

        def run() -> None:
            try:
                answer.append(asyncio.run(self._connected(question)))
                self._failure = ""
            except (
                OSError,
                TimeoutError,
                asyncpg.PostgresError,
                asyncpg.InterfaceError,
            ) as exc:
                self._failure = (
                    "the server does not tell who waits for whom "
                    f"({type(exc).__name__}: {exc})."
                )

        # The loop of this thread is the one that is asked about.
        thread = threading.Thread(target=run, name="deadlock-watcher", daemon=True)
        thread.start()
        thread.join()
        return answer[0] if answer else None

    async def _connected(self, question: Callable[[Any], Awaitable[T]]) -> T:
        connection = await asyncpg.connect(
            self._url, timeout=TIMEOUT_S, statement_cache_size=0
        )
        try:
            return await question(connection)
        finally:
            connection.terminate()


async def _fetch_blockers(connection: Any, pids: list[int]) -> dict[int, list[int]]:  # noqa: ANN401  # asyncpg has no types
    rows = await connection.fetch(_BLOCKERS, pids, timeout=TIMEOUT_S)
    return {row["pid"]: list(row["blockers"]) for row in rows}


async def _fetch_broken(connection: Any) -> tuple[str, int]:  # noqa: ANN401  # as above
    row = await connection.fetchrow(_BROKEN, timeout=TIMEOUT_S)
    return row["datname"], row["deadlocks"]
