"""Leases on runs: who works on a run says so again and again, and is missed if not.

A process takes a lease before a run's row is written, renews all it holds every second,
and gives it back once the run's last event is out. So whatever moment it is killed at,
the lease that it leaves says that there may be something to tidy up: a row that runs for
ever, or an event that was never told. Whoever finds a lease that has expired claims it,
for as long as a lease lasts, and does that.

A lease decides nothing. A process that was merely asleep and one that claimed its run
meet at the row, which ends once, and at the log, which takes one last event of a run;
see "How to do distributed locking" (Kleppmann, 2016) on why that must be so.

Leases are one set for all users, with Redis's own clock: whoever sweeps cannot know whose
runs a dead process had. They hold ids and nothing else. Should Redis lose them, living
processes write theirs again; runs of dead ones end when their user next starts one.
"""

from collections.abc import Iterable
from typing import Protocol

from redis.asyncio import Redis

LEASE_S = 5.0
"""Users of a killed process wait so long and a sweep. A process whose loop stands still
for less than this without a renewal keeps its runs."""

RENEW_S = 1.0
SWEEP_S = 0.5
LEASES = "runs:leases"
_KEPT_S = 7 * 86_400

_HOLD = """
local now = redis.call('TIME')
local expires = now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[1]
for index = 3, #ARGV do redis.call('ZADD', KEYS[1], expires, ARGV[index]) end
redis.call('EXPIRE', KEYS[1], ARGV[2])
return #ARGV - 2
"""

_CLAIM = """
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local expired = redis.call(
    'ZRANGEBYSCORE', KEYS[1], '-inf', now_ms, 'LIMIT', 0, ARGV[2])
for _, lease in ipairs(expired) do
    redis.call('ZADD', KEYS[1], now_ms + ARGV[1], lease)
end
return expired
"""


class Leases(Protocol):
    """Says which runs a process works on."""

    async def hold(self, user_id: str, run_id: str) -> None:
        """Take a lease on a run, and keep it until it is let go."""
        ...

    def let_go(self, user_id: str, run_id: str) -> None:
        """Renew a lease no more: the run is over here, one way or another."""
        ...

    async def give_back(self, user_id: str, run_id: str) -> None:
        """End a lease: nothing of the run is left to do for anybody."""
        ...


class NoLeases:
    """For a process that nobody sweeps up after."""

    async def hold(self, user_id: str, run_id: str) -> None:
        """Do nothing."""

    def let_go(self, user_id: str, run_id: str) -> None:
        """Do nothing."""

    async def give_back(self, user_id: str, run_id: str) -> None:
        """Do nothing."""


class RunLeases:
    """The leases of all processes in Redis, and which of them this one renews."""

    def __init__(
        self, redis: Redis, *, lease_s: float = LEASE_S, key: str = LEASES
    ) -> None:
        """Let a lease in the set ``key`` last ``lease_s`` seconds without renewal."""
        self._redis = redis
        self._key = key
        self._lease_ms = round(lease_s * 1000)
        self._held: set[str] = set()
        self._hold = redis.register_script(_HOLD)
        self._claim = redis.register_script(_CLAIM)

    def __len__(self) -> int:
        """Count the leases that this process renews."""
        return len(self._held)

    async def hold(self, user_id: str, run_id: str) -> None:
        """Take a lease on a run, and keep it until it is let go."""
        lease = _lease(user_id, run_id)
        self._held.add(lease)
        try:
            await self._extend((lease,))
        except BaseException:
            # If Redis has it all the same, whoever sweeps finds no run.
            self._held.discard(lease)
            raise

    def let_go(self, user_id: str, run_id: str) -> None:
        """Renew a lease no more: the run is over here, one way or another."""
        self._held.discard(_lease(user_id, run_id))

    async def give_back(self, user_id: str, run_id: str) -> None:
        """End a lease: nothing of the run is left to do for anybody."""
        self.let_go(user_id, run_id)
        await self._redis.zrem(self._key, _lease(user_id, run_id))

    async def renew(self) -> None:
        """Extend all leases of this process; those that Redis lost are written anew."""
        if self._held:
            await self._extend(self._held)

    async def claim(self, *, limit: int = 50) -> list[tuple[str, str]]:
        """Take over expired leases, so that nobody else does for as long as one lasts.

        Args:
            limit: At most so many (count); others are left to other processes.

        Returns:
            User and run of each.
        """
        expired: list[bytes] = await self._claim(
            keys=[self._key], args=[self._lease_ms, limit]
        )
        return [_parse(lease) for lease in expired]

    async def _extend(self, leases: Iterable[str]) -> None:
        await self._hold(keys=[self._key], args=[self._lease_ms, _KEPT_S, *leases])


def _lease(user_id: str, run_id: str) -> str:
    return f"{user_id}/{run_id}"


def _parse(lease: bytes) -> tuple[str, str]:
    user_id, _, run_id = lease.decode().partition("/")
    return user_id, run_id
