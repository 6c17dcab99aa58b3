"""R07: replies cross on one connection.

alice                           bob
got = await redis.get(NAMES[user])
return await self.connection.call(f"GET {key}")
await external("send")
                                got = await redis.get(NAMES[user])
                                return await self.connection.call(f"GET {key}")
                                await external("send")
self.replies.append(f"reply to {request}")
await external("receive")
                                self.replies.append(f"reply to {request}")
                                await external("receive")
                                return self.replies.popleft()
return self.replies.popleft()
-> alice got reply to GET bob
"""

import asyncio

from test_framework.catalogue.pattern import Area, Hosted, Pattern
from test_framework.catalogue.pools import Connection
from test_framework.catalogue.world import NAMES, visits


class _RawRedis:
    """One connection without a lock: replies come in order, readers do not."""

    def __init__(self) -> None:
        self.connection = Connection()
        self.lock = asyncio.Lock()

    async def get(self, key: str) -> str:
        return await self.connection.call(f"GET {key}")


class _LockedRedis(_RawRedis):
    async def get(self, key: str) -> str:
        async with self.lock:
            return await super().get(key)


async def _get_own_key(redis: _RawRedis, user: int) -> str:
    got = await redis.get(NAMES[user])
    assert got == f"reply to GET {NAMES[user]}", f"{NAMES[user]} got {got}"
    return got


PATTERN = Pattern(
    id="R07",
    title="replies cross on one connection",
    mechanism=(
        "Two tasks write to one connection and each reads the reply that comes first."
    ),
    fix="Lock from sending to reading, or use a pool.",
    areas=(Area.DATABASE_SESSION,),
    detectors=("explorer", "swarm"),
    source="https://github.com/redis/redis-py/issues/2540",
    vulnerable=visits(_RawRedis, _get_own_key),
    safe=visits(_LockedRedis, _get_own_key),
    module=__name__,
    hosted=Hosted(),
)
