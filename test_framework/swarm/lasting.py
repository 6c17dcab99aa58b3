"""What Postgres and Redis still hold for the service when everybody has left.

Seen from outside and therefore of any service, hosted or not: sessions that wait for
locks or keep them (see ``chains``), Redis connections within MULTI or WATCH, many more
connections than before the first user, and keys of users that have no expiry. A service
may mean some of these (a leader holds a lock; Redis may be the database), so they are
warnings; what a pool would hand to the next user is an error.

Settings, LISTEN and temporary tables of another session cannot be seen from outside;
``clients.hygiene`` looks at them where the service returns its connections.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from test_framework.clients.redis import RedisReader
from test_framework.clients.sessions import Session
from test_framework.clients.sql import SqlReader
from test_framework.core import AlarmRecord, Level, TargetError, WatchRecord
from test_framework.swarm.chains import lock_chains, unmoved

if TYPE_CHECKING:
    from test_framework.swarm.identities import Identities
    from test_framework.swarm.target import Target

PAUSE_S = 1.0
"""Longer than a statement that somebody is in the middle of."""

_REDIS_CURE = (
    "Use 'async with client.pipeline()', which ends WATCH and MULTI also on errors and "
    "cancellation; send neither on a connection by hand."
)
_Place = tuple[str, str]


def spare_connections(users: int) -> int:
    """Return how many connections of one application the pools may have kept.

    A pool holds as many as were in use at once, and a request seldom uses more than
    some at a time; what leaks grows with the number of requests instead.
    """
    return 64 + 4 * users


@dataclass(slots=True)
class Lasting:
    """What is held at one moment.

    Attributes:
        connections: How many, by server and application.
        alarms: What should have been given back.
        locking: Sessions of Postgres that wait, are waited for, or keep locks.
        unwatched: What could not be looked at, and why.
    """

    connections: Counter[_Place] = field(default_factory=Counter)
    alarms: list[AlarmRecord] = field(default_factory=list)
    locking: list[Session] = field(default_factory=list)
    unwatched: list[str] = field(default_factory=list)


async def look_at_connections(target: "Target") -> Lasting:
    """Return what the service's connections hold now.

    A server that does not answer, or not to us, is told as not watched.
    """
    lasting = Lasting()
    if target.is_shared:
        lasting.unwatched.append("sessions: those of people come and go beside ours")
        return lasting
    if target.database_url is not None:
        try:
            async with SqlReader(target.database_url) as reader:
                await _look_at_postgres(reader, lasting)
        except TargetError as exc:
            lasting.unwatched.append(f"sessions of Postgres: {exc}")
    if target.redis_url is not None:
        try:
            async with RedisReader(target.redis_url) as reader:
                await _look_at_redis(reader, lasting)
        except TargetError as exc:
            lasting.unwatched.append(f"clients of Redis: {exc}")
    return lasting


async def find_lasting(
    target: "Target",
    identities: "Identities",
    *,
    before: Lasting,
    spare: int,
    pause_s: float = PAUSE_S,
) -> list[AlarmRecord | WatchRecord]:
    """Return what is held that was not, and what could not be looked at.

    Args:
        target: The service.
        identities: Of everybody who was there.
        before: What was held before the first user came.
        spare: Connections of one application that may be more (count); see ``spare_connections``.
        pause_s: What is held is looked at once more after this (seconds, >= 0).
    """
    after = await look_at_connections(target)
    if after.alarms or after.locking:
        earlier = after
        await asyncio.sleep(pause_s)
        after = await look_at_connections(target)
        after.locking = unmoved(
            after.locking, earlier=earlier.locking, before=before.locking
        )
    known = {(alarm.rule, alarm.site): alarm.count for alarm in before.alarms}
    alarms = [
        alarm
        for alarm in after.alarms
        if alarm.count > known.get((alarm.rule, alarm.site), 0)
    ]
    alarms += lock_chains(after.locking, identities)
    for (server, name), count in sorted(
        (after.connections - before.connections).items()
    ):
        if count > spare:
            alarms.append(
                _alarm(
                    "connection-left",
                    f"{count} more connections to {server} are open than before the "
                    "first user",
                    f"{server} {name}".rstrip(),
                    count,
                )
            )
    unwatched = list(after.unwatched)
    if target.redis_url is not None:
        try:
            alarms += await _keys_without_expiry(target.redis_url, identities)
        except TargetError as exc:
            unwatched.append(f"expiry of keys: {exc}")
    watch = WatchRecord(
        "lasting",
        watched=("connections, locks and keys when everybody has left",),
        unwatched=tuple(dict.fromkeys(unwatched)),
        facts={"connections": after.connections.total()},
    )
    return [*alarms, watch]


async def _look_at_postgres(reader: SqlReader, lasting: Lasting) -> None:
    sessions = await reader.sessions()
    for name, count in sessions.counts.items():
        lasting.connections["Postgres", name] = count
    for name, count in sessions.locks.items():
        lasting.alarms.append(
            _alarm(
                "connection-left",
                f"{count} advisory lock(s) are held by sessions that do nothing",
                f"Postgres {name}".rstrip(),
                count,
            )
        )
    lasting.locking = await reader.locking_sessions()
    if sessions.hidden:
        lasting.unwatched.append(
            f"{sessions.hidden} session(s) of Postgres belong to roles that this one may "
            "not look at: grant it pg_read_all_stats"
        )


async def _look_at_redis(reader: RedisReader, lasting: Lasting) -> None:
    clients = await reader.clients()
    for client in clients:
        lasting.connections["Redis", client.name] += 1
    for word, count in {
        "MULTI": sum(client.is_in_transaction for client in clients),
        "WATCH": sum(client.watched_keys > 0 for client in clients),
    }.items():
        if count:
            lasting.alarms.append(
                _alarm(
                    "pool-state-kept",
                    f"{count} connection(s) to Redis said {word} and never ended it",
                    f"Redis {word}",
                    count,
                    level="error",
                    fix=_REDIS_CURE,
                )
            )


async def _keys_without_expiry(
    redis_url: str, identities: "Identities"
) -> list[AlarmRecord]:
    users: dict[str, set[int]] = {}
    counts: Counter[str] = Counter()
    async with RedisReader(redis_url) as reader:
        async for key in reader.keys_without_expiry():
            named = identities.find(key)
            if named:
                surface = identities.blank(key)
                counts[surface] += 1
                users.setdefault(surface, set()).update(named)
    return [
        _alarm(
            "key-without-expiry",
            f"{count} key(s) of departed users have no expiry",
            surface,
            count,
            users=tuple(sorted(users[surface])),
        )
        for surface, count in sorted(counts.items())
    ]


def _alarm(
    rule: str,
    claim: str,
    site: str,
    count: int,
    *,
    level: Level = "warning",
    users: tuple[int, ...] = (),
    fix: str = "",
) -> AlarmRecord:
    return AlarmRecord(
        rule=rule,
        level=level,
        claim=claim,
        site=site,
        fix=fix,
        users=users,
        count=count,
    )
