"""Sessions over SQLite in memory: the service's own statements, without a socket.

Each statement, and what ends a transaction, asks the world outside once, as a round
trip would; a commit has happened before its answer comes. SQLite runs one transaction
at a time, so transactions queue; what happens between two transactions of a run
interleaves freely. What only Postgres does (row-level security, the user of the
transaction) is proved on real Postgres in ``tests/integration``.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, cast
from uuid import uuid4

from sqlalchemy import (
    Connection,
    CursorResult,
    Executable,
    create_engine,
    delete,
    insert,
    select,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.pool import StaticPool

from app.context import UserExecutionContext
from app.storage import Run, RunStatus, SessionFactory
from app.storage.tables import documents, metadata, passages, runs, threads
from test_framework.explore import external

_TABLES = (passages, documents, runs, threads)


class MemorySession:
    """One transaction."""

    def __init__(self, connection: Connection, user_id: str) -> None:
        """Belong to ``user_id``; the factory ends the transaction."""
        self.user_id = user_id
        self._connection = connection

    async def execute(
        self, statement: Executable, parameters: list[dict[str, Any]] | None = None
    ) -> CursorResult[Any]:
        """Run a statement after a round trip."""
        await external("statement")
        return self._connection.execute(statement, parameters)

    async def commit(self) -> None:
        """Commit what was done so far."""
        self._connection.commit()
        await external("commit")


class MemorySessions(SessionFactory):
    """Opens sessions over one database in memory.

    Attributes:
        opened: Users whose sessions were opened, in order.
        open_now: Sessions that are open (count).
    """

    def __init__(self) -> None:
        """Make an empty database that holds documents, threads and runs."""
        self._database = create_engine(
            "sqlite://", poolclass=StaticPool, hide_parameters=True
        )
        metadata.create_all(self._database, tables=list(_TABLES))
        self._turn = asyncio.Lock()
        self.opened: list[str] = []
        self.open_now = 0

    def forget(self) -> None:
        """Begin anew with an empty database; compiled statements are kept."""
        self._turn = asyncio.Lock()
        self.opened.clear()
        self.open_now = 0
        with self._database.begin() as connection:
            for table in _TABLES:
                connection.execute(delete(table))

    @contextlib.asynccontextmanager
    async def for_user(self, user_id: str) -> AsyncIterator[AsyncSession]:
        """Open a transaction; commit at the end, roll back on error and cancel."""
        async with self._turn:
            self.open_now += 1
            self.opened.append(user_id)
            try:
                with self._database.connect() as connection:
                    session = MemorySession(connection, user_id)
                    yield cast("AsyncSession", session)
                    await session.commit()
            finally:
                self.open_now -= 1

    def add_run(self, context: UserExecutionContext, *, goal: str) -> Run:
        """Write a running run of the context's user and return it."""
        now = datetime.now(UTC)
        run = Run(
            run_id=str(uuid4()),
            thread_id=str(uuid4()),
            goal=goal,
            status="running",
            result=None,
            error=None,
            cancel_requested=False,
            events_after=0,
            created_at=now,
            finished_at=None,
        )
        with self._database.begin() as connection:
            connection.execute(
                insert(runs).values(
                    id=run.run_id,
                    user_id=context.user_id,
                    thread_id=run.thread_id,
                    request_id=context.request_id,
                    goal=goal,
                    status=run.status,
                    cancel_requested=False,
                    events_after=0,
                    deadline_at=now,
                )
            )
        return run

    def add_thread(self, user_id: str) -> str:
        """Write a thread of a user and return its id."""
        thread_id = str(uuid4())
        with self._database.begin() as connection:
            connection.execute(
                insert(threads).values(id=thread_id, user_id=user_id, title="t")
            )
        return thread_id

    def titles(self, user_id: str) -> set[str]:
        """Return the titles of a user's documents as they are stored."""
        mine = select(documents.c.title).where(documents.c.user_id == user_id)
        with self._database.begin() as connection:
            return set(connection.execute(mine).scalars())

    def statuses(self) -> dict[str, RunStatus]:
        """Return the status of every run as it is stored, by run."""
        with self._database.begin() as connection:
            rows = connection.execute(select(runs.c.id, runs.c.status)).all()
        return {row.id: row.status for row in rows}

    def outcome(self, run: Run) -> tuple[RunStatus, str | None]:
        """Return a run's status and result as they are stored."""
        with self._database.begin() as connection:
            row = connection.execute(
                select(runs.c.status, runs.c.result).where(runs.c.id == run.run_id)
            ).one()
        return row.status, row.result

    def close(self) -> None:
        """Forget the database."""
        self._database.dispose()
