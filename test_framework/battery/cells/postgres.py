"""Cells in Postgres: four ways to change a row that others change at the same time."""

import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import asyncpg

from test_framework.core import TargetError

_TABLE = """
create table if not exists battery_cells (
    key text primary key, value bigint not null, version bigint not null default 0
)
"""
# Two that create the same table at once: one of them fails, whatever it asks for.
_TABLE_LOCK = "select pg_advisory_xact_lock(hashtext('battery_cells'))"
_GET = "select value from battery_cells where key = $1"
_SET = "update battery_cells set value = $2, version = version + 1 where key = $1"


@contextlib.asynccontextmanager
async def postgres_connection(url: str) -> AsyncIterator[Any]:
    """Yield a connection of asyncpg.

    Raises:
        TargetError: Nobody answers there.
    """
    try:
        connection = await asyncpg.connect(url)
    except (OSError, asyncpg.PostgresError) as exc:
        raise TargetError(
            f"Postgres does not answer ({exc}). See that it runs and that the address "
            "is right."
        ) from exc
    try:
        yield connection
    finally:
        await connection.close()


class PostgresOperations:
    """By single statements, each of which Postgres executes as one.

    Attributes:
        connection: The worker's own, of asyncpg.
        key: Of the row.
    """

    def __init__(self, connection: Any, key: str) -> None:  # noqa: ANN401  # asyncpg has no types
        self.connection, self.key = connection, key

    async def get(self) -> int:
        """Return the value."""
        return int(await self.connection.fetchval(_GET, self.key))

    async def set(self, value: int) -> None:
        """Replace the value."""
        await self.connection.execute(_SET, self.key, value)

    async def increment(self) -> int:
        """Add 1 and return the new value."""
        return int(
            await self.connection.fetchval(
                "update battery_cells set value = value + 1, version = version + 1 "
                "where key = $1 returning value",
                self.key,
            )
        )

    async def compare_and_swap(self, expected: int, new: int) -> bool:
        """Replace the value if it is ``expected``."""
        done = await self.connection.execute(
            f"{_SET} and value = $3", self.key, new, expected
        )
        return bool(done == "UPDATE 1")


class _Versions(PostgresOperations):
    """By an optimistic version: read, then write if nobody wrote, else again."""

    async def increment(self) -> int:
        while True:
            value, version = await self._read()
            if await self._written(value + 1, version):
                return value + 1

    async def compare_and_swap(self, expected: int, new: int) -> bool:
        while True:
            value, version = await self._read()
            if value != expected:
                return False
            if await self._written(new, version):
                return True

    async def _read(self) -> tuple[int, int]:
        row = await self.connection.fetchrow(
            "select value, version from battery_cells where key = $1", self.key
        )
        return int(row["value"]), int(row["version"])

    async def _written(self, value: int, version: int) -> bool:
        done = await self.connection.execute(
            f"{_SET} and version = $3", self.key, value, version
        )
        return bool(done == "UPDATE 1")


class _Transactions(PostgresOperations):
    """By transactions that a cancellation leaves no trace of.

    A BEGIN that is cancelled while it is on its way may have begun one all the same:
    everything after it would be part of it, and lost with it. So whatever goes wrong is
    rolled back before the next one. ``Connection.transaction`` does not do that: it
    takes what follows for savepoints of the lost one.
    """

    _may_be_open = False

    @contextlib.asynccontextmanager
    async def _transaction(self, isolation: str) -> AsyncIterator[None]:
        if self._may_be_open:
            await self.connection.execute("rollback")
        self._may_be_open = True
        await self.connection.execute(f"begin isolation level {isolation}")
        try:
            yield
        except BaseException:
            await self.connection.execute("rollback")
            raise
        await self.connection.execute("commit")
        self._may_be_open = False


class _Locks(_Transactions):
    """By SELECT FOR UPDATE: the row is locked from the read to the write."""

    async def increment(self) -> int:
        async with self._transaction("read committed"):
            value = int(await self.connection.fetchval(f"{_GET} for update", self.key))
            await self.set(value + 1)
        return value + 1

    async def compare_and_swap(self, expected: int, new: int) -> bool:
        async with self._transaction("read committed"):
            value = await self.connection.fetchval(f"{_GET} for update", self.key)
            if value == expected:
                await self.set(new)
        return bool(value == expected)


class _Serializable(_Transactions):
    """By SERIALIZABLE transactions, done again when Postgres refuses one."""

    async def increment(self) -> int:
        while True:
            with contextlib.suppress(asyncpg.SerializationError):
                async with self._transaction("serializable"):
                    value = await self.get() + 1
                    await super().set(value)
                return value

    async def compare_and_swap(self, expected: int, new: int) -> bool:
        while True:
            with contextlib.suppress(asyncpg.SerializationError):
                async with self._transaction("serializable"):
                    is_same = await self.get() == expected
                    if is_same:
                        await super().set(new)
                return is_same


@dataclass(frozen=True)
class PostgresCell:
    """A cell of many clients: ``update ... returning``.

    Attributes:
        url: Where Postgres listens.
        key: Of its row; a fresh one by default.
    """

    url: str
    key: str = field(default_factory=lambda: secrets.token_hex(8))
    operations: ClassVar[type[PostgresOperations]] = PostgresOperations

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[PostgresOperations]:
        """Yield a worker's own connection; the row is made if it is not there."""
        async with postgres_connection(self.url) as connection:
            await self._make_row(connection)
            yield self.operations(connection, self.key)

    async def _make_row(self, connection: Any) -> None:  # noqa: ANN401  # asyncpg has no types
        if await connection.fetchval("select to_regclass('battery_cells')") is None:
            async with connection.transaction():
                await connection.execute(_TABLE_LOCK)
                await connection.execute(_TABLE)
        await connection.execute(
            "insert into battery_cells (key, value) values ($1, 0) "
            "on conflict do nothing",
            self.key,
        )

    async def aclose(self) -> None:
        """Delete the row."""
        async with postgres_connection(self.url) as connection:
            await connection.execute(
                "delete from battery_cells where key = $1", self.key
            )


class PostgresVersionedCell(PostgresCell):
    """The same with an optimistic version, read and checked on write."""

    operations: ClassVar[type[PostgresOperations]] = _Versions


class PostgresLockedCell(PostgresCell):
    """The same with ``select ... for update``."""

    operations: ClassVar[type[PostgresOperations]] = _Locks


class PostgresSerializableCell(PostgresCell):
    """The same with SERIALIZABLE transactions and retries."""

    operations: ClassVar[type[PostgresOperations]] = _Serializable
