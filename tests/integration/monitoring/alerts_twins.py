"""Alerts as they are often written, each with one mistake."""

import asyncio
from datetime import datetime
from uuid import uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.monitoring import AlertManager, AlertSink, Batch, Delivery, Notice, Signal
from app.storage import PostgresAlerts
from app.storage.alerts import _GROUP, _NOTICES


class LookingAlerts(PostgresAlerts):
    """Looks whether an alert fires, and begins an episode in a second transaction."""

    async def see(self, signal: Signal) -> None:
        async with self._transaction() as (connection, now):
            state = await connection.scalar(
                text("SELECT state FROM alert_episodes WHERE fingerprint = :f"),
                {"f": signal.fingerprint},
            )
        if state == "firing":
            return
        await asyncio.sleep(0.01)
        async with self._transaction() as (connection, now):
            values = {
                "f": signal.fingerprint,
                "rule": signal.rule,
                "component": signal.component,
                "now": now,
            }
            await connection.execute(
                text(
                    "INSERT INTO alert_episodes AS known (fingerprint, rule, component,"
                    " tier, summary, state, pending_since, seen_at, episode) VALUES"
                    " (:f, :rule, :component, 'critical', '', 'firing',"
                    " cast(:now AS timestamptz), cast(:now AS timestamptz), 1)"
                    " ON CONFLICT (fingerprint) DO UPDATE SET"
                    " state = 'firing', episode = known.episode + 1"
                ),
                values,
            )
            await connection.execute(
                text(
                    "INSERT INTO alert_notices (fingerprint, episode, event, summary,"
                    " happened_at) SELECT fingerprint, episode, 'firing', '',"
                    " cast(:now AS timestamptz) FROM alert_episodes"
                    " WHERE fingerprint = :f"
                ),
                values,
            )


class UnleasedAlerts(PostgresAlerts):
    """Hands out a message that others are sending already."""

    async def claim(self) -> Batch | None:
        async with self._transaction() as (connection, now):
            await self._group(connection, now)
            row = (
                await connection.execute(
                    text(
                        "SELECT cast(key AS text), rule FROM alert_batches"
                        " WHERE closed_at IS NULL ORDER BY created_at LIMIT 1"
                    )
                )
            ).first()
            if row is None:
                return None
            notices = await connection.execute(_NOTICES, {"key": row[0]})
            return Batch(row[0], row[1], "critical", [Notice(*one) for one in notices])


class UnorderedAlerts(PostgresAlerts):
    """Puts messages together while others do so."""

    async def _group(self, connection: AsyncConnection, now: datetime) -> None:
        await connection.execute(_GROUP, {"now": now, "ripe": now})
        # Others come while this transaction is open, as they would by chance.
        await asyncio.sleep(0.05)


class RekeyingAlerts(PostgresAlerts):
    """Gives a message another key each time it is sent."""

    async def claim(self) -> Batch | None:
        batch = await super().claim()
        return batch and Batch(str(uuid4()), batch.rule, batch.tier, batch.notices)

    async def close(self, batch: Batch, delivery: Delivery) -> None:
        del batch, delivery  # under the new key there is nothing to strike out


class StrikingManager(AlertManager):
    """Strikes a message out before it is sent."""

    async def look(self) -> None:
        for source in self._sources:
            for signal in source():
                await self._store.see(signal)
        while (batch := await self._store.claim()) is not None:
            await self._store.close(batch, "taken")
            await self._sink.send(batch)


class ForgettingSink:
    """Dies instead of sending, as often as it is told."""

    def __init__(self, sink: AlertSink, deaths: list[int]) -> None:
        self._sink = sink
        self._deaths = deaths

    async def send(self, batch: Batch) -> Delivery:
        """Die or send."""
        if self._deaths[0] > 0:
            self._deaths[0] -= 1
            raise asyncio.CancelledError
        return await self._sink.send(batch)
