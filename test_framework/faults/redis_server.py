"""What happens to Redis: clients killed, all commands held up."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, ClassVar

import redis.asyncio
import redis.exceptions

from test_framework.core import TargetError, UsageError

if TYPE_CHECKING:
    from test_framework.faults.field import Field

_ANSWER_LIMIT_S = 10.0


class _RedisFault:
    """A disturbance that needs a connection of its own to Redis."""

    def lacks(self, field: "Field") -> str | None:
        """Return why it cannot strike: nobody said where Redis is."""
        if field.redis_url is None:
            return (
                "nobody said where its Redis is; set REDIS_URL to the Redis of the "
                "service."
            )
        return None


class KillRedisClients(_RedisFault):
    """Redis cuts the service's connections, subscriptions too.

    With a proxy before Redis these are the connections that came through it, without
    one all but its own.

    Attributes:
        killed: How many connections the last strike cut (count).
    """

    name: ClassVar[str] = "redis-client-kill"
    promise: ClassVar[str] = (
        "Commands under way may fail, subscriptions come back by themselves, and every "
        "event arrives once and in order."
    )

    def __init__(self) -> None:
        self.killed = 0

    async def strike(self, field: "Field") -> None:
        """Cut the connections."""
        ports = None
        if field.redis_proxy is not None:
            ports = {seen.server_port for seen in field.redis_proxy.connections()}
        self.killed = 0
        async with _client(field) as client:
            own = await client.client_id()
            for seen in await client.client_list():
                is_served = ports is None or _port(seen["addr"]) in ports
                if int(seen["id"]) != own and seen["flags"] != "S" and is_served:
                    # It may have left by itself meanwhile: then it is none.
                    self.killed += await client.client_kill_filter(_id=seen["id"])

    async def heal(self, field: "Field") -> None:
        """Do nothing: connections are new."""


class PauseRedis(_RedisFault):
    """Redis takes commands and carries none out for a while.

    Redis holds up the command that would end the pause as well, so it lasts as long as
    it was meant to, and healing waits for it.
    """

    name: ClassVar[str] = "redis-pause"
    promise: ClassVar[str] = (
        "Requests end in bounded time, with an answer or an error that says to come "
        "again, and nothing that timed out is done twice."
    )

    def __init__(self, *, pause_s: float = 3.0) -> None:
        """Hold everything up for ``pause_s`` seconds.

        Raises:
            UsageError: ``pause_s`` is not positive.
        """
        if not pause_s > 0:
            message = f"pause_s={pause_s!r}: a pause takes more than 0 seconds."
            raise UsageError(message)
        self.pause_s = pause_s
        self._until_s = 0.0

    async def strike(self, field: "Field") -> None:
        """Begin the pause."""
        async with _client(field) as client:
            # Taken before: a cancelled strike may have been carried out.
            self._until_s = time.monotonic() + self.pause_s
            await client.execute_command(
                "CLIENT", "PAUSE", round(self.pause_s * 1000), "ALL"
            )

    async def heal(self, field: "Field") -> None:
        """Wait until it is over, and Redis answers."""
        left_s = self._until_s - time.monotonic()
        if left_s > 0:
            await asyncio.sleep(left_s)
        if self._until_s:
            async with _client(field) as client:
                await client.ping()
            self._until_s = 0.0


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


@contextlib.asynccontextmanager
async def _client(field: "Field") -> AsyncIterator[Any]:
    """Yield a client of our own, past any proxy.

    Raises:
        TargetError: Redis refuses it, or what is asked of it.
    """
    client = redis.asyncio.from_url(
        field.redis_url or "",
        socket_timeout=_ANSWER_LIMIT_S,
        socket_connect_timeout=_ANSWER_LIMIT_S,
        single_connection_client=True,
        decode_responses=True,
    )
    try:
        async with client:
            yield client
    except (redis.exceptions.RedisError, OSError) as exc:
        message = (
            f"Redis refuses a fault: {exc}. Name it in the field past any proxy, as a "
            "user that may run CLIENT."
        )
        raise TargetError(message) from exc
