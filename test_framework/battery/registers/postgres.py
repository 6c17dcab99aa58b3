"""Registers in Postgres: rows, in transactions of each isolation level."""

import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

import asyncpg

from test_framework.battery.journal import RefusedError
from test_framework.battery.registers.memory import NAMES
from test_framework.check.litmus import (
    READ_COMMITTED,
    SERIALIZABLE,
    SNAPSHOT,
    MemoryModel,
)
from test_framework.core import TargetError

Level = Literal["read committed", "repeatable read", "serializable"]

MODELS: dict[Level, MemoryModel] = {
    "read committed": READ_COMMITTED,
    "repeatable read": SNAPSHOT,
    "serializable": SERIALIZABLE,
}

_TABLE = """
create table if not exists battery_registers (
    owner text, name text, value bigint not null, primary key (owner, name)
)
"""
# Two that create the same table at once: one of them fails, whatever it asks for.
_TABLE_LOCK = "select pg_advisory_xact_lock(hashtext('battery_registers'))"
_LOCK_TIMEOUT_MS = "200"
"""Below the second after which Postgres looks for deadlocks: some tests make them."""

_REFUSALS = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
)


class PostgresView:
    """Rows over one connection; outside of ``begin`` each statement by itself.

    Args:
        connection: Of asyncpg.
        owner: Whose rows they are.
        level: Of the transactions.
    """

    def __init__(self, connection: Any, owner: str, level: Level) -> None:  # noqa: ANN401  # asyncpg has no types
        self.connection, self._owner, self._level = connection, owner, level

    async def read(self, name: str) -> int:
        """SELECT."""
        with _refusals():
            value = await self.connection.fetchval(
                "select value from battery_registers where owner = $1 and name = $2",
                self._owner,
                name,
            )
        return int(value)

    async def write(self, name: str, value: int) -> None:
        """UPDATE."""
        with _refusals():
            await self.connection.execute(
                "update battery_registers set value = $3 "
                "where owner = $1 and name = $2",
                self._owner,
                name,
                value,
            )

    async def begin(self) -> None:
        """BEGIN at the level."""
        await self.connection.execute(f"begin isolation level {self._level}")

    async def commit(self) -> None:
        """COMMIT."""
        with _refusals():
            await self.connection.execute("commit")

    async def rollback(self) -> None:
        """ROLLBACK, if there is anything to roll back."""
        if self.connection.is_in_transaction():
            await self.connection.execute("rollback")


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Tell what Postgres rolls back from what goes wrong."""
    try:
        yield
    except _REFUSALS as error:
        raise RefusedError(str(error)) from error


class PostgresRegisters:
    """Registers of many clients, each with a connection of its own.

    Args:
        dsn: Where Postgres listens.
        level: The isolation level of their transactions, which says what is promised.
    """

    view: type[PostgresView] = PostgresView

    def __init__(self, dsn: str, level: Level = "serializable") -> None:
        self._dsn, self._level = dsn, level
        self.owner = secrets.token_hex(8)
        self.model = MODELS[level]
        self._is_made = False

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[PostgresView]:
        """Yield a worker's own connection.

        Raises:
            TargetError: Nobody answers there.
        """
        connection = await self._open()
        try:
            if not self._is_made:
                await self._make(connection)
            yield self.view(connection, self.owner, self._level)
        finally:
            await connection.close()

    async def _open(self) -> Any:  # noqa: ANN401  # asyncpg has no types
        try:
            return await asyncpg.connect(
                self._dsn, server_settings={"lock_timeout": _LOCK_TIMEOUT_MS}
            )
        except (OSError, asyncpg.PostgresError) as error:
            raise TargetError(
                f"Postgres does not answer: {error}. Start it, or pass the DSN of one "
                "that runs."
            ) from error

    async def _make(self, connection: Any) -> None:  # noqa: ANN401  # as above
        async with connection.transaction():
            await connection.execute(_TABLE_LOCK)
            await connection.execute(_TABLE)
            await connection.executemany(
                "insert into battery_registers values ($1, $2, 0)",
                [(self.owner, name) for name in NAMES],
            )
        self._is_made = True

    async def aclose(self) -> None:
        """Delete the rows."""
        connection = await self._open()
        try:
            if self._is_made:
                await connection.execute(
                    "delete from battery_registers where owner = $1", self.owner
                )
        finally:
            await connection.close()
