"""The connection pool, and the check that it cannot see past row-level security."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
from sqlalchemy import URL, event, text
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from app.security import Secret

SERVICE_ROLE = "isolation_app"
CONNECT_TIMEOUT_S = 10.0
STATEMENT_TIMEOUT_MS = 30_000
TRANSACTION_TIMEOUT_MS = 2 * STATEMENT_TIMEOUT_MS
"""How long a transaction may stand still, and how long one of a user may take."""


def transaction_limit(milliseconds: str, *, is_local: bool) -> str:
    """Return an SQL expression that limits transactions, and is null where none can be.

    ``transaction_timeout`` came with Postgres 17, and an older server refuses a setting
    that it does not know. It ends also a transaction that stands within a statement,
    whose session is not idle to Postgres.

    Args:
        milliseconds: An SQL expression of text; NULL gives the session's own limit back.
        is_local: For this transaction alone. Postgres changes no limit that runs
            already: take it away with ``'0'`` before.
    """
    return (
        "CASE WHEN current_setting('transaction_timeout', true) IS NOT NULL THEN "
        f"set_config('transaction_timeout', {milliseconds}, {is_local}) END"
    )


class StorageError(RuntimeError):
    """Raised when the database is not fit to keep users apart: the operator's fault."""


def open_engine(
    url: str,
    *,
    pool_size: int,
    pool_timeout_s: float,
    role: str = SERVICE_ROLE,
    password: Secret | None = None,
) -> AsyncEngine:
    """Return a pool of at most ``pool_size`` connections; opens none yet.

    Every connection takes on ``role`` as it starts. That is its session's default, so
    no pool reset can lose it. A ``password`` takes the place of the one in the URL; each
    connection is opened with the version of that time.
    """
    engine = create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=pool_timeout_s,
        # Parameters are users' data; errors are logged.
        hide_parameters=True,
        connect_args={
            "async_creator_fn": connector(password),
            "timeout": CONNECT_TIMEOUT_S,
            "server_settings": {
                "role": role,
                "application_name": "isolation-app",
                "statement_timeout": str(STATEMENT_TIMEOUT_MS),
                "idle_in_transaction_session_timeout": str(TRANSACTION_TIMEOUT_MS),
                "jit": "off",
            },
        },
    )
    event.listen(engine.sync_engine, "checkout", _refuse_closed)
    return engine


async def check_role(engine: AsyncEngine) -> None:
    """Refuse to serve under a role that row-level security does not bind.

    Raises:
        StorageError: Postgres cannot be reached, the role is a superuser or bypasses
            row-level security, or a table is not protected.
    """
    async with _connected(engine) as connection:
        role, superuser, bypass = (
            await connection.execute(
                text(
                    "SELECT rolname, rolsuper, rolbypassrls FROM pg_roles "
                    "WHERE rolname = current_user"
                )
            )
        ).one()
        unprotected = (
            (
                await connection.execute(
                    text(
                        "SELECT c.relname FROM pg_class c JOIN pg_attribute a "
                        "ON a.attrelid = c.oid AND a.attname = 'user_id' "
                        "WHERE c.relkind = 'r' AND c.relnamespace = "
                        "'public'::regnamespace AND NOT "
                        "(c.relrowsecurity AND c.relforcerowsecurity)"
                    )
                )
            )
            .scalars()
            .all()
        )
    if superuser or bypass:
        message = (
            f"Role {role!r} can bypass row-level security, so it must not serve "
            f"requests. Let DATABASE_URL's login become {SERVICE_ROLE!r}, or take "
            "SUPERUSER and BYPASSRLS away from it."
        )
        raise StorageError(message)
    if unprotected:
        message = (
            f"Row-level security is not forced on {', '.join(unprotected)}. Run "
            "`python -m app.storage.migrate`, or force it on tables you added."
        )
        raise StorageError(message)


@contextlib.asynccontextmanager
async def _connected(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    try:
        async with engine.connect() as connection:
            yield connection
    except (OSError, DBAPIError) as exc:
        raise connect_error(engine.url, exc) from exc


def connect_error(url: URL, exc: Exception) -> StorageError:
    """Return what to tell an operator when Postgres could not be used at the start."""
    reason = str(getattr(exc, "orig", None) or exc).partition("\n")[0]
    message = (
        f"Postgres at {url.host}:{url.port or 5432} cannot be used as "
        f"{url.username!r}: {reason.rpartition('>: ')[2]}. Check DATABASE_URL and "
        "MIGRATION_DATABASE_URL, and that the server runs."
    )
    return StorageError(message)


def connector(
    password: Secret | None,
) -> Callable[..., Awaitable[asyncpg.Connection]]:
    """Return what opens connections, with a password that may be exchanged."""
    if password is None:
        return _connect
    return functools.partial(_log_in, password)


async def _log_in(secret: Secret, **options: Any) -> asyncpg.Connection:  # noqa: ANN401  # the driver's own
    refused: Exception | None = None
    async with contextlib.aclosing(secret.attempts()) as attempts:
        async for version in attempts:
            try:
                return await _connect(**{**options, "password": version.value})
            except asyncpg.InvalidAuthorizationSpecificationError as exc:
                refused = exc
    raise refused or AssertionError


async def _connect(**options: Any) -> asyncpg.Connection:  # noqa: ANN401  # the driver's own
    # asyncpg cancelled while it connects leaves a future whose error nobody reads. So
    # a cancelled caller waits the few milliseconds until there is something to close,
    # and one that is cancelled again leaves that to the callback.
    connecting = asyncio.create_task(asyncpg.connect(**options))
    try:
        return await asyncio.shield(connecting)
    except asyncio.CancelledError:
        connecting.add_done_callback(_hang_up)
        await asyncio.wait({connecting})
        raise


def _hang_up(connecting: asyncio.Task[asyncpg.Connection]) -> None:
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().terminate()


def _refuse_closed(
    connection: object, _entry: ConnectionPoolEntry, _proxy: PoolProxiedConnection
) -> None:
    # Costs no round trip, unlike a ping: asyncpg has already seen a server that hung
    # up. The pool opens a fresh connection instead, so an innocent request survives.
    driver = getattr(connection, "driver_connection", None)
    if isinstance(driver, asyncpg.Connection) and driver.is_closed():
        message = "The server closed this connection."
        raise DisconnectionError(message)
