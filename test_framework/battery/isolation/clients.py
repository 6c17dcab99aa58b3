"""Where transactions of the matrix come from: a DSN, or a service's own sessions.

What a service does on the way to its sessions decides as much as the database: a wrong
level, autocommit, or one session for all. So the same scenarios run through its factory.
"""

import contextlib
import importlib
import inspect
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Protocol

import asyncpg

from test_framework.battery.isolation.scenarios import PostgresLevel, Rows
from test_framework.core import TargetError, UsageError

REFUSED = {"40001", "40P01", "25P02", "55P03"}
"""SQLSTATEs by which a database refuses: serialization, deadlock, what follows, locks."""


class RefusedError(Exception):
    """Raised when the database refused a statement to keep transactions apart.

    Attributes:
        sqlstate: Its code.
    """

    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


class Client(Protocol):
    """One transaction at a time."""

    async def run(self, sql: str) -> Rows:
        """Run one statement and return its rows.

        Raises:
            RefusedError: The database refused it.
            TargetError: It failed otherwise.
        """
        ...

    async def end(self, *, is_commit: bool) -> None:
        """Commit or roll back.

        Raises:
            RefusedError: The database refused the commit.
        """
        ...

    async def close(self) -> None:
        """Roll back what is open and give back what was taken."""
        ...


Source = Callable[[], Awaitable[Client]]
"""Opens a client."""


class Connection:
    """A client over a connection of asyncpg, at a level or at the database's own."""

    def __init__(self, connection: Any, level: PostgresLevel | None) -> None:  # noqa: ANN401  # asyncpg has no types
        self._connection = connection
        self._level = level

    async def run(self, sql: str) -> Rows:
        """Run one statement; the first one begins the transaction."""
        with _refusals():
            if not self._connection.is_in_transaction():
                level = f" isolation level {self._level}" if self._level else ""
                await self._connection.execute(f"begin{level}")
            return tuple(tuple(row) for row in await self._connection.fetch(sql))

    async def end(self, *, is_commit: bool) -> None:
        """Commit or roll back."""
        if self._connection.is_in_transaction():
            with _refusals():
                await self._connection.execute("commit" if is_commit else "rollback")

    async def close(self) -> None:
        """Roll back what is open; the connection stays with its owner."""
        await self.end(is_commit=False)


class Session:
    """A client over a session or connection of SQLAlchemy, made by a service."""

    def __init__(self, session: Any, stack: contextlib.AsyncExitStack) -> None:  # noqa: ANN401  # whatever the service makes
        self._session = session
        self._stack = stack

    async def run(self, sql: str) -> Rows:
        """Run one statement as the service would."""
        from sqlalchemy import text  # noqa: PLC0415  # an extra

        with _refusals():
            result = await self._session.execute(text(sql))
            if not result.returns_rows:
                return ()
            return tuple(tuple(row) for row in result.all())

    async def end(self, *, is_commit: bool) -> None:
        """Commit or roll back the session."""
        with _refusals():
            await (self._session.commit() if is_commit else self._session.rollback())

    async def close(self) -> None:
        """Roll back what is open and leave whatever the factory entered."""
        with contextlib.suppress(RefusedError):
            await self.end(is_commit=False)
        await self._stack.aclose()


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Turn errors of drivers into ours."""
    try:
        yield
    except Exception as exc:
        origin = getattr(exc, "orig", None) or exc
        sqlstate = getattr(origin, "sqlstate", None) or getattr(origin, "pgcode", None)
        if sqlstate in REFUSED:
            raise RefusedError(sqlstate) from exc
        cure = (
            "Do sessions of the service do more than hand on statements?"
            if sqlstate is None
            else "The role needs to create, read and change a table of its own."
        )
        message = f"A statement failed: {type(exc).__name__}: {exc}. {cure}"
        raise TargetError(message) from exc


async def connect(dsn: str) -> Any:  # noqa: ANN401  # asyncpg has no types
    """Return a connection.

    Raises:
        TargetError: Nobody answers there, or not as Postgres does.
    """
    # SQLAlchemy names a driver in the scheme, which asyncpg does not know.
    scheme, _, rest = dsn.partition("://")
    try:
        return await asyncpg.connect(f"{scheme.partition('+')[0]}://{rest}", timeout=10)
    except (OSError, ValueError, asyncpg.PostgresError, TimeoutError) as exc:
        message = (
            f"Postgres does not answer ({type(exc).__name__}: {exc}). Pass the address "
            "of a running Postgres, such as postgresql://user:password@host/database."
        )
        raise TargetError(message) from exc


def load_sessions(name: str) -> Callable[[], Any]:
    """Return a service's session factory by its name.

    Args:
        name: ``module:factory``; a callable without arguments that returns a session,
            an awaitable of one, an asynchronous context manager of one, or yields one
            as dependencies of FastAPI do.

    Raises:
        UsageError: There is no such thing.
    """
    module, _, attribute = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as exc:
        message = (
            f"--sessions {name!r}: {exc}. Pass module:factory, where the factory is a "
            "callable that gives one session of the service."
        )
        raise UsageError(message) from exc
    if not callable(found):
        message = f"--sessions {name!r} is a {type(found).__name__}, not a callable."
        raise UsageError(message)
    return found  # type: ignore[no-any-return]  # looked up by name


def session_source(factory: Callable[[], Any]) -> Source:
    """Return what opens clients through a service's session factory."""

    async def open_session() -> Client:
        stack = contextlib.AsyncExitStack()
        made = factory()
        if inspect.isasyncgen(made):
            stack.push_async_callback(made.aclose)
            made = await anext(made)
        elif inspect.isawaitable(made) and not hasattr(made, "__aenter__"):
            made = await made
        if hasattr(made, "__aenter__"):
            made = await stack.enter_async_context(made)
        if not (hasattr(made, "execute") and hasattr(made, "commit")):
            message = (
                f"The session factory gave a {type(made).__name__}: expected a session "
                "or connection of SQLAlchemy's asyncio, with execute and commit."
            )
            raise UsageError(message)
        return Session(made, stack)

    return open_session
