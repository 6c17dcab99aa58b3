"""Registers in Redis: single commands, and MULTI."""

import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any

from test_framework.battery.cells.redis import redis_connection
from test_framework.battery.registers.memory import NAMES
from test_framework.battery.registers.register import BatchStep
from test_framework.check.litmus import ATOMIC_BATCH, SEQUENTIAL


class RedisView:
    """GET and SET over one connection.

    Args:
        client: The connection.
        prefix: Before the name of each register.
    """

    def __init__(self, client: Any, prefix: str) -> None:  # noqa: ANN401  # its answers are of any type
        self.client, self._prefix = client, prefix

    def key(self, name: str) -> str:
        """Return where a register is."""
        return f"{self._prefix}:{name}"

    async def read(self, name: str) -> int:
        """GET."""
        return int(await self.client.get(self.key(name)) or 0)

    async def write(self, name: str, value: int) -> None:
        """SET."""
        await self.client.set(self.key(name), value)


class RedisMultiView(RedisView):
    """The same with batches between MULTI and EXEC."""

    is_transaction = True

    async def execute(self, steps: Sequence[BatchStep]) -> list[int]:
        """Send all steps at once."""
        pipe = self.client.pipeline(transaction=self.is_transaction)
        for name, value in steps:
            if value is None:
                pipe.get(self.key(name))
            else:
                pipe.set(self.key(name), value)
        answers = await pipe.execute()
        return [
            int(answer or 0)
            for (_, value), answer in zip(steps, answers, strict=True)
            if value is None
        ]


class RedisRegisters:
    """Registers of many clients, each with a connection of its own.

    Args:
        url: Where Redis listens.

    Raises:
        TargetError: Nobody answers there; raised by ``connect``.
    """

    model = SEQUENTIAL
    view: type[RedisView] = RedisView

    def __init__(self, url: str) -> None:
        self.url, self.prefix = url, f"battery:{secrets.token_hex(8)}"

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[RedisView]:
        """Yield a worker's own connection."""
        async with redis_connection(self.url) as client:
            yield self.view(client, self.prefix)

    async def aclose(self) -> None:
        """Delete the registers."""
        async with redis_connection(self.url) as client:
            await client.delete(*(f"{self.prefix}:{name}" for name in NAMES))


class RedisMultiRegisters(RedisRegisters):
    """The same with MULTI."""

    model = ATOMIC_BATCH
    view: type[RedisView] = RedisMultiView
