"""X01: unread reply left on a pooled connection.

alice                           bob
got = await pool.get(NAMES[user])
async with self.borrow() as connection:
async with self.lock:
return await connection.call(f"GET {key}")
await external("send")
self.replies.append(f"reply to {request}")
await external("receive")
<- cancelled
                                got = await pool.get(NAMES[user])
                                async with self.borrow() as connection:
                                async with self.lock:
                                return await connection.call(f"GET {key}")
                                await external("send")
                                self.replies.append(f"reply to {request}")
                                await external("receive")
                                return self.replies.popleft()
-> bob got reply to GET alice
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from test_framework.catalogue.pattern import CANCELLED_USERS, Area, Hosted, Pattern
from test_framework.catalogue.pools import Connection
from test_framework.catalogue.world import NAMES, visits


class Pool:
    """Keeps one connection, lends it to one user at a time."""

    def __init__(self) -> None:
        self.connection = Connection()
        self.lock = asyncio.Lock()

    @asynccontextmanager
    async def borrow(self) -> AsyncIterator[Connection]:
        """Lend the connection to one user at a time."""
        async with self.lock:
            yield self.connection

    async def get(self, key: str) -> str:
        """Return the value of a key."""
        async with self.borrow() as connection:
            return await connection.call(f"GET {key}")


class DroppingPool(Pool):
    """Lends no connection on which something may be left."""

    @asynccontextmanager
    async def borrow(self) -> AsyncIterator[Connection]:
        """Lend the connection; drop it when its user did not come to an end."""
        async with super().borrow() as connection:
            try:
                yield connection
            except BaseException:
                self.connection = Connection()
                raise


async def _get_own(pool: Pool, user: int) -> str:
    got = await pool.get(NAMES[user])
    assert got == f"reply to GET {NAMES[user]}", f"{NAMES[user]} got {got}"
    return got


PATTERN = Pattern(
    id="X01",
    title="unread reply left on a pooled connection",
    mechanism=(
        "A request is cancelled after it was sent; the next user of the connection "
        "reads its reply."
    ),
    fix="Drop a connection whose request did not end.",
    areas=(Area.DATABASE_SESSION,),
    detectors=("explorer", "swarm"),
    source="CVE-2023-28858",
    vulnerable=visits(Pool, _get_own),
    safe=visits(DroppingPool, _get_own),
    needs=CANCELLED_USERS,
    module=__name__,
    hosted=Hosted(),
)
