"""Sessions: one per piece of work, opened for one user, never kept between two.

The user is set with ``set_config(..., is_local => true)``, which is ``SET LOCAL``: it
ends with the transaction, so nothing of a user stays in the pooled connection. A
transaction without it sees no rows at all.
"""

import contextlib
from collections.abc import AsyncIterator

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from app.context import UserExecutionContext
from app.monitoring import IsolationGuard

_SET_USER = text("SELECT set_config('app.user_id', :user_id, true)")
_SET_AUTH = text("SELECT set_config('app.scope', 'auth', true)")
_SET_KEYS = text("SELECT set_config('app.scope', 'keys', true)")
_SET_AUDIT = text("SELECT set_config('app.scope', 'audit', true)")
_SET_CONTROL = text("SELECT set_config('app.scope', 'control', true)")


@contextlib.asynccontextmanager
async def transaction(
    sessions: "SessionFactory", context: UserExecutionContext
) -> AsyncIterator[UserExecutionContext]:
    """Yield the context with a session of its own, in a span of its own.

    It commits at the end of the block and rolls back when the block raises.
    """
    with context.traced("transaction") as working:
        async with sessions.for_user(working.user_id) as session:
            yield working.child(session=session)


class SessionFactory:
    """Opens sessions over one pool; remembers no user."""

    def __init__(
        self, engine: AsyncEngine, guard: IsolationGuard | None = None
    ) -> None:
        """Use the connections of ``engine``; the caller disposes of it."""
        self._guard = guard or IsolationGuard()
        self._maker = async_sessionmaker(
            engine, expire_on_commit=False, autoflush=False
        )

    @contextlib.asynccontextmanager
    async def for_user(self, user_id: str) -> AsyncIterator[AsyncSession]:
        """Open a transaction that sees the rows of ``user_id`` only.

        It commits at the end of the block and rolls back when the block raises. A
        connection whose query was cancelled is not used again (SQLAlchemy discards
        it): the query may still be running on it.
        """
        async with self._transaction() as session:
            await self.set_user(session, user_id)
            yield session

    @contextlib.asynccontextmanager
    async def for_auth(self) -> AsyncIterator[AsyncSession]:
        """Open a transaction that sees accounts and refresh tokens of everybody.

        For registering, logging in and refreshing only: the user is not known yet.
        Threads, documents, messages and runs stay invisible.
        """
        async with self._transaction() as session:
            await session.execute(_SET_AUTH)
            yield session

    @contextlib.asynccontextmanager
    async def for_audit(
        self, user_id: str | None = None
    ) -> AsyncIterator[AsyncSession]:
        """Open a transaction that reads the audit log of everybody, from one snapshot.

        Args:
            user_id: The auditor, whose roles the same snapshot shows; None for an
                operator.
        """
        async with self._transaction() as session:
            await session.connection(
                execution_options={
                    "isolation_level": "REPEATABLE READ",
                    "postgresql_readonly": True,
                }
            )
            if user_id is not None:
                await self.set_user(session, user_id)
            await session.execute(_SET_AUDIT)
            yield session

    @contextlib.asynccontextmanager
    async def for_anchoring(self) -> AsyncIterator[AsyncSession]:
        """Open a transaction that may sign where the chains of the audit log are."""
        async with self._transaction() as session:
            await session.execute(_SET_AUDIT)
            yield session

    @contextlib.asynccontextmanager
    async def for_control(self) -> AsyncIterator[AsyncSession]:
        """Open a transaction that can list which things of whom need work.

        For controllers only: of all tables it opens the keys, to be read. What a key
        stands for is seen in ``for_user`` of its user.
        """
        async with self._transaction() as session:
            await session.execute(_SET_CONTROL)
            yield session

    @contextlib.asynccontextmanager
    async def for_keys(self) -> AsyncIterator[AsyncSession]:
        """Open a transaction that sees the signing keys, and nothing of any user."""
        async with self._transaction() as session:
            await session.execute(_SET_KEYS)
            yield session

    async def set_user(self, session: AsyncSession, user_id: str) -> None:
        """Make ``user_id`` the user of the session's current transaction."""
        found = await session.execute(_SET_USER, {"user_id": user_id})
        # Postgres says whom it serves from now on: a proxy or a driver that mixed up
        # two answers is noticed before the first query.
        self._guard.require("session", owner=found.scalar(), user_id=user_id)

    @contextlib.asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncSession]:
        # Closing rolls back what is not committed, and SQLAlchemy shields it. It is the
        # only step of cleaning up: of two, a second cancellation would start the next
        # one while the first is still at work, and the connection would stay in use.
        async with self._maker() as session:
            yield session
            await session.commit()
