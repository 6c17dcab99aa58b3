"""Patience with what is down for a while: Postgres and Redis come back.

A run outlives an outage. What it writes while one of them is away is tried again, so
each step must be one that may be done twice: an event has an id under which it is
kept once, and a run ends once.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from app.storage import is_outage

PATIENCE_S = 90.0
"""Longer than a restart of a server; shorter than events are known by their ids."""

LONGEST_PAUSE_S = 1.0
_FIRST_PAUSE_S = 0.05
_AWAY = (RedisConnectionError, RedisTimeoutError, OSError)

Result = TypeVar("Result")


def is_passing(exc: Exception) -> bool:
    """Whether an error says that a server is away, and not that it refuses."""
    return is_outage(exc) or isinstance(exc, _AWAY)


async def patiently(
    do: Callable[[], Awaitable[Result]],
    *,
    is_ending: Callable[[], bool],
    within_s: float = PATIENCE_S,
) -> Result:
    """Do something until it succeeds, or until patience ends.

    Args:
        do: What to do; it may have been done when it raises.
        is_ending: Whether the service stops, which waits for no server.
        within_s: No new attempt after so many seconds.

    Raises:
        Exception: What the last attempt raised.
    """
    loop = asyncio.get_running_loop()
    give_up_at, pause_s = loop.time() + within_s, _FIRST_PAUSE_S
    while True:
        try:
            return await do()
        except Exception as exc:
            if not is_passing(exc) or is_ending() or loop.time() >= give_up_at:
                raise
        # Jitter: all runs of a process lost the same server at the same instant.
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
