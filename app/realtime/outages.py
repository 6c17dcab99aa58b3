"""What Redis raises while it is away, and how long readers pause in between.

A restart or a failover takes a second or two, in which no socket has to close.
"""

import redis.exceptions

AWAY = (
    redis.exceptions.ConnectionError,
    redis.exceptions.TimeoutError,
    # A master that has become a replica, and a replica that is not yet a master.
    redis.exceptions.ReadOnlyError,
    redis.exceptions.MasterDownError,
    OSError,
)
FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0


def longer(pause_s: float) -> float:
    """Return how long to wait after one more failure, seconds."""
    return min(2 * pause_s, _LONGEST_PAUSE_S)
