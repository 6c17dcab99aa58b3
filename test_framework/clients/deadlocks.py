"""The deadlock watcher of a service: asks Postgres who waits there for whom.

A task that waits for a row waits for the task that has the session which holds it. With
the locks of asyncio and the leases of Redis in one graph, a circle over both is seen:
one task holds a lock and waits for a row, another one has the row and waits for the lock.
Postgres alone never sees that one.

It only reads what any role may: ``pg_blocking_pids`` of the sessions of this process.
The server is asked when alarms are, from a thread of its own, since the loop that
would have to wait is the one that is stuck.
"""

import asyncio
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import asyncpg

from test_framework.core import UsageError, WatchRecord
from test_framework.detect.locks import DeadlockWatcher

TIMEOUT_S = 3.0
"""How long Postgres may take to answer, seconds."""

_BLOCKERS = """
SELECT pid, pg_blocking_pids(pid) AS blockers
FROM unnest($1::int[]) AS pid
"""

Task = asyncio.Task[Any]


class ServiceDeadlockWatcher(DeadlockWatcher):
    """A ``DeadlockWatcher`` that knows what waits inside of Postgres.

    Args:
        postgres_url: ``postgresql://...`` of the service's database; that in
            ``DATABASE_URL``, if it is one, when it is left out; none when it is empty.
        slow_hold_s: As for ``DeadlockWatcher``.
        slow_wait_s: As for ``DeadlockWatcher``.
        sorted_classes: As for ``DeadlockWatcher``.

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
                record.unwatched,
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
        for pid, blockers in self._ask(list(sessions)).items():
            known = [sessions[one] for one in blockers if one in sessions]
            others = [one for one in known if one is not sessions[pid]]
            if others:
                waits.setdefault(sessions[pid], []).extend(others)
        return waits

    def _ask(self, pids: list[int]) -> Mapping[int, list[int]]:
        answer: dict[int, list[int]] = {}

        def run() -> None:
            try:
                answer.update(asyncio.run(self._fetch(pids)))
                self._failure = ""
            except (
                OSError,
                TimeoutError,
                asyncpg.PostgresError,
                asyncpg.InterfaceError,
            ) as exc:
                self._failure = (
                    f"the server does not tell who waits for whom "
                    f"({type(exc).__name__}: {exc})."
                )

        # The loop of this thread is the one that is asked about.
        thread = threading.Thread(target=run, name="deadlock-watcher", daemon=True)
        thread.start()
        thread.join()
        return answer

    async def _fetch(self, pids: list[int]) -> dict[int, list[int]]:
        connection = await asyncpg.connect(
            self._url, timeout=TIMEOUT_S, statement_cache_size=0
        )
        try:
            rows = await connection.fetch(_BLOCKERS, pids, timeout=TIMEOUT_S)
        finally:
            connection.terminate()
        return {row["pid"]: list(row["blockers"]) for row in rows}
