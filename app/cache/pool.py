"""The Redis connections of this process."""

import asyncio
import contextlib
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError

from app.security import Secret

CONNECT_TIMEOUT_S = 5.0


class _Sturdy:
    """A connection that knows, before it sends, that its server has gone.

    redis-py keeps a connection that the server reset in its pool, and finds out when it
    writes. uvloop's transport then raises ``RuntimeError``, which redis-py passes on as
    if it were the caller's mistake: no retry on a new connection, and one failed request
    for each connection that was idle. Nothing was sent, so to retry is safe.
    """

    _writer: asyncio.StreamWriter | None
    secret: Secret | None = None
    password: str | None

    async def connect_check_health(self, **options: Any) -> None:  # noqa: ANN401  # redis-py's own
        connecting: Any = super()
        if self.secret is None:
            await connecting.connect_check_health(**options)
            return
        refused: AuthenticationError | None = None
        async with contextlib.aclosing(self.secret.attempts()) as attempts:
            async for version in attempts:
                self.password = version.value
                try:
                    await connecting.connect_check_health(**options)
                except AuthenticationError as exc:
                    refused = exc
                else:
                    return
        raise refused or AssertionError

    async def send_packed_command(self, *args: Any, **options: Any) -> None:  # noqa: ANN401  # redis-py's own
        sender: Any = super()
        if self._writer is not None and self._writer.is_closing():
            await sender.disconnect(nowait=True)
            message = "The server closed this connection."
            raise RedisConnectionError(message)
        await sender.send_packed_command(*args, **options)


class _Client(Redis):
    """A client whose commands can always be cancelled.

    redis-py sends through ``asyncio.wait_for``, which in Python 3.11 forgets a
    cancellation that comes as the sending ends (gh-86296). The task would go on: a
    socket that was left would be served for ever.
    """

    async def execute_command(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401  # redis-py's own
        task = asyncio.current_task()
        before = task.cancelling() if task is not None else 0
        result = await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError
        return result


def connect(
    url: str,
    *,
    connections: int,
    timeout_s: float | None = 5.0,
    password: Secret | None = None,
) -> Redis:
    """Return a client over at most ``connections`` connections; opens none yet.

    Args:
        url: The server.
        connections: Largest number of connections; callers wait for a free one.
        timeout_s: Longest wait for an answer; None for a subscriber, which waits
            for as long as nothing is published, and which makes a broken connection
            anew by itself, since only it knows what it had subscribed to.
        password: What takes the place of the password in the URL; each connection is
            opened with the version of that time.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=10,
        socket_timeout=timeout_s,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        socket_keepalive=True,
        # Retried only when the connection broke: a server restart, not a slow answer.
        retry=Retry(
            ExponentialWithJitterBackoff(base=0.05, cap=1.0),
            0 if timeout_s is None else 2,
            supported_errors=(RedisConnectionError,),
        ),
    )
    kind = pool.connection_class
    pool.connection_class = type(
        f"Sturdy{kind.__name__}", (_Sturdy, kind), {"secret": password}
    )
    return _Client.from_pool(pool)
