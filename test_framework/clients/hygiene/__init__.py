"""What pooled connections would hand from one user to the next.

A pool gives the session of one user to another. What a user set for the session and not
for the transaction (settings, advisory locks, temporary tables, LISTEN, prepared
statements, held cursors) and what was never ended (a transaction) goes with it. Whenever
a connection comes back to its pool, after the pool's own reset, Postgres is asked what
the session still has that it did not have when it was new.

Source: SQLAlchemy documents that its default reset is a rollback ("Reset On Return");
asyncpg's own pool resets more, but keeps temporary tables.
"""

from test_framework.clients.hygiene.detector import PoolHygiene
from test_framework.clients.hygiene.state import Leftover, session_state

__all__ = ["Leftover", "PoolHygiene", "session_state"]
