"""Ways to deliver events wrongly to devices that come back; beside ``test_resuming``."""

from collections import defaultdict

from redis.asyncio import Redis

from app.api import Parts
from app.realtime import Event, EventLog
from app.realtime.events import READ_EVENTS


async def from_the_end(
    parts: Parts, user_id: str, after: int | None
) -> tuple[int, bool]:
    """Begin with what comes next, wherever the client stood."""
    assert after is None or after >= 0
    return await parts.events.end(user_id), False


class InclusiveLog(EventLog):
    """Reads from the cursor on, and not from after it."""

    async def read(
        self, user_id: str, *, after: int, limit: int = READ_EVENTS
    ) -> list[Event]:
        """Return one event more."""
        return await super().read(user_id, after=max(after - 1, 0), limit=limit)


class SharedCursorLog(EventLog):
    """Keeps one cursor a user, as if a user had one device."""

    def __init__(self, redis: Redis) -> None:
        """Begin everywhere at the beginning."""
        super().__init__(redis)
        self._cursors: defaultdict[str, int] = defaultdict(int)

    async def read(
        self, user_id: str, *, after: int, limit: int = READ_EVENTS
    ) -> list[Event]:
        """Return what none of the user's devices has had."""
        cursor = max(after, self._cursors[user_id])
        batch = await super().read(user_id, after=cursor, limit=limit)
        if batch:
            self._cursors[user_id] = batch[-1].seq
        return batch
