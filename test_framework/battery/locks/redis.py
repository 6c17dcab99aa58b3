"""A lease in Redis, with fencing tokens."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from redis.asyncio import Redis

from test_framework.battery.cells.redis import redis_connection
from test_framework.battery.undisturbed import undisturbed

POLL_S = 0.002
"""How often a waiting client asks again. Redis has no queue of those who wait."""

# The lease and its token are one step: else two grants could swap their tokens.
_ACQUIRE = """
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 0 end
return redis.call('INCR', KEYS[2])
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""
_ACT = """
if tonumber(ARGV[1]) < tonumber(redis.call('GET', KEYS[1]) or '0') then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
return 1
"""
_MS_PER_S = 1000


class LeaseOperations:
    """What a worker does with the lease.

    Attributes:
        client: The worker's connection.
        key: Begins the keys of the lease, of its tokens, and of what it protects.
        ttl_s: After how many seconds it ends by itself.
    """

    def __init__(self, client: Redis, key: str, ttl_s: float) -> None:
        self.client, self.key, self.ttl_s = client, key, ttl_s
        self._owner = secrets.token_hex(8)

    async def acquire(self) -> int:
        """Wait for the lease, and return its token."""
        try:
            while True:
                token = await self._ask()
                if token:
                    return token
                await asyncio.sleep(POLL_S)
        except asyncio.CancelledError:
            # It may have been granted while its answer was on the way.
            await self.release()
            raise

    async def _ask(self) -> int:
        ttl_ms = str(int(self.ttl_s * _MS_PER_S))
        # A new owner each time: what an old lease left must not release a new one.
        self._owner = secrets.token_hex(8)
        return await self.eval(
            _ACQUIRE, [self.key, f"{self.key}:tokens"], [self._owner, ttl_ms]
        )

    async def release(self) -> None:
        """Give it back, if it has not ended."""
        await undisturbed(self.eval(_RELEASE, [self.key], [self._owner]))

    async def act(self, token: int) -> bool:
        """Change what it protects, unless a later holder has done so."""
        return await self.eval(_ACT, [f"{self.key}:protected"], [str(token)]) == 1

    async def eval(self, script: str, keys: list[str], arguments: list[str]) -> int:
        """Run a script."""
        answer: Any = self.client.eval(script, len(keys), *keys, *arguments)
        return int(await answer)


@dataclass(frozen=True)
class RedisLease:
    """A lease of many clients, with fencing tokens.

    Attributes:
        url: Where Redis listens.
        ttl_s: After how many seconds it ends by itself.
        key: Begins its keys; a fresh one by default.
    """

    url: str
    ttl_s: float = 10.0
    key: str = field(default_factory=lambda: f"battery:{secrets.token_hex(8)}")
    operations: ClassVar[type[LeaseOperations]] = LeaseOperations

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[LeaseOperations]:
        """Yield a worker's own connection."""
        async with redis_connection(self.url) as client:
            yield self.operations(client, self.key, self.ttl_s)

    async def aclose(self) -> None:
        """Delete its keys."""
        async with redis_connection(self.url) as client:
            await client.delete(self.key, f"{self.key}:tokens", f"{self.key}:protected")
