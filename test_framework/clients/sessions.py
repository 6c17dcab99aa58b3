"""What the sessions of a Postgres database hold, and which of them wait for which.

Read from ``pg_stat_activity``, ``pg_locks`` and ``pg_blocking_pids``, which any role may
ask; of sessions of other roles it is told that they are there, and no more unless
this one has ``pg_read_all_stats``. A row that is locked stands in the row itself and not
in ``pg_locks``: who waits for it waits for the transaction that wrote it.
"""

import re
from dataclasses import dataclass
from typing import Any

LONGEST_QUERY = 200

# Reads, and what every transaction has of itself, stand in nobody's way. Locks of
# an index follow from those of its table.
_LOCKING = """
SELECT a.pid, coalesce(a.application_name, '') AS application,
       coalesce(a.usename, '') AS role, coalesce(a.state, '') AS state,
       coalesce(a.query, '') AS query, coalesce(a.state_change::text, '') AS since,
       a.datname = current_database() AS is_ours,
       coalesce(extract(epoch FROM clock_timestamp() - a.state_change), 0)::float
           AS seconds,
       pg_blocking_pids(a.pid) AS blockers,
       ARRAY(
           SELECT l.mode || ' on ' || coalesce(
               c.oid::regclass::text,
               CASE WHEN l.locktype = 'advisory' THEN 'advisory ' ||
                   ((l.classid::bigint << 32) | l.objid::bigint)::text
               ELSE 'a ' || l.locktype END)
           FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_class c
               ON c.oid = l.relation AND l.database = a.datid
           WHERE l.pid = a.pid AND l.granted
             AND (l.locktype = 'advisory' OR c.relkind IN ('r', 'p', 'm'))
             AND l.mode <> 'AccessShareLock'
           ORDER BY 1) AS held,
       ARRAY(
           SELECT l.mode || ' on ' || coalesce(
               c.oid::regclass::text,
               CASE WHEN l.locktype = 'advisory' THEN 'advisory ' ||
                   ((l.classid::bigint << 32) | l.objid::bigint)::text
               WHEN l.locktype = 'transactionid' THEN 'a transaction'
               ELSE 'a ' || l.locktype END)
           FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_class c
               ON c.oid = l.relation AND l.database = a.datid
           WHERE l.pid = a.pid AND NOT l.granted
           ORDER BY 1) AS wanted
FROM pg_catalog.pg_stat_activity a
WHERE a.pid <> pg_backend_pid()
  AND coalesce(a.backend_type, 'client backend') = 'client backend'
"""

_COMMENT = re.compile(r"/\*.*?\*/|--[^\n]*", re.DOTALL)
_LITERAL = re.compile(
    r"'(?:[^']|'')*'|\$(\w*)\$.*?\$\1\$|(?<![\w$.])\d+(?:\.\d+)?(?![\w.])", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Session:
    """A session that holds locks or waits for one.

    Attributes:
        pid: Of its process in the server.
        application: As it called itself; mostly nothing.
        role: Who logged in.
        state: Of ``pg_stat_activity``; empty for one that this role may not look at.
        query: The statement that it runs, or ran last, with what users wrote in it.
        since: When it came to its state, as the server writes it.
        seconds: How long ago that was (s).
        blockers: The sessions it waits for; 0 is a prepared transaction.
        held: Its locks on tables and advisory locks, reads left out.
        wanted: The lock it waits for.
    """

    pid: int
    application: str
    role: str
    state: str
    query: str
    since: str
    seconds: float
    blockers: tuple[int, ...]
    held: tuple[str, ...]
    wanted: tuple[str, ...]

    @property
    def is_open(self) -> bool:
        """Whether it sits in a transaction and does nothing."""
        return self.state.startswith("idle in transaction")

    @property
    def statement(self) -> str:
        """The statement without values and comments, which may be a user's."""
        text = _LITERAL.sub("?", _COMMENT.sub(" ", self.query))
        return " ".join(text.split())[:LONGEST_QUERY]

    def __str__(self) -> str:
        named = f" of {self.application!r}" if self.application else ""
        return f"session {self.pid}{named} ({self.role or 'a role'})"


async def locking_sessions(connection: Any) -> list[Session]:  # noqa: ANN401  # asyncpg has no types
    """Return who waits in a database, who is waited for, and who keeps locks idly.

    Who works is still to give back its locks, and is left out unless somebody waits.
    """
    rows = await connection.fetch(_LOCKING)
    found = {row["pid"]: _session(row) for row in rows}
    ours = [found[row["pid"]] for row in rows if row["is_ours"]]
    needed = {pid for one in ours for pid in (*one.blockers, *_itself(one))}
    return [one for one in found.values() if one.pid in needed]


def _itself(session: Session) -> tuple[int, ...]:
    is_keeper = session.is_open and session.held
    return (session.pid,) if session.blockers or is_keeper else ()


def _session(row: Any) -> Session:  # noqa: ANN401  # as above
    return Session(
        pid=row["pid"],
        application=row["application"],
        role=row["role"],
        state=row["state"],
        query=row["query"],
        since=row["since"],
        seconds=row["seconds"],
        blockers=tuple(dict.fromkeys(row["blockers"])),
        held=tuple(dict.fromkeys(row["held"])),
        wanted=tuple(dict.fromkeys(row["wanted"])),
    )
