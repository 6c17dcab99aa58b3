"""Locks in Redis and Postgres that are wrong, each in one way."""

from typing import ClassVar

from test_framework.battery.locks.postgres import (
    AdvisoryOperations,
    PostgresAdvisoryLock,
)
from test_framework.battery.locks.redis import LeaseOperations, RedisLease


class _GetThenSet(LeaseOperations):
    async def _ask(self) -> int:
        if await self.client.get(self.key) is not None:
            return 0
        ttl_ms = int(self.ttl_s * 1000)
        await self.client.set(self.key, self._owner, px=ttl_ms)
        return int(await self.client.incr(f"{self.key}:tokens"))


class RedisHeldTwice(RedisLease):
    """Asks whether the lease is free, and takes it by a second command."""

    operations: ClassVar[type[LeaseOperations]] = _GetThenSet


class _Trusting(LeaseOperations):
    async def act(self, token: int) -> bool:
        await self.client.set(f"{self.key}:protected", token)
        return True


class RedisExpiredActs(RedisLease):
    """Protects nothing: a holder whose lease has ended still acts."""

    operations: ClassVar[type[LeaseOperations]] = _Trusting


class _Deleting(LeaseOperations):
    async def release(self) -> None:
        await self.client.delete(self.key)


class RedisReleasesAnothers(RedisLease):
    """Gives back whatever lease there is, also that of the next holder."""

    operations: ClassVar[type[LeaseOperations]] = _Deleting


class _Counting(LeaseOperations):
    async def acquire(self) -> int:
        # The number is drawn first, and the lease is waited for after that.
        token = int(await self.client.incr(f"{self.key}:numbers"))
        await super().acquire()
        return token


class RedisTokenTooEarly(RedisLease):
    """Draws its token before it has the lease: others who have it first draw higher."""

    operations: ClassVar[type[LeaseOperations]] = _Counting


class _Trying(AdvisoryOperations):
    async def acquire(self) -> None:
        await self.connection.fetchval("select pg_try_advisory_lock($1)", self.key)

    async def release(self) -> None:
        await self.connection.fetchval("select pg_advisory_unlock($1)", self.key)


class PostgresHeldTwice(PostgresAdvisoryLock):
    """Tries to get the lock, and does not look whether it did."""

    operations: ClassVar[type[AdvisoryOperations]] = _Trying


class _Careless(AdvisoryOperations):
    async def acquire(self) -> None:
        await self.connection.fetchval("select pg_advisory_lock($1)", self.key)

    async def release(self) -> None:
        await self.connection.fetchval("select pg_advisory_unlock($1)", self.key)


class PostgresOrphaned(PostgresAdvisoryLock):
    """Keeps what a cancelled acquire was granted, or a cancelled release did not give."""

    operations: ClassVar[type[AdvisoryOperations]] = _Careless


class _SharedWriter(AdvisoryOperations):
    async def acquire_write(self) -> None:
        await self.acquire_read()

    async def release_write(self) -> None:
        await self.release_read()


class PostgresWriterAmongReaders(PostgresAdvisoryLock):
    """Takes the lock of readers to write."""

    operations: ClassVar[type[AdvisoryOperations]] = _SharedWriter
