"""Registers in Redis and Postgres with one defect each, as people write them."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from test_framework.battery.registers import (
    PostgresRegisters,
    RedisMultiRegisters,
    RedisRegisters,
)
from test_framework.battery.registers.postgres import PostgresView
from test_framework.battery.registers.redis import RedisMultiView, RedisView
from test_framework.check.litmus import READ_COMMITTED, SERIALIZABLE, SNAPSHOT


class _ReplicaView(RedisView):
    """Reads from a copy that is fetched again on every third read."""

    def __init__(self, client: Any, prefix: str) -> None:  # noqa: ANN401  # as its base
        super().__init__(client, prefix)
        self._copies: dict[str, tuple[int, int]] = {}

    async def read(self, name: str) -> int:
        """Return the copy, or a new one."""
        value, uses = self._copies.get(name, (0, 0))
        if not uses:
            value, uses = await super().read(name), 3
        self._copies[name] = (value, uses - 1)
        return value


class RedisReplica(RedisRegisters):
    """A replica that lags behind."""

    view: type[RedisView] = _ReplicaView


class _PipelineView(RedisMultiView):
    """Sends a batch without MULTI, one command after the other."""

    async def execute(self, steps: Any) -> list[int]:  # noqa: ANN401  # as its base
        """Do each step by itself."""
        read = []
        for name, value in steps:
            if value is None:
                read.append(await self.read(name))
            else:
                await self.write(name, value)
        return read


class RedisUnwrapped(RedisMultiRegisters):
    """Batches whose steps others can come between."""

    view: type[RedisView] = _PipelineView


class PostgresNotRepeatable(PostgresRegisters):
    """Believed to be at REPEATABLE READ, and at the default level."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn, "read committed")
        self.model = SNAPSHOT


class PostgresSkewed(PostgresRegisters):
    """Believed to be serializable, and at REPEATABLE READ."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn, "repeatable read")
        self.model = SERIALIZABLE


class _AutocommitView(PostgresView):
    """Forgets to begin: each statement commits by itself."""

    async def begin(self) -> None:
        """Do nothing."""

    async def commit(self) -> None:
        """Do nothing that matters."""
        with contextlib.suppress(Exception):
            await self.connection.execute("select 1")


class PostgresAutocommit(PostgresRegisters):
    """Believed to be transactions, and single statements."""

    view: type[PostgresView] = _AutocommitView

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn, "read committed")
        self.model = READ_COMMITTED


class PostgresCached(PostgresRegisters):
    """Each worker keeps what it has read for its next few reads."""

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[PostgresView]:
        """Yield a view with copies of its own."""
        async with super().connect() as view:
            yield _CachedView(view.connection, self.owner, "serializable")


class _CachedView(PostgresView):
    def __init__(self, *arguments: Any) -> None:  # noqa: ANN401  # as its base
        super().__init__(*arguments)
        self._copies: dict[str, tuple[int, int]] = {}

    async def read(self, name: str) -> int:
        """Return the copy, or a new one."""
        value, uses = self._copies.get(name, (0, 0))
        if not uses:
            value, uses = await super().read(name), 3
        self._copies[name] = (value, uses - 1)
        return value
