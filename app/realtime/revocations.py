"""Telling every worker that a login has ended, so that its open sockets close.

The truth is in Postgres: whoever opens something asks there. This only says that
asking again is worth it, so a lost announcement lets nobody in who was out; it lets a
socket that stands open live until its token expires. A socket therefore subscribes
first and asks then: what ended in between was announced to it.
"""

from redis.asyncio import Redis

from app.cache import user_prefix

EVERY_SESSION = "*"
"""What is announced when all logins of a user have ended."""


def sessions_channel(user_id: str) -> str:
    """Return the channel on which the ends of a user's logins are announced.

    A message is the id of the login (the ``sid`` claim), or ``EVERY_SESSION``.
    """
    return user_prefix(user_id) + "sessions"


async def announce_revoked(
    redis: Redis, user_id: str, session_id: str = EVERY_SESSION
) -> None:
    """Announce that a login has ended; call it after the commit that ended it."""
    await redis.publish(sessions_channel(user_id), session_id)
