"""A user's own event emitter: it cannot name another receiver."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.realtime.events import EventLog


@dataclass(frozen=True, slots=True)
class UserEmitter:
    """Sends events to one user."""

    log: EventLog = field(repr=False)
    user_id: str

    async def emit(
        self,
        kind: str,
        *,
        run_id: str,
        thread_id: str,
        data: Mapping[str, object],
        event_id: str | None = None,
    ) -> int:
        """Append an event to the user's log and return its sequence number."""
        return await self.log.append(
            self.user_id,
            kind,
            run_id=run_id,
            thread_id=thread_id,
            data=data,
            event_id=event_id,
        )
