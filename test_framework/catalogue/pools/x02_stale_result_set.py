"""X02: stale result set on a reused connection.

alice                           bob
rows = await pool.rows(NAMES[user])
async with self.borrow() as connection:
async with self.lock:
await external("SELECT")
connection.replies.extend((f"{user} row 1", f"{user} row 2"))
rows = []
for _ in range(2):
await external("fetch")
<- cancelled
                                rows = await pool.rows(NAMES[user])
                                async with self.borrow() as connection:
                                async with self.lock:
                                await external("SELECT")
                                connection.replies.extend((f"{user} row 1", f"{user} ...
                                rows = []
                                for _ in range(2):
                                await external("fetch")
                                rows.append(connection.replies.popleft())
                                for _ in range(2):
                                await external("fetch")
                                rows.append(connection.replies.popleft())
                                for _ in range(2):
                                return rows
                                for row in rows:
-> bob got alice row 1
"""

from test_framework.catalogue.pattern import CANCELLED_USERS, Area, Hosted, Pattern
from test_framework.catalogue.pools.x01_unread_reply import DroppingPool, Pool
from test_framework.catalogue.world import NAMES, visits
from test_framework.explore import external


class _Cursors(Pool):
    """Rows come one by one; what was not fetched waits on the connection."""

    async def rows(self, user: str) -> list[str]:
        async with self.borrow() as connection:
            await external("SELECT")
            connection.replies.extend((f"{user} row 1", f"{user} row 2"))
            rows = []
            for _ in range(2):
                await external("fetch")
                rows.append(connection.replies.popleft())
            return rows


class _ClosingCursors(_Cursors, DroppingPool):
    """Closes the connection when a statement does not end."""


async def _select_own(pool: _Cursors, user: int) -> list[str]:
    rows = await pool.rows(NAMES[user])
    for row in rows:
        assert row.startswith(NAMES[user]), f"{NAMES[user]} got {row}"
    return rows


PATTERN = Pattern(
    id="X02",
    title="stale result set on a reused connection",
    mechanism=(
        "A query is cancelled between two fetches, and the next user gets the rest of "
        "its rows."
    ),
    fix="Close the connection on cancellation.",
    areas=(Area.DATABASE_SESSION,),
    detectors=("explorer", "swarm"),
    source="https://github.com/long2ice/asyncmy/issues/103",
    vulnerable=visits(_Cursors, _select_own),
    safe=visits(_ClosingCursors, _select_own),
    needs=CANCELLED_USERS,
    module=__name__,
    hosted=Hosted(),
)
