"""A lease in Redis, with fencing tokens.

A lease ends by itself, and its holder may not notice in time: a pause of the process is
enough. So each lease carries a token that is larger than all before, and what the
holder writes to has to refuse a smaller one than it has seen.

Tokens are counted in Redis, which may lose them with all else; ``acquire`` is told the
largest one that the caller knows of, and goes on above it.

Source: Kleppmann, "How to do distributed locking", 2016.
"""

from dataclasses import dataclass, field

from redis.asyncio import Redis

# The lease and its token are one step: else two grants could swap their tokens.
_ACQUIRE = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local floor = tonumber(ARGV[3])
local token = tonumber(redis.call('GET', KEYS[2]) or '0')
if token < floor then token = floor end
token = token + 1
redis.call('SET', KEYS[2], token)
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return token
"""
_RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""
_MS_PER_S = 1_000


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease that processes hold in turn; belongs to no user.

    Attributes:
        redis: Where it is kept.
        name: Begins its keys.
        ttl_s: How long it lasts unless it is renewed, seconds.
    """

    redis: Redis = field(repr=False)
    name: str
    ttl_s: float

    async def acquire(self, holder: str, *, above: int = 0) -> int | None:
        """Try to take the lease.

        Args:
            holder: Names this holding and no other: a fresh one for each try.
            above: The largest token that is known to have been granted.

        Returns:
            Its token, larger than ``above`` and all before; None when it is held.
        """
        keys = [f"{self.name}:holder", f"{self.name}:token"]
        token = await self._run(_ACQUIRE, keys, [holder, self._ttl_ms, str(above)])
        return token or None

    async def renew(self, holder: str) -> bool:
        """Let the lease last ``ttl_s`` from now; False when it has ended."""
        return bool(
            await self._run(_RENEW, [f"{self.name}:holder"], [holder, self._ttl_ms])
        )

    async def release(self, holder: str) -> bool:
        """End the lease; False when it is not this holder's any more."""
        return bool(await self._run(_RELEASE, [f"{self.name}:holder"], [holder]))

    @property
    def _ttl_ms(self) -> str:
        return str(int(self.ttl_s * _MS_PER_S))

    async def _run(self, script: str, keys: list[str], arguments: list[str]) -> int:
        return int(await self.redis.register_script(script)(keys, arguments))
