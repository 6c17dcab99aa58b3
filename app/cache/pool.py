"""The Redis connections of this process."""

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

CONNECT_TIMEOUT_S = 5.0


def connect(url: str, *, connections: int, timeout_s: float | None = 5.0) -> Redis:
    """Return a client over at most ``connections`` connections; opens none yet.

    Args:
        url: The server.
        connections: Largest number of connections; callers wait for a free one.
        timeout_s: Longest wait for an answer; None for a subscriber, which waits
            for as long as nothing is published.
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
            2,
            supported_errors=(RedisConnectionError,),
        ),
    )
    return Redis.from_pool(pool)
