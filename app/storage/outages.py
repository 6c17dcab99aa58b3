"""Which errors say that Postgres is away or full, and not that it refuses.

The driver's errors are told by their SQLSTATE: SQLAlchemy translates few of them, and
none of those that are raised while a connection is made.

Source: PostgreSQL documentation, appendix A (error codes).
"""

import asyncpg
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

_CLASSES = frozenset({"08", "53", "57", "58"})
"""Connection, insufficient resources, operator intervention, system error."""


def is_outage(exc: BaseException) -> bool:
    """Whether the same may succeed once Postgres is back, or has room again."""
    if isinstance(exc, OperationalError | InterfaceError | PoolTimeoutError):
        return True
    if isinstance(exc, DBAPIError):
        return exc.connection_invalidated or _state(exc.orig) in _CLASSES
    return isinstance(exc, asyncpg.PostgresError) and _state(exc) in _CLASSES


def _state(exc: BaseException | None) -> str:
    """Return the class of an error: the first two letters of its SQLSTATE."""
    return str(getattr(exc, "sqlstate", None) or "")[:2]
