"""Following a user's log from a cursor: each event once, in order."""

import asyncio
import contextlib
import zlib
from collections.abc import AsyncGenerator

from app.realtime.events import Event, EventLog
from app.realtime.hub import Hub
from app.realtime.outages import AWAY, FIRST_PAUSE_S, longer

POLL_S = 15.0
"""Wake-ups are lost only with the hub's connection, which it watches over itself."""
PATIENCE_S = 60.0


async def follow(
    hub: Hub,
    log: EventLog,
    user_id: str,
    *,
    after: int,
    poll_s: float | None = POLL_S,
    patience_s: float = PATIENCE_S,
) -> AsyncGenerator[list[Event], None]:
    """Yield the user's events numbered above ``after`` in batches, for ever.

    An empty batch says that the reader has caught up. The next batch comes at a
    wake-up, or after about ``poll_s`` seconds in case the wake-up was lost; None trusts
    in wake-ups. Close the generator (``contextlib.aclosing``) to end the subscription.

    Raises:
        Exception: What Redis raised, when it could not be read for ``patience_s``.
    """
    if poll_s is not None:
        # Spread, or all followers would poll at the instant that woke them all.
        poll_s *= 0.5 + zlib.crc32(user_id.encode()) / 2**32
    async with hub.following(user_id) as wake:
        cursor = after
        while True:
            batch = await _read(log, user_id, cursor, wake, patience_s)
            if batch:
                cursor = batch[-1].seq
            yield batch
            if not batch:
                await _wait(wake, poll_s)


async def _read(
    log: EventLog,
    user_id: str,
    cursor: int,
    wake: asyncio.Event,
    patience_s: float,
) -> list[Event]:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_s
    pause_s = FIRST_PAUSE_S
    while True:
        # Cleared before reading: an event that comes in between wakes us again.
        wake.clear()
        try:
            return await log.read(user_id, after=cursor)
        except AWAY:
            if loop.time() + pause_s > deadline:
                raise
        # The hub wakes us as soon as it is connected again.
        await _wait(wake, pause_s)
        pause_s = longer(pause_s)


async def _wait(wake: asyncio.Event, timeout_s: float | None) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await wake.wait()
