"""Reads a Postgres database from end to end: every row of every table, as bytes.

For the owner sweep and for workloads that look into their own tables. Rows come as
JSON text through a server-side cursor, so memory does not grow with the table, and
a ``bytea`` comes as hex, which the recogniser reads. Nothing is ever written: the
connection is read-only. It does not read foreign tables, views and large objects.

Rows that a policy hides would pass for rows that are not there, so the connection
asks for ``row_security = off``: Postgres then refuses instead of leaving out.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import SplitResult, urlsplit

import asyncpg

from test_framework.clients.sessions import Session, locking_sessions
from test_framework.core import TargetError, UsageError

CONNECT_TIMEOUT_S = 5.0
LONGEST_ROW = 2 * 1024 * 1024
"""Characters of a row that are read; what is longer is cut."""
_ROWS_AT_ONCE = 20

# Partitions are read through their parent; the temporary tables of other sessions
# cannot be read at all.
_TABLES = """
SELECT format('%I.%I', n.nspname, c.relname) AS name, c.relkind = 'p' AS is_parent
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm')
  AND NOT c.relispartition
  AND c.relispopulated
  AND n.nspname <> 'information_schema'
  AND n.nspname NOT LIKE 'pg\\_%'
ORDER BY 1
"""

_FOREIGN_KEYS = """
SELECT format('%I.%I', n.nspname, c.relname) AS source,
       format('%I.%I', fn.nspname, fc.relname) AS target,
       ARRAY(SELECT a.attname::text
             FROM unnest(k.conkey) WITH ORDINALITY AS u(number, place)
             JOIN pg_catalog.pg_attribute a
               ON a.attrelid = k.conrelid AND a.attnum = u.number
             ORDER BY u.place) AS columns,
       ARRAY(SELECT a.attname::text
             FROM unnest(k.confkey) WITH ORDINALITY AS u(number, place)
             JOIN pg_catalog.pg_attribute a
               ON a.attrelid = k.confrelid AND a.attnum = u.number
             ORDER BY u.place) AS target_columns
FROM pg_catalog.pg_constraint k
JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_class fc ON fc.oid = k.confrelid
JOIN pg_catalog.pg_namespace fn ON fn.oid = fc.relnamespace
WHERE k.contype = 'f' AND k.conparentid = 0
ORDER BY 1, k.conname
"""

_IDLE_TRANSACTIONS = """
SELECT count(*) FROM pg_catalog.pg_stat_activity
WHERE datname = current_database()
  AND pid <> pg_backend_pid()
  AND state LIKE 'idle in transaction%'
"""


_ADVISORY_LOCKS = """
SELECT a.application_name AS application, count(*) AS locks
FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND a.state LIKE 'idle%'
  -- A leader that lives says so now and then.
  AND a.state_change < clock_timestamp() - interval '1 second'
  AND a.datname = current_database() AND a.pid <> pg_backend_pid()
GROUP BY 1 ORDER BY 1
"""

_SESSIONS = """
SELECT coalesce(application_name, '') AS application, count(*) AS sessions,
       count(*) FILTER (WHERE state IS NULL) AS hidden
FROM pg_catalog.pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
  AND coalesce(backend_type, 'client backend') = 'client backend'
GROUP BY 1 ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class Sessions:
    """The other sessions of a database at one moment.

    Attributes:
        counts: How many each application has, by the name that it gave itself.
        locks: Advisory locks that idle ones hold, by application.
        hidden: Sessions whose state this role may not see (count).
    """

    counts: dict[str, int]
    locks: dict[str, int]
    hidden: int


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """Columns of one table that point at columns of another, in matching order."""

    table: str
    columns: tuple[str, ...]
    target: str
    target_columns: tuple[str, ...]


class SqlReader:
    """Reads one database; an async context manager that owns its connection.

    Args:
        url: ``postgresql://...``; SQLAlchemy's ``postgresql+asyncpg://`` is understood.
        statement_limit_s: Seconds after which Postgres breaks a statement off; a lock
            is waited for no longer either. None for no limit.

    Raises:
        UsageError: ``url`` is not the URL of a Postgres database.
    """

    def __init__(self, url: str, *, statement_limit_s: float | None = None) -> None:
        parts = _split(url)
        self._limit_ms = round((statement_limit_s or 0) * 1000)  # 0 is none
        self._url = parts._replace(scheme="postgresql").geturl()
        self._where = (
            f"Postgres at {parts.hostname or 'localhost'}:{parts.port or 5432}"
        )
        self._connection: Any = None
        self._parents: frozenset[str] = frozenset()

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            TargetError: Nobody listens, the login is refused, or no connection is
                left.
        """
        with self._explained():
            self._connection = await asyncpg.connect(
                self._url,
                timeout=CONNECT_TIMEOUT_S,
                # Named statements do not survive a pooler in transaction mode.
                statement_cache_size=0,
            )
        try:
            with self._explained():
                await self._connection.execute(
                    "SET row_security = off; SET default_transaction_read_only = on; "
                    f"SET statement_timeout = {self._limit_ms}; "
                    f"SET lock_timeout = {self._limit_ms}"
                )
        except BaseException:
            self._connection.terminate()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection; at once when something went wrong."""
        connection, self._connection = self._connection, None
        if error is None:
            with self._explained():
                await connection.close(timeout=CONNECT_TIMEOUT_S)
        else:
            connection.terminate()

    async def tables(self) -> list[str]:
        """Return the tables and materialised views of users, as ``schema.table``.

        In order of name, quoted where SQL wants it; a partitioned table counts once.

        Raises:
            TargetError: Postgres cannot be read.
        """
        with self._explained():
            records = await self._connection.fetch(_TABLES)
        self._parents = frozenset(row["name"] for row in records if row["is_parent"])
        return [row["name"] for row in records]

    async def rows(
        self, table: str, *, holding: str | None = None
    ) -> AsyncIterator[bytes]:
        """Yield every row of a table as UTF-8 JSON, in no order.

        Args:
            table: A name from ``tables``.
            holding: Only rows whose JSON holds this text; Postgres keeps the others
                to itself.

        Raises:
            TargetError: Postgres cannot be read, or this role may not see all rows.
        """
        # ONLY: who inherits from a table is a table of its own and read as such.
        source = table if table in self._parents else f"ONLY {table}"
        # "t.*" and not "t", which a column may be called. Bytes and not text: a database
        # in SQL_ASCII may hold what is not UTF-8.
        text = "row_to_json(t.*)::text"
        row = f"convert_to(left({text}, {LONGEST_ROW}), 'UTF8')"
        query = f"SELECT {row} FROM {source} AS t"  # noqa: S608  # a name that Postgres quoted
        given: tuple[str, ...] = ()
        if holding is not None:
            query, given = f"{query} WHERE strpos({text}, $1) > 0", (holding,)
        with self._explained(table):
            async with self._connection.transaction(readonly=True):
                cursor = self._connection.cursor(query, *given, prefetch=_ROWS_AT_ONCE)
                async for row in cursor:
                    yield row[0]

    async def foreign_keys(self) -> list[ForeignKey]:
        """Return every foreign key, in order of table.

        Raises:
            TargetError: Postgres cannot be read.
        """
        with self._explained():
            records = await self._connection.fetch(_FOREIGN_KEYS)
        return [
            ForeignKey(
                table=row["source"],
                columns=tuple(row["columns"]),
                target=row["target"],
                target_columns=tuple(row["target_columns"]),
            )
            for row in records
        ]

    async def idle_transactions(self) -> int:
        """Return how many other sessions sit in an open transaction and do nothing.

        Sessions of other roles are counted only if this role may see them.

        Raises:
            TargetError: Postgres cannot be read.
        """
        with self._explained():
            count: int = await self._connection.fetchval(_IDLE_TRANSACTIONS)
        return count

    async def sessions(self) -> Sessions:
        """Return what the other sessions hold while they do nothing.

        Raises:
            TargetError: Postgres cannot be read.
        """
        with self._explained():
            sessions = await self._connection.fetch(_SESSIONS)
            locks = await self._connection.fetch(_ADVISORY_LOCKS)
        return Sessions(
            counts={row["application"]: row["sessions"] for row in sessions},
            locks={row["application"]: row["locks"] for row in locks},
            hidden=sum(row["hidden"] for row in sessions),
        )

    async def locking_sessions(self) -> list[Session]:
        """Return who waits for whom, and who keeps locks while it does nothing.

        Raises:
            TargetError: Postgres cannot be read.
        """
        with self._explained():
            return await locking_sessions(self._connection)

    @contextmanager
    def _explained(self, table: str | None = None) -> Iterator[None]:
        """Turn what the driver raises into one sentence without the password."""
        try:
            yield
        except asyncpg.InsufficientPrivilegeError as exc:
            message = (
                f"{self._where} does not show all of {table or 'its catalogue'} to "
                f"this role ({exc}). Give DATABASE_URL a role that may read every "
                "row: a superuser, or one with pg_read_all_data and BYPASSRLS."
            )
            raise TargetError(message) from exc
        except (
            asyncpg.InvalidPasswordError,
            asyncpg.InvalidAuthorizationSpecificationError,
            asyncpg.InvalidCatalogNameError,
        ) as exc:
            message = (
                f"{self._where} refuses the login ({exc}). "
                "Correct user, password or database in DATABASE_URL."
            )
            raise TargetError(message) from exc
        except asyncpg.TooManyConnectionsError as exc:
            message = (
                f"{self._where} has no connection left ({exc}). Raise its "
                "max_connections, or let the service's pool take fewer."
            )
            raise TargetError(message) from exc
        except (OSError, TimeoutError) as exc:
            reason = getattr(exc, "strerror", None) or str(exc) or "no answer in time"
            message = (
                f"{self._where} cannot be reached ({reason}). "
                "Start it, or correct DATABASE_URL."
            )
            raise TargetError(message) from exc
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
            place = f" {table}" if table else ""
            message = (
                f"{self._where} cannot be read{place} ({type(exc).__name__}: {exc}). "
                "See its log; then run again."
            )
            raise TargetError(message) from exc


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_is_valid = SplitResult("", "", "", "", ""), False
    if parts.scheme.partition("+")[0] not in {"postgresql", "postgres"} or (
        not port_is_valid
    ):
        # The value may hold a password, so only its scheme is shown.
        message = (
            f"DATABASE_URL with scheme {parts.scheme!r} is not the URL of a Postgres "
            "database. Pass postgresql://user:password@host:port/database."
        )
        raise UsageError(message)
    return parts
