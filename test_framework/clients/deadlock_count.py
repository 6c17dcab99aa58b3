"""How many deadlocks Postgres broke, across crashes of the server.

``pg_stat_database`` counts them. A server that crashed counts from zero again, so a
number smaller than the last one is added whole. What it had counted between our last
look and the crash is lost, and a session hands in its counts a second after it was
last busy, so a look tells of what happened before that second.
"""

import asyncpg

from test_framework.clients.sql import CONNECT_TIMEOUT_S

_DEADLOCKS = """
SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()
"""


class DeadlockCount:
    """Counts from its first look on.

    Args:
        url: ``postgresql://...``, past any proxy.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._last: int | None = None
        self._total = 0

    async def look(self) -> int | None:
        """Return the deadlocks since the first look; None when Postgres does not tell."""
        try:
            connection = await asyncpg.connect(
                self._url, timeout=CONNECT_TIMEOUT_S, statement_cache_size=0
            )
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return None
        try:
            counted: int = await connection.fetchval(
                _DEADLOCKS, timeout=CONNECT_TIMEOUT_S
            )
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return None
        finally:
            connection.terminate()
        last, self._last = self._last, counted
        if last is not None:
            self._total += counted - last if counted >= last else counted
        return self._total
