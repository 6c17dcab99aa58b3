"""Alerts in Postgres: the episodes of all workers, and the outbox of what to tell.

Rows of alerts belong to the service and to no user. They have a scope of their own, as
accounts have for logging in, so that no user's transaction sees or changes one.

Who moves an episode holds its row, so it begins once and ends once however many workers
see it. What is to be told is written in that transaction. Messages are put together
under an advisory lock by one worker at a time and then leased one by one; no statement
locks two rows in an order of its own choosing, so none can deadlock.
"""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from sqlalchemy import DateTime, TextClause, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.monitoring import Batch, Delivery, Notice, Signal, Tier


def _timed(sql: str) -> TextClause:
    """Return a statement whose instants are sent with their time zone."""
    instants = [name for name in ("now", "forgotten", "ripe") if f":{name}" in sql]
    return text(sql).bindparams(
        *(bindparam(name, type_=DateTime(timezone=True)) for name in instants)
    )


_SCOPE = _timed(
    "SELECT set_config('app.scope', 'monitoring', true),"
    " coalesce(cast(:now AS timestamptz), clock_timestamp())"
)

_SEE = _timed("""
INSERT INTO alert_episodes AS known
    (fingerprint, rule, component, tier, summary, state, pending_since, seen_at)
VALUES (:fingerprint, :rule, :component, :tier, :summary, 'pending', :now, :now)
ON CONFLICT (fingerprint) DO UPDATE SET
    tier = excluded.tier,
    summary = excluded.summary,
    state = CASE known.state WHEN 'resolved' THEN 'pending' ELSE known.state END,
    -- Seen again after a pause, it has to hold for as long as if it were new.
    pending_since = CASE
        WHEN known.state = 'resolved' OR known.seen_at < :forgotten THEN :now
        ELSE known.pending_since
    END,
    seen_at = greatest(known.seen_at, excluded.seen_at)
RETURNING state, pending_since
""")

_FIRE = _timed("""
WITH begun AS (
    UPDATE alert_episodes SET state = 'firing', episode = episode + 1
    WHERE fingerprint = :fingerprint
    RETURNING fingerprint, episode, summary
)
INSERT INTO alert_notices (fingerprint, episode, event, summary, happened_at)
SELECT fingerprint, episode, 'firing', summary, :now FROM begun
""")

_SETTLE = _timed("""
WITH ended AS (
    UPDATE alert_episodes SET state = 'resolved'
    WHERE fingerprint IN (
        SELECT fingerprint FROM alert_episodes
        WHERE state = 'firing' AND seen_at < :forgotten
        FOR UPDATE SKIP LOCKED
    )
    RETURNING fingerprint, episode, summary
)
INSERT INTO alert_notices (fingerprint, episode, event, summary, happened_at)
SELECT fingerprint, episode, 'resolved', summary, :now FROM ended
""")

_LOCK = text("SELECT pg_try_advisory_xact_lock(:lock)")

# A worse alert of the same component fires: what is wrong is being told already.
_INHIBITED = """
EXISTS (
    SELECT FROM alert_episodes worse,
        (VALUES (ARRAY['critical', 'warning', 'trend'])) AS tiers (ordered)
    WHERE worse.component = episode.component AND worse.state = 'firing'
    AND array_position(tiers.ordered, worse.tier)
        < array_position(tiers.ordered, episode.tier)
)
"""

_DROP_INHIBITED = _timed(f"""
DELETE FROM alert_notices notice USING alert_episodes episode
WHERE notice.batch IS NULL AND episode.fingerprint = notice.fingerprint
AND {_INHIBITED}
AND EXISTS (
    SELECT FROM alert_notices ending
    WHERE ending.fingerprint = notice.fingerprint
    AND ending.episode = notice.episode AND ending.event = 'resolved'
)
AND NOT EXISTS (
    SELECT FROM alert_notices told
    WHERE told.fingerprint = notice.fingerprint
    AND told.episode = notice.episode AND told.batch IS NOT NULL
)
""")  # noqa: S608  # put together from constants

_GROUP = _timed(f"""
WITH waiting AS (
    SELECT notice.id, episode.rule, episode.tier, notice.happened_at
    FROM alert_notices notice JOIN alert_episodes episode USING (fingerprint)
    WHERE notice.batch IS NULL AND NOT {_INHIBITED}
    -- After what came before it of the same alert, and that was not delivered yet.
    AND NOT EXISTS (
        SELECT FROM alert_notices earlier
        JOIN alert_batches unsent ON unsent.key = earlier.batch
        WHERE earlier.fingerprint = notice.fingerprint AND earlier.id < notice.id
        AND unsent.closed_at IS NULL
    )
), ripe AS (
    SELECT rule, tier, gen_random_uuid() AS key FROM waiting
    GROUP BY rule, tier HAVING min(happened_at) <= :ripe
), made AS (
    INSERT INTO alert_batches (key, rule, tier, created_at, leased_until)
    SELECT key, rule, tier, :now, :now FROM ripe RETURNING key, rule, tier
)
UPDATE alert_notices SET batch = made.key
FROM waiting JOIN made USING (rule, tier) WHERE alert_notices.id = waiting.id
""")  # noqa: S608  # put together from constants

_LEASE = _timed("""
UPDATE alert_batches SET
    attempts = attempts + 1,
    leased_until = cast(:now AS timestamptz) + make_interval(secs => :lease_s)
WHERE key = (
    SELECT key FROM alert_batches
    WHERE closed_at IS NULL AND leased_until <= :now
    ORDER BY created_at, key LIMIT 1
    FOR UPDATE SKIP LOCKED
)
RETURNING cast(key AS text), rule, tier
""")

_NOTICES = _timed("""
SELECT fingerprint || ':' || notice.episode || ':' || event AS id,
    event, component, notice.summary, happened_at
FROM alert_notices notice JOIN alert_episodes USING (fingerprint)
WHERE batch = cast(:key AS uuid) ORDER BY notice.id
""")

_CLOSE = _timed(
    "UPDATE alert_batches SET closed_at = :now WHERE key = cast(:key AS uuid)"
)

_POSTPONE = _timed("""
UPDATE alert_batches SET leased_until = cast(:now AS timestamptz)
    + make_interval(secs => least(:longest_s, power(2, least(attempts, 16))))
WHERE key = cast(:key AS uuid)
""")

_PRUNE = _timed(
    "DELETE FROM alert_batches WHERE closed_at < "
    "cast(:now AS timestamptz) - make_interval(secs => :kept_s)"
)

# Any constant will do, as long as nothing else in the database locks the same one.
_GROUPING = 7_463_524_191


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertTimes:
    """How patient alerts are, seconds.

    Attributes:
        keep_s: A firing alert that nobody sees for so long is resolved, and a pending
            one begins anew.
        group_s: How long a first notice waits for others of its rule.
        lease_s: How long a worker has to send a message.
        longest_s: Longest pause before a message is tried again.
        kept_s: How long delivered messages are kept.
    """

    keep_s: float = 60.0
    group_s: float = 5.0
    lease_s: float = 30.0
    longest_s: float = 300.0
    kept_s: float = 7 * 86_400.0


class PostgresAlerts:
    """The alerts of one database; all workers of the service share them."""

    def __init__(
        self,
        engine: AsyncEngine,
        times: AlertTimes | None = None,
        *,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        """Use connections of ``engine``, which requests should not share.

        Args:
            engine: Connects as the service's role; the caller disposes of it.
            times: How patient alerts are.
            clock: Instants with a time zone; None takes those of Postgres, which are
                the same for all workers.
        """
        self._engine = engine
        self._times = times or AlertTimes()
        self._clock = clock

    async def see(self, signal: Signal) -> None:
        """Take in a signal; begin an episode when it has held for long enough."""
        async with self._transaction() as (connection, now):
            seen = await connection.execute(
                _SEE,
                {
                    "fingerprint": signal.fingerprint,
                    "rule": signal.rule,
                    "component": signal.component,
                    "tier": signal.tier,
                    "summary": signal.summary,
                    "now": now,
                    "forgotten": now - timedelta(seconds=self._times.keep_s),
                },
            )
            state, pending_since = seen.one()
            held = now - pending_since
            # The row is ours until the end: nobody else can begin the episode.
            if state == "pending" and held >= timedelta(seconds=signal.for_s):
                await connection.execute(
                    _FIRE, {"fingerprint": signal.fingerprint, "now": now}
                )

    async def settle(self) -> int:
        """End the episodes that nobody sees any more, and return how many."""
        async with self._transaction() as (connection, now):
            forgotten = now - timedelta(seconds=self._times.keep_s)
            ended = await connection.execute(
                _SETTLE, {"now": now, "forgotten": forgotten}
            )
            return ended.rowcount

    async def claim(self) -> Batch | None:
        """Return a message that nobody else sends, to be sent within its lease."""
        async with self._transaction() as (connection, now):
            await self._group(connection, now)
            leased = await connection.execute(
                _LEASE, {"now": now, "lease_s": self._times.lease_s}
            )
            row = leased.first()
            if row is None:
                return None
            key, rule, tier = row
            notices = await connection.execute(_NOTICES, {"key": key})
            told = [Notice(*notice) for notice in notices]
            return Batch(key, rule, cast("Tier", tier), told)

    async def close(self, batch: Batch, delivery: Delivery) -> None:
        """Strike out a message that was taken or refused; let one that failed wait."""
        async with self._transaction() as (connection, now):
            if delivery == "failed":
                longest_s = self._times.longest_s
                await connection.execute(
                    _POSTPONE, {"key": batch.key, "now": now, "longest_s": longest_s}
                )
            else:
                await connection.execute(_CLOSE, {"key": batch.key, "now": now})

    async def _group(self, connection: AsyncConnection, now: datetime) -> None:
        # Tried, not awaited: whoever has the lock does it for everybody.
        if not await connection.scalar(_LOCK, {"lock": _GROUPING}):
            return
        await connection.execute(_DROP_INHIBITED)
        ripe = now - timedelta(seconds=self._times.group_s)
        await connection.execute(_GROUP, {"now": now, "ripe": ripe})
        await connection.execute(_PRUNE, {"now": now, "kept_s": self._times.kept_s})

    @contextlib.asynccontextmanager
    async def _transaction(self) -> AsyncIterator[tuple[AsyncConnection, datetime]]:
        async with self._engine.begin() as connection:
            given = self._clock() if self._clock else None
            row = (await connection.execute(_SCOPE, {"now": given})).one()
            yield connection, row[1]
