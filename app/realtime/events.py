"""The event log of each user: numbered without gaps, kept for a while, in Redis.

One script takes the next number, appends the event under it and publishes a wake-up.
Redis runs it as one step, so two workers that emit for one user at one time cannot
take the same number or append out of order. Readers ask for what comes after their
cursor; a wake-up only says that asking is worth it, so losing one loses no event.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast
from uuid import uuid4

from redis.asyncio import Redis

from app.cache import user_prefix
from app.monitoring import IsolationGuard

KEPT_EVENTS = 2_000
LIFETIME_S = 7 * 86_400

ONCE_S = 300
"""How long an event is known by its id, so that it can be sent again and kept once."""

_APPEND = """
local kept = redis.call('GET', KEYS[4])
if kept then
  return tonumber(kept)
end
local seq = redis.call('INCR', KEYS[1])
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], seq .. '-0', 'event', ARGV[1],
    'owner', ARGV[4])
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('EXPIRE', KEYS[2], ARGV[3])
redis.call('SET', KEYS[4], seq, 'EX', ARGV[5])
redis.call('PUBLISH', KEYS[3], seq)
return seq
"""


@dataclass(frozen=True, slots=True)
class Event:
    """One event as it is kept.

    Attributes:
        seq: Its number in the user's log, counted from 1 without gaps.
        run_id: The run it tells about.
        kind: What happened, such as ``run.started``.
        frame: The JSON text that clients receive.
    """

    seq: int
    run_id: str
    kind: str
    frame: str

    @property
    def ends_run(self) -> bool:
        """Whether it is the last event of its run."""
        return self.kind in {"run.completed", "run.failed", "run.cancelled"}


class EventLog:
    """The logs of all users; every call names the user, nothing is remembered."""

    def __init__(
        self,
        redis: Redis,
        *,
        kept: int = KEPT_EVENTS,
        guard: IsolationGuard | None = None,
    ) -> None:
        """Keep about ``kept`` events of each user."""
        self._guard = guard or IsolationGuard()
        self._redis = redis
        self._kept = kept
        self._append = redis.register_script(_APPEND)

    async def append(
        self,
        user_id: str,
        kind: str,
        *,
        run_id: str,
        thread_id: str,
        data: Mapping[str, object],
        event_id: str | None = None,
    ) -> int:
        """Append an event to the user's log and return its number.

        An event of an id that was appended within ``ONCE_S`` keeps its first number,
        so it may be sent again when the answer was lost; the client does so by itself.
        """
        body = {
            "type": kind,
            "run_id": run_id,
            "thread_id": thread_id,
            "at": datetime.now(UTC).isoformat(),
            "data": data,
        }
        seq = await self._append(
            keys=[
                _sequence_key(user_id),
                _events_key(user_id),
                wake_channel(user_id),
                _once_key(user_id, event_id or uuid4().hex),
            ],
            args=[json.dumps(body), self._kept, LIFETIME_S, user_id, ONCE_S],
        )
        return int(seq)

    async def end(self, user_id: str) -> int:
        """Return the number of the user's newest event; 0 before the first."""
        return int(await self._redis.get(_sequence_key(user_id)) or 0)

    async def read(self, user_id: str, *, after: int, limit: int = 200) -> list[Event]:
        """Return the user's events numbered above ``after``, in order.

        Raises:
            IsolationError: An event in the user's log is another user's.
        """
        entries = cast(
            "list[tuple[bytes, dict[bytes, bytes]]]",  # this client decodes nothing
            await self._redis.xrange(
                _events_key(user_id), min=f"({after}-0", max="+", count=limit
            ),
        )
        for _, fields in entries:
            # Events of versions before this check have no owner written on them.
            if (owner := fields.get(b"owner")) is not None:
                self._guard.require("event", owner=owner.decode(), user_id=user_id)
        return [_event(entry_id, fields) for entry_id, fields in entries]


def wake_channel(user_id: str) -> str:
    """Return the channel that is published on when the user's log grows."""
    return user_prefix(user_id) + "wake"


def _sequence_key(user_id: str) -> str:
    return user_prefix(user_id) + "seq"


def _events_key(user_id: str) -> str:
    return user_prefix(user_id) + "events"


def _once_key(user_id: str, event_id: str) -> str:
    return f"{user_prefix(user_id)}once:{event_id}"


def _event(entry_id: bytes, fields: Mapping[bytes, bytes]) -> Event:
    seq = int(entry_id.partition(b"-")[0])
    body = json.loads(fields[b"event"])
    frame = json.dumps({"type": body["type"], "seq": seq, **body})
    return Event(seq, body["run_id"], body["type"], frame)
