"""The two elections: by a lock of a Postgres session, and by a lease in Redis."""

import asyncio
import contextlib
import secrets
from dataclasses import dataclass, field

import redis.exceptions
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.cache import Lease
from app.control.election import Term
from app.storage import (
    Leadership,
    claim_epoch,
    draw_epoch,
    last_epoch,
    transaction_limit,
)

_UNAVAILABLE = (DBAPIError, OSError)
_MS_PER_S = 1_000
# In one statement: a process that is stopped just after it must not keep the lock.
_STAND = text(
    "SELECT set_config('idle_session_timeout', :lease_ms, false), "
    f"{transaction_limit(':lease_ms', is_local=False)}, "
    "pg_try_advisory_lock(hashtextextended(:name, 0))"
)
_STAND_DOWN = text(
    "SELECT set_config('idle_session_timeout', NULL, false), "
    + transaction_limit("NULL", is_local=False)
)
_RENEW = text("SELECT 1")


@dataclass(frozen=True, slots=True)
class PostgresElection:
    """The leader is the session that holds an advisory lock.

    A lock ends with its session, and a session of a process that was killed ends at
    once. One of a process that was stopped would not: so the server ends it when
    nothing was heard of it for a lease (``idle_session_timeout``), not even the second
    half of a statement (``transaction_timeout``, Postgres 17). Behind a pooler that
    hands sessions on between transactions, choose ``RedisElection``.

    Attributes:
        engine: Where the session comes from; a term keeps one connection.
        name: What is led.
        lease_s: How long a leader may be silent, seconds.
        holder: Names this candidate to operators.
    """

    engine: AsyncEngine = field(repr=False)
    name: str
    lease_s: float
    holder: str = field(default_factory=lambda: secrets.token_hex(8))

    async def stand(self) -> Term | None:
        """Try to lock."""
        asked_at = asyncio.get_running_loop().time()
        connection = await self.engine.connect()
        try:
            # Nothing of a term is a transaction: an idle one would be cut.
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            lease_ms = str(int(self.lease_s * _MS_PER_S))
            *_, is_mine = (
                await connection.execute(
                    _STAND, {"lease_ms": lease_ms, "name": self.name}
                )
            ).one()
            if is_mine:
                leadership = await draw_epoch(connection, self.name, self.holder)
                return PostgresTerm(connection, leadership, asked_at)
            await connection.execute(_STAND_DOWN)
        except BaseException:
            # It may have the lock, and nobody will know of it.
            await _hang_up(connection)
            raise
        await connection.close()
        return None


@dataclass(frozen=True, slots=True)
class PostgresTerm:
    """The term of a leader whose session has the lock."""

    connection: AsyncConnection
    leadership: Leadership
    asked_at: float

    async def renew(self) -> bool:
        """Let the server hear of it; False when the session is gone."""
        try:
            await self.connection.execute(_RENEW)
        except _UNAVAILABLE:
            return False  # with the session went the lock
        return True

    async def resign(self) -> None:
        """End the session, and with it the lock."""
        await _hang_up(self.connection)


@dataclass(frozen=True, slots=True)
class RedisElection:
    """The leader is who holds a lease in Redis.

    The epoch is the token of the lease, told to Postgres before any work: Redis may
    forget its tokens, the database does not, and the next one is above what it knows.

    Attributes:
        engine: Reaches the database that refuses old epochs.
        lease: The lease; its name is what is led.
    """

    engine: AsyncEngine = field(repr=False)
    lease: Lease

    @property
    def lease_s(self) -> float:
        """How long a term lasts unless it is renewed, seconds."""
        return self.lease.ttl_s

    async def stand(self) -> Term | None:
        """Try to take the lease."""
        asked_at = asyncio.get_running_loop().time()
        holder = secrets.token_hex(8)
        async with self.engine.connect() as connection:
            known = await last_epoch(connection, self.lease.name)
        term = None
        try:
            token = await self.lease.acquire(holder, above=known)
            if token is None:
                return None
            leadership = Leadership(self.lease.name, token)
            async with self.engine.begin() as connection:
                if await claim_epoch(connection, leadership, holder):
                    term = _Holding(self.lease, holder, leadership, asked_at)
        finally:
            if term is None:
                # Granted perhaps, and not led: ended for the others' sake.
                await _give_back(self.lease, holder)
        return term


@dataclass(frozen=True, slots=True)
class _Holding:
    lease: Lease
    holder: str
    leadership: Leadership
    asked_at: float

    async def renew(self) -> bool:
        return await self.lease.renew(self.holder)

    async def resign(self) -> None:
        await _give_back(self.lease, self.holder)


async def _hang_up(connection: AsyncConnection) -> None:
    # Not given back to the pool: the session has the lock, and its time limit.
    with contextlib.suppress(*_UNAVAILABLE):
        await connection.invalidate()
    await connection.close()


async def _give_back(lease: Lease, holder: str) -> None:
    # One that cannot be given back ends by itself.
    with contextlib.suppress(redis.exceptions.RedisError, OSError):
        await lease.release(holder)
