"""Sessions: one per piece of work, opened for one user, never kept between two.

The user is set with ``set_config(..., is_local => true)``, which is ``SET LOCAL``: it
ends with the transaction, so nothing of a user stays in the pooled connection. A
transaction without it sees no rows at all.

What a transaction has locked others wait for, each with a connection. One of a process
that was stopped is ended by the server: by ``idle_in_transaction_session_timeout`` where
it stood between two statements, and by ``transaction_timeout`` (Postgres 17) where it
stood within one, which leaves a session that is not idle. The second is set here and
not with the connection: servers that do not know it refuse connections that ask for it.
"""

import contextlib
from collections.abc import AsyncIterator

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from app.context import UserExecutionContext
from app.monitoring import IsolationGuard
from app.storage.engine import TRANSACTION_TIMEOUT_MS, transaction_limit

_WITHIN = ", " + transaction_limit("CAST(:limit_ms AS text)", is_local=True)
_SET_USER = text("SELECT set_config('app.user_id', :user_id, true)" + _WITHIN)
_SET_AUTH = text("SELECT set_config('app.scope', 'auth', true)" + _WITHIN)
_SET_KEYS = text("SELECT set_config('app.scope', 'keys', true)" + _WITHIN)
_SET_AUDIT = text("SELECT set_config('app.scope', 'audit', true)" + _WITHIN)
_SET_CONTROL = text("SELECT set_config('app.scope', 'control', true)" + _WITHIN)
_UNLIMITED = {"limit_ms": "0"}


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
        self,
        engine: AsyncEngine,
        guard: IsolationGuard | None = None,
        *,
        limit_ms: int = TRANSACTION_TIMEOUT_MS,
    ) -> None:
        """Use the connections of ``engine``; the caller disposes of it.

        Args:
            engine: The pool.
            guard: Told when a session is another user's.
            limit_ms: How long a transaction may take, where the server can tell
                (Postgres 17); reading the audit log may take any time.
        """
        self._limit = {"limit_ms": str(limit_ms)}
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
            await session.execute(_SET_AUTH, self._limit)
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
            await session.execute(_SET_AUDIT, _UNLIMITED)
            yield session

    @contextlib.asynccontextmanager
    async def for_anchoring(self) -> AsyncIterator[AsyncSession]:
        """Open a transaction that may sign where the chains of the audit log are."""
        async with self._transaction() as session:
            await session.execute(_SET_AUDIT, self._limit)
            yield session

    @contextlib.asynccontextmanager
    async def for_control(self) -> AsyncIterator[AsyncSession]:
        """Open a transaction that can list which things of whom need work.

        For controllers only: of all tables it opens the keys, to be read. What a key
        stands for is seen in ``for_user`` of its user.
        """
        async with self._transaction() as session:
            await session.execute(_SET_CONTROL, self._limit)
            yield session

    @contextlib.asynccontextmanager
    async def for_keys(self) -> AsyncIterator[AsyncSession]:
        """Open a transaction that sees the signing keys, and nothing of any user."""
        async with self._transaction() as session:
            await session.execute(_SET_KEYS, self._limit)
            yield session

    async def set_user(self, session: AsyncSession, user_id: str) -> None:
        """Make ``user_id`` the user of the session's current transaction."""
        found = await session.execute(_SET_USER, {"user_id": user_id, **self._limit})
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
