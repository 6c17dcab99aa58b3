"""What happens to Postgres: sessions ended, the server restarted, no room, no turn."""

import asyncio
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from test_framework.core import TargetError
from test_framework.faults.postgres_sessions import (
    FullError,
    Held,
    session,
    telling,
    terminate,
)
from test_framework.faults.restarts import NOT_OURS, required

if TYPE_CHECKING:
    from test_framework.faults.field import Field

_LOCK_LIMIT_S = 1.0
_AT_ONCE = 20
_ROUNDS = 50
_REFUSALS = 5
"""A session that was ended leaves its place a moment later."""

_RELATIONS = """
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_(catalog|temp)'
"""
_TABLES = (
    "SELECT format('%I.%I', n.nspname, c.relname) "
    + _RELATIONS
    + "AND n.nspname <> 'pg_toast' AND c.relkind IN ('r', 'p') ORDER BY 1"
)
_FILES = (
    "SELECT pg_relation_filepath(c.oid) "
    + _RELATIONS
    + "AND c.relkind IN ('r', 'i', 't', 'm') AND NOT c.relisshared"
)


class _PostgresFault:
    """A disturbance that needs a session of its own in Postgres."""

    def lacks(self, field: "Field") -> str | None:
        """Return why it cannot strike: nobody said where Postgres is."""
        if field.database_url is None:
            return (
                "nobody said where its Postgres is; set DATABASE_URL to the database "
                "of the service, as a superuser."
            )
        return None


class TerminateBackends(_PostgresFault):
    """Postgres ends the service's sessions, as an administrator does.

    With a proxy before Postgres these are the sessions that came through it, without
    one all of the database but its own.

    Attributes:
        terminated: How many sessions the last strike ended (count).
    """

    name: ClassVar[str] = "terminate-backends"
    promise: ClassVar[str] = (
        "What was under way may fail and is not done by half; the pool has new "
        "sessions at once."
    )

    def __init__(self) -> None:
        self.terminated = 0

    async def strike(self, field: "Field") -> None:
        """End the sessions."""
        self.terminated = 0
        async with session(field) as ours:
            self.terminated = await terminate(ours, field, spared=[])

    async def heal(self, field: "Field") -> None:
        """Do nothing: sessions are new."""


class FullPool(_PostgresFault):
    """Each table is locked by somebody else: sessions of the service wait and run out.

    Each lock is held by a session of its own, which waits for nothing else. So no
    circle of waiting can close through them: a deadlock that shows is the service's.
    """

    name: ClassVar[str] = "full-pool"
    promise: ClassVar[str] = (
        "Requests end in bounded time with an error that says to come again, those "
        "that need no table are served, and no session is lost."
    )

    def __init__(self, tables: Sequence[str] | None = None) -> None:
        """Lock these tables, as SQL writes them; None locks all there are."""
        self.tables = None if tables is None else tuple(tables)
        self._held = Held()

    async def strike(self, field: "Field") -> None:
        """Lock the tables; a lock that is not granted yet lets nobody past either."""
        async with session(field) as ours:
            tables = self.tables or [row[0] for row in await ours.fetch(_TABLES)]
        sessions = [await self._held.connect(field) for _ in tables]
        locking = [
            asyncio.create_task(_lock(session, table))
            for session, table in zip(sessions, tables, strict=True)
        ]
        self._held.tasks += locking
        if locking:
            done, _ = await asyncio.wait(locking, timeout=_LOCK_LIMIT_S)
            with telling():
                for task in done:
                    task.result()

    async def heal(self, field: "Field") -> None:
        """Release them."""
        await self._held.release(field)


class FullPostgres(_PostgresFault):
    """Strangers hold all connections that Postgres takes; the service finds none.

    Its sessions are ended first, and what it loses others get.
    """

    name: ClassVar[str] = "full-postgres"
    promise: ClassVar[str] = (
        "Requests end in bounded time with an error that says to come again, and the "
        "pool fills again once there is room."
    )

    def __init__(self) -> None:
        self._held = Held()

    async def strike(self, field: "Field") -> None:
        """Take every connection that is free, end the others', and take those."""
        await self._fill(field)
        if not self._held.sessions:
            message = (
                "Postgres takes no connection, so there is none to hold. Run again."
            )
            raise TargetError(message)
        # A pool may be quicker than we are to take its place back: then once more.
        for _ in range(_ROUNDS):
            with telling():
                ended = await terminate(
                    self._held.sessions[0], field, spared=self._held.pids
                )
            if not ended:
                break
            await self._fill(field)

    async def heal(self, field: "Field") -> None:
        """Give all of them back."""
        await self._held.release(field)

    async def _fill(self, field: "Field") -> None:
        async def take() -> None:
            refusals = 0
            while refusals < _REFUSALS:
                try:
                    await self._held.connect(field)
                except FullError:
                    refusals += 1

        await asyncio.gather(*(take() for _ in range(_AT_ONCE)))


class FullDisk:
    """Postgres has no room for new rows: its files may not become larger.

    What it holds can be read, changed in place and deleted, and its log has room, as
    where tables have a disk of their own. Postgres says ``could not extend file`` and
    to look at the disk, with EFBIG (SQLSTATE XX000) where a full disk is ENOSPC
    (53100): a limit that the kernel puts on its processes can be had without mounting.
    """

    name: ClassVar[str] = "full-disk"
    promise: ClassVar[str] = (
        "Writes fail with an error and leave nothing behind, reads go on, and writes "
        "succeed again once there is room."
    )

    def lacks(self, field: "Field") -> str | None:
        """Return why it cannot strike: the server is not ours, or not on Linux."""
        if field.services is None or "postgres" not in field.services.pids:
            return NOT_OURS.format(name="postgres", variable="DATABASE_URL")
        if field.database_url is None:
            return "nobody said where its Postgres is; name it in the field."
        if sys.platform != "linux":
            return "only Linux limits the files of a process that runs."
        return None

    async def strike(self, field: "Field") -> None:
        """Leave no room in any table or index."""
        services = required(field.services)
        async with session(field) as ours:
            rows = await ours.fetch(_FILES)
        services.fill_disk([path for (path,) in rows if path is not None])

    async def heal(self, field: "Field") -> None:
        """Give it room."""
        if self.lacks(field) is None:
            required(field.services).free_disk()


async def _lock(held: Any, table: str) -> None:  # noqa: ANN401  # asyncpg has no types
    await held.execute("BEGIN")
    await held.execute(f"LOCK TABLE ONLY {table} IN ACCESS EXCLUSIVE MODE")
