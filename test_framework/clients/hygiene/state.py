"""The state of one Postgres session that outlives its transactions."""

import asyncio
from collections.abc import Awaitable, Collection
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

Kind = Literal[
    "setting",
    "advisory lock",
    "temporary table",
    "LISTEN",
    "prepared statement",
    "cursor",
    "open transaction",
]
_T = TypeVar("_T")

# Settings of one's own ("app.user_id") are in no catalogue and are asked for by name;
# after SET LOCAL they stay as empty text. What was set to the value that RESET would give
# changes nothing: asyncpg sets ``jit`` back so when it has looked types up.
_STATE = """
SELECT 'setting', name, setting FROM pg_catalog.pg_settings
WHERE source = 'session' AND setting IS DISTINCT FROM reset_val
UNION ALL
SELECT 'setting', name, pg_catalog.current_setting(name, true)
FROM pg_catalog.unnest($1::text[]) AS name
WHERE coalesce(pg_catalog.current_setting(name, true), '') <> ''
UNION ALL
SELECT 'advisory lock', classid || ':' || objid, mode FROM pg_catalog.pg_locks
WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid()
UNION ALL
SELECT 'temporary table', relname, '' FROM pg_catalog.pg_class
WHERE relkind = 'r' AND relnamespace = pg_catalog.pg_my_temp_schema()
UNION ALL
SELECT 'LISTEN', channel, '' FROM pg_catalog.pg_listening_channels() AS channel
UNION ALL
SELECT 'prepared statement', name, '' FROM pg_catalog.pg_prepared_statements
WHERE from_sql
UNION ALL
SELECT 'cursor', name, '' FROM pg_catalog.pg_cursors WHERE is_holdable
"""


@dataclass(frozen=True, slots=True)
class Leftover:
    """One thing that a session keeps.

    Attributes:
        kind: What it is.
        name: Its name; of a lock its key, of a transaction nothing.
        value: What a setting is set to; tells changes apart and is never shown, for it
            may be somebody's id.
    """

    kind: Kind
    name: str
    value: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".rstrip()


async def session_state(
    connection: Any,  # noqa: ANN401  # asyncpg ships no types
    settings: Collection[str] = (),
) -> frozenset[Leftover]:
    """Return what a session keeps beyond its transaction.

    Args:
        connection: Of asyncpg. One round trip, some 0.7 ms.
        settings: Names of settings of one's own to ask for.

    Raises:
        asyncpg.PostgresError: Postgres refuses to say.
    """
    if connection.is_in_transaction():
        # A failed transaction answers no questions; the rest is moot until it ends.
        return frozenset({Leftover("open transaction", "")})
    rows = await connection.fetch(_STATE, list(settings))
    return frozenset(Leftover(*row) for row in rows)


async def undisturbed(work: Awaitable[_T]) -> _T:
    """Await something to its end; a cancellation comes at the next await after it.

    Pools do not expect their hooks to be cancelled: a slot would be lost.
    """
    task = asyncio.ensure_future(work)
    is_cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            is_cancelled = True
    current = asyncio.current_task()
    if is_cancelled and current is not None:
        current.uncancel()
        current.cancel()
    return task.result()
