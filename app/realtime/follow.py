"""Following a user's log from a cursor: each event once, in order."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from app.realtime.events import Event, EventLog
from app.realtime.hub import Hub

POLL_S = 5.0


async def follow(
    hub: Hub, log: EventLog, user_id: str, *, after: int, poll_s: float | None = POLL_S
) -> AsyncGenerator[list[Event], None]:
    """Yield the user's events numbered above ``after`` in batches, for ever.

    An empty batch says that the reader has caught up. The next batch comes at a
    wake-up, or after ``poll_s`` seconds in case the wake-up was lost; None trusts in
    wake-ups. Close the generator (``contextlib.aclosing``) to end the subscription.
    """
    async with hub.following(user_id) as wake:
        cursor = after
        while True:
            # Cleared before reading: an event that comes in between wakes us again.
            wake.clear()
            batch = await log.read(user_id, after=cursor)
            if batch:
                cursor = batch[-1].seq
            yield batch
            if not batch:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(poll_s):
                        await wake.wait()
