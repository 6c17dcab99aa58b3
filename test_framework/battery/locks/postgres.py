"""An advisory lock in Postgres: its server keeps the queue of those who wait."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from test_framework.battery.cells.postgres import postgres_connection
from test_framework.battery.undisturbed import undisturbed


class AdvisoryOperations:
    """What a worker does with the lock, on a session of its own.

    Attributes:
        connection: Of asyncpg; the session that holds the lock.
        key: The lock.
    """

    def __init__(self, connection: Any, key: int) -> None:  # noqa: ANN401  # asyncpg has no types
        self.connection, self.key = connection, key

    async def acquire(self) -> None:
        """Wait for the lock."""
        await self._take("pg_advisory_lock")

    async def release(self) -> None:
        """Give it back."""
        await self._give_back("pg_advisory_unlock")

    async def acquire_read(self) -> None:
        """Wait until no writer has it."""
        await self._take("pg_advisory_lock_shared")

    async def release_read(self) -> None:
        """Give back what a reader had."""
        await self._give_back("pg_advisory_unlock_shared")

    acquire_write = acquire
    release_write = release

    async def _take(self, function: str) -> None:
        try:
            await self.connection.fetchval(
                f"select {function}($1)", self.key
            )  # names of ours
        except asyncio.CancelledError:
            # It may have been granted before the cancellation reached the server, and
            # a session keeps what it has.
            await undisturbed(
                self.connection.fetchval("select pg_advisory_unlock_all()")
            )
            raise

    async def _give_back(self, function: str) -> None:
        was_held = await undisturbed(
            self.connection.fetchval(
                f"select {function}($1)", self.key
            )  # names of ours
        )
        if not was_held:
            raise RuntimeError(f"{function}({self.key}): this session does not hold it")


@dataclass(frozen=True)
class PostgresAdvisoryLock:
    """A lock of many sessions, for readers and writers as well.

    Attributes:
        url: Where Postgres listens.
        key: The lock, a bigint; a fresh one by default.
    """

    url: str
    key: int = field(default_factory=lambda: secrets.randbits(62))
    operations: ClassVar[type[AdvisoryOperations]] = AdvisoryOperations

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[AdvisoryOperations]:
        """Yield a worker's own session."""
        async with postgres_connection(self.url) as connection:
            yield self.operations(connection, self.key)
