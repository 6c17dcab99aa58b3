"""Cells in Redis and Postgres that are wrong, each in one way."""

import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any, ClassVar

from test_framework.battery.cells.postgres import (
    PostgresCell,
    PostgresOperations,
)
from test_framework.battery.cells.redis import RedisCell, RedisOperations


class _GetThenSet(RedisOperations):
    async def increment(self) -> int:
        value = await self.get() + 1
        await self.set(value)
        return value


class RedisLostUpdate(RedisCell):
    """Gets, adds, and sets: two that got the same number count once."""

    operations: ClassVar[type[RedisOperations]] = _GetThenSet


class _IncrThenGet(RedisOperations):
    async def increment(self) -> int:
        await super().increment()
        return await self.get()


class RedisDuplicateTicket(RedisCell):
    """Increments, and asks for the number with a second command."""

    operations: ClassVar[type[RedisOperations]] = _IncrThenGet


class _SendsAgain(RedisOperations):
    async def increment(self) -> int:
        value = await super().increment()
        if value % 16 == 0:
            value = await super().increment()
        return value


class RedisOverCount(RedisCell):
    """Sends the command again now and then, as after an answer that was lost."""

    operations: ClassVar[type[RedisOperations]] = _SendsAgain


class _Cached(RedisOperations):
    until_s = 0.0
    cached = 0

    async def get(self) -> int:
        if time.monotonic() > self.until_s:
            self.cached = await super().get()
            self.until_s = time.monotonic() + 0.01
        return self.cached


class RedisStaleRead(RedisCell):
    """Reads from a cache of its client that lives for ten milliseconds."""

    operations: ClassVar[type[RedisOperations]] = _Cached


class _Compares(RedisOperations):
    async def compare_and_swap(self, expected: int, new: int) -> bool:
        is_same = await self.get() == expected
        if is_same:
            await self.set(new)
        return is_same


class RedisTornSwap(RedisCell):
    """Compares in the client and sets by a second command."""

    operations: ClassVar[type[RedisOperations]] = _Compares


class _SelectThenUpdate(PostgresOperations):
    async def increment(self) -> int:
        async with self.connection.transaction():
            value = await self.get() + 1
            await self.set(value)
        return value


class PostgresLostUpdate(PostgresCell):
    """Selects and updates in a READ COMMITTED transaction, without a lock."""

    operations: ClassVar[type[PostgresOperations]] = _SelectThenUpdate


class _UpdateThenSelect(PostgresOperations):
    async def increment(self) -> int:
        await super().increment()
        return await self.get()


class PostgresDuplicateTicket(PostgresCell):
    """Updates, commits, and selects the number in another transaction."""

    operations: ClassVar[type[PostgresOperations]] = _UpdateThenSelect


class _UpdatesAgain(PostgresOperations):
    async def increment(self) -> int:
        value = await super().increment()
        if value % 16 == 0:
            value = await super().increment()
        return value


class PostgresOverCount(PostgresCell):
    """Does a committed transaction again now and then, as after a lost answer."""

    operations: ClassVar[type[PostgresOperations]] = _UpdatesAgain


class _OldSnapshot(PostgresOperations):
    reads = 0
    reader: Any = None

    async def get(self) -> int:
        # A transaction that is kept open for three reads sees one snapshot.
        if self.reads % 3 == 0:
            if self.reads:
                await self.reader.execute("commit")
            await self.reader.execute("begin isolation level repeatable read")
        self.reads += 1
        return int(
            await self.reader.fetchval(
                "select value from battery_cells where key = $1", self.key
            )
        )


class PostgresStaleRead(PostgresCell):
    """Reads in a REPEATABLE READ transaction that is kept open for some reads."""

    operations: ClassVar[type[PostgresOperations]] = _OldSnapshot

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[PostgresOperations]:
        async with super().connect() as own, super().connect() as other:
            assert isinstance(own, _OldSnapshot)
            own.reader = other.connection
            yield own


class _ComparesFirst(PostgresOperations):
    async def compare_and_swap(self, expected: int, new: int) -> bool:
        is_same = await self.get() == expected
        if is_same:
            await self.set(new)
        return is_same


class PostgresTornSwap(PostgresCell):
    """Compares in the client and updates by a second statement."""

    operations: ClassVar[type[PostgresOperations]] = _ComparesFirst


class _CancelledBegin(PostgresOperations):
    async def increment(self) -> int:
        async with self.connection.transaction():
            return await super().increment()


class PostgresCancelledBegin(PostgresCell):
    """Leaves a BEGIN that is cancelled on its way to asyncpg.

    Transactions after it are savepoints of one that nobody commits.
    """

    operations: ClassVar[type[PostgresOperations]] = _CancelledBegin
