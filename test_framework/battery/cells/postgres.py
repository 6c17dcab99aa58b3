"""Cells in Postgres: four ways to change a row that others change at the same time."""

import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import asyncpg

_TABLE = """
create table if not exists battery_cells (
    key text primary key, value bigint not null, version bigint not null default 0
)
"""
# Two that create the same table at once: one of them fails, whatever it asks for.
_TABLE_LOCK = "select pg_advisory_xact_lock(hashtext('battery_cells'))"
_GET = "select value from battery_cells where key = $1"
_SET = "update battery_cells set value = $2, version = version + 1 where key = $1"


class _Statements:
    """By single statements, each of which Postgres executes as one."""

    def __init__(self, connection: Any, key: str) -> None:  # noqa: ANN401  # asyncpg has no types
        self._connection, self._key = connection, key

    async def get(self) -> int:
        return int(await self._connection.fetchval(_GET, self._key))

    async def set(self, value: int) -> None:
        await self._connection.execute(_SET, self._key, value)

    async def increment(self) -> int:
        return int(
            await self._connection.fetchval(
                "update battery_cells set value = value + 1, version = version + 1 "
                "where key = $1 returning value",
                self._key,
            )
        )

    async def compare_and_swap(self, expected: int, new: int) -> bool:
        done = await self._connection.execute(
            f"{_SET} and value = $3", self._key, new, expected
        )
        return bool(done == "UPDATE 1")


class _Versions(_Statements):
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
        row = await self._connection.fetchrow(
            "select value, version from battery_cells where key = $1", self._key
        )
        return int(row["value"]), int(row["version"])

    async def _written(self, value: int, version: int) -> bool:
        done = await self._connection.execute(
            f"{_SET} and version = $3", self._key, value, version
        )
        return bool(done == "UPDATE 1")


class _Locks(_Statements):
    """By SELECT FOR UPDATE: the row is locked from the read to the write."""

    async def increment(self) -> int:
        async with self._connection.transaction():
            value = int(
                await self._connection.fetchval(f"{_GET} for update", self._key)
            )
            await self.set(value + 1)
        return value + 1

    async def compare_and_swap(self, expected: int, new: int) -> bool:
        async with self._connection.transaction():
            value = await self._connection.fetchval(f"{_GET} for update", self._key)
            if value == expected:
                await self.set(new)
        return bool(value == expected)


class _Serializable(_Statements):
    """By SERIALIZABLE transactions, done again when Postgres refuses one."""

    async def increment(self) -> int:
        while True:
            with contextlib.suppress(asyncpg.SerializationError):
                async with self._connection.transaction(isolation="serializable"):
                    value = await self.get() + 1
                    await super().set(value)
                return value

    async def compare_and_swap(self, expected: int, new: int) -> bool:
        while True:
            with contextlib.suppress(asyncpg.SerializationError):
                async with self._connection.transaction(isolation="serializable"):
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
    _operations: ClassVar[type[_Statements]] = _Statements

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[_Statements]:
        """Yield a worker's own connection; the row is made if it is not there."""
        connection = await asyncpg.connect(self.url)
        try:
            await self._make_row(connection)
            yield self._operations(connection, self.key)
        finally:
            await connection.close()

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
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(
                "delete from battery_cells where key = $1", self.key
            )
        finally:
            await connection.close()


class PostgresVersionedCell(PostgresCell):
    """The same with an optimistic version, read and checked on write."""

    _operations: ClassVar[type[_Statements]] = _Versions


class PostgresLockedCell(PostgresCell):
    """The same with ``select ... for update``."""

    _operations: ClassVar[type[_Statements]] = _Locks


class PostgresSerializableCell(PostgresCell):
    """The same with SERIALIZABLE transactions and retries."""

    _operations: ClassVar[type[_Statements]] = _Serializable
