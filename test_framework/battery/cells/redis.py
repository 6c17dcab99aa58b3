"""Cells in Redis: by its own commands, by WATCH and MULTI, and by scripts."""

import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, WatchError

from test_framework.core import TargetError

_SWAP = """
if tonumber(redis.call('GET', KEYS[1]) or '0') ~= tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""
_ADD = """
local value = tonumber(redis.call('GET', KEYS[1]) or '0') + 1
redis.call('SET', KEYS[1], value)
return value
"""


@contextlib.asynccontextmanager
async def redis_connection(url: str) -> AsyncIterator[Redis]:
    """Yield a client of one connection.

    It never sends a command again: one that was executed and whose answer was lost
    would be executed twice.

    Raises:
        TargetError: Nobody answers there.
    """
    client: Redis = Redis.from_url(
        url, single_connection_client=True, retry=Retry(NoBackoff(), 0)
    )
    try:
        try:
            await client.ping()
        except RedisError as exc:
            raise TargetError(
                f"Redis does not answer ({exc}). See that it runs and that the address "
                "is right."
            ) from exc
        yield client
    finally:
        await client.aclose()


class RedisOperations:
    """By the commands that Redis executes as one: INCR, and a script to swap.

    Attributes:
        client: The worker's connection.
        key: Where the number is.
    """

    def __init__(self, client: Redis, key: str) -> None:
        self.client, self.key = client, key

    async def get(self) -> int:
        """Return the value."""
        return int(await self.client.get(self.key) or 0)

    async def set(self, value: int) -> None:
        """Replace the value."""
        await self.client.set(self.key, value)

    async def increment(self) -> int:
        """Add 1 and return the new value."""
        return int(await self.client.incr(self.key))

    async def compare_and_swap(self, expected: int, new: int) -> bool:
        """Replace the value if it is ``expected``."""
        return await self._eval(_SWAP, expected, new) == 1

    async def _eval(self, script: str, *arguments: int) -> int:
        answer: Any = self.client.eval(script, 1, self.key, *map(str, arguments))
        return int(await answer)


class _Scripts(RedisOperations):
    """By scripts, which nothing else comes between."""

    async def increment(self) -> int:
        return await self._eval(_ADD)


class _Watches(RedisOperations):
    """By optimistic transactions, done again until nobody came between."""

    async def increment(self) -> int:
        while True:
            async with self.client.pipeline(transaction=True) as pipe:
                value = await self._watched(pipe) + 1
                if await self._stored(pipe, value):
                    return value

    async def compare_and_swap(self, expected: int, new: int) -> bool:
        while True:
            async with self.client.pipeline(transaction=True) as pipe:
                if await self._watched(pipe) != expected:
                    return False
                if await self._stored(pipe, new):
                    return True

    async def _watched(self, pipe: Any) -> int:  # noqa: ANN401  # no type of a pipeline in both of its modes
        await pipe.watch(self.key)
        return int(await pipe.get(self.key) or 0)

    async def _stored(self, pipe: Any, value: int) -> bool:  # noqa: ANN401  # as above
        pipe.multi()
        pipe.set(self.key, value)
        try:
            await pipe.execute()
        except WatchError:
            return False
        return True


@dataclass(frozen=True)
class RedisCell:
    """A cell of many clients: INCR, GET, SET, and a script to swap.

    Attributes:
        url: Where Redis listens.
        key: Where the number is; a fresh one by default.
    """

    url: str
    key: str = field(default_factory=lambda: f"battery:{secrets.token_hex(8)}")
    operations: ClassVar[type[RedisOperations]] = RedisOperations

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[RedisOperations]:
        """Yield a worker's own connection."""
        async with redis_connection(self.url) as client:
            yield self.operations(client, self.key)

    async def aclose(self) -> None:
        """Delete the number."""
        async with redis_connection(self.url) as client:
            await client.delete(self.key)


class RedisScriptCell(RedisCell):
    """The same with a script for each change."""

    operations: ClassVar[type[RedisOperations]] = _Scripts


class RedisWatchCell(RedisCell):
    """The same with optimistic transactions: WATCH, MULTI, EXEC, again on conflict."""

    operations: ClassVar[type[RedisOperations]] = _Watches
