"""The event log of each user: numbered, kept for a while, in Redis.

One script takes the next number, appends the event under it and publishes a wake-up.
Redis runs it as one step, so two workers that emit for one user at one time cannot
take the same number or append out of order. Readers ask for what comes after their
cursor; a wake-up only says that asking is worth it, so losing one loses no event.

Numbers never go back, whatever Redis loses. Each is one more than the last, except at a
log's first event and at the first after the server was started or replaced: that takes
the server's clock, in microseconds since the epoch. A server that came back without the
last second of its data, a replica that was promoted, a log that expired or was evicted:
all go on above every number that was ever given, so a cursor that a client keeps, and
one that Postgres keeps, stays good without an epoch beside it. It holds as long as a
user has less than a million events a second, and the clock of a new server is not behind
the old one's by more than the time since its log began. Whoever follows sees the jump,
and is told of it as of any other gap.

An event has an id that Redis keeps for a while, so that one whose answer was lost can be
appended again. The id of a run's last event is the run: it is appended once, whoever
tries, the process that worked on the run or the one that swept it up.
"""

import asyncio
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
MAX_EVENT_BYTES = 65_536
"""Larger events are kept without their data, which is in Postgres."""
READ_EVENTS = 16
"""With the limit above, what a reader that stands still has in memory: 1 MiB."""
READERS = 32
"""So many reads at once; the others wait in the order they came."""

ONCE_S = 300
"""How long an event is known by its id, so that it can be sent again and kept once."""

_ENDS = frozenset({"run.completed", "run.failed", "run.cancelled"})

# Numbers are handed on as text: Lua would round those of sixteen digits.
_APPEND = """
local log, events, channel, once = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local first = redis.call('GET', once)
if first then return first end
local now = redis.call('TIME')
local floor = now[1] .. string.format('%06d', now[2])
local server = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local last, numbered_by = unpack(redis.call('HMGET', log, 'seq', 'server'))
if numbered_by ~= server then
    if not last or tonumber(last) < tonumber(floor) then
        redis.call('HSET', log, 'seq', floor)
    end
    redis.call('HSET', log, 'server', server)
    if not last then redis.call('HSET', log, 'base', floor) end
end
local seq = string.format('%.0f', redis.call('HINCRBY', log, 'seq', 1))
redis.call('XADD', events, 'MAXLEN', '~', ARGV[2], seq .. '-0', 'event', ARGV[1],
    'owner', ARGV[4])
redis.call('EXPIRE', log, ARGV[3])
redis.call('EXPIRE', events, ARGV[3])
redis.call('SET', once, seq, 'EX', ARGV[5])
redis.call('PUBLISH', channel, seq)
return seq
"""


@dataclass(frozen=True, slots=True)
class Event:
    """One event as it is kept.

    Attributes:
        seq: Its number in the user's log: one more than that of the event before,
            or much more where the log began anew.
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
        return self.kind in _ENDS


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
        # When all sockets of a process come back at once, Redis is not asked by all of
        # them at once, and commands of other parts find a connection.
        self._reading = asyncio.Semaphore(READERS)

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
        That a run has ended is known for as long as the log lives, and needs no id.
        """
        body = {
            "type": kind,
            "run_id": run_id,
            "thread_id": thread_id,
            "at": datetime.now(UTC).isoformat(),
            "data": data,
        }
        text = json.dumps(body)
        if len(text) > MAX_EVENT_BYTES:
            text = json.dumps({**body, "data": {"omitted_bytes": len(text)}})
        is_last = kind in _ENDS
        known_as = f"{run_id}:end" if is_last else event_id or uuid4().hex
        known_s = LIFETIME_S if is_last else ONCE_S
        seq = await self._append(
            keys=[
                _log_key(user_id),
                _events_key(user_id),
                wake_channel(user_id),
                _once_key(user_id, known_as),
            ],
            args=[text, self._kept, LIFETIME_S, user_id, known_s],
        )
        return int(seq)

    async def end(self, user_id: str) -> int:
        """Return the number of the user's newest event; 0 when there is no log."""
        return int(await self._redis.hget(_log_key(user_id), "seq") or 0)

    async def base(self, user_id: str) -> int:
        """Return the number before the log's first event; 0 when there is no log."""
        return int(await self._redis.hget(_log_key(user_id), "base") or 0)

    async def read(
        self, user_id: str, *, after: int, limit: int = READ_EVENTS
    ) -> list[Event]:
        """Return the user's events numbered above ``after``, in order.

        Raises:
            IsolationError: An event in the user's log is another user's.
        """
        async with self._reading:
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


def _log_key(user_id: str) -> str:
    return user_prefix(user_id) + "log"


def _events_key(user_id: str) -> str:
    return user_prefix(user_id) + "events"


def _once_key(user_id: str, event_id: str) -> str:
    return f"{user_prefix(user_id)}once:{event_id}"


def _event(entry_id: bytes, fields: Mapping[bytes, bytes]) -> Event:
    seq = int(entry_id.partition(b"-")[0])
    body = json.loads(fields[b"event"])
    frame = json.dumps({"type": body["type"], "seq": seq, **body})
    return Event(seq, body["run_id"], body["type"], frame)
