"""One user's part of Redis.

Every key starts with ``u:{user_id}:`` and every key expires. Code that has a user's
keyspace cannot name another user's key: the prefix is not an argument. User ids are
UUIDs, so no id is a prefix of another and none holds a separator.
"""

from dataclasses import dataclass, field

from redis.asyncio import Redis


def user_prefix(user_id: str) -> str:
    """Return what all keys and channels of a user start with."""
    return f"u:{user_id}:"


@dataclass(frozen=True, slots=True)
class UserKeyspace:
    """The keys of one user."""

    redis: Redis = field(repr=False)
    user_id: str

    async def get(self, name: str) -> bytes | None:
        """Return the value of a key, None when there is none."""
        value = await self.redis.get(self.key(name))
        return value.encode() if isinstance(value, str) else value

    async def set(self, name: str, value: bytes, *, ttl_s: int) -> None:
        """Keep a value for ``ttl_s`` seconds."""
        await self.redis.set(self.key(name), value, ex=ttl_s)

    async def delete(self, *names: str) -> None:
        """Forget keys; absent ones are fine."""
        if names:
            await self.redis.delete(*(self.key(name) for name in names))

    async def incr(self, name: str, *, ttl_s: int) -> int:
        """Add one to a counter and return it; it lives ``ttl_s`` from now on."""
        async with self.redis.pipeline(transaction=True) as pipeline:
            pipeline.incr(self.key(name))
            pipeline.expire(self.key(name), ttl_s)
            count, _ = await pipeline.execute()
        return int(count)

    def key(self, name: str) -> str:
        """Return the full name of a key."""
        return user_prefix(self.user_id) + name
