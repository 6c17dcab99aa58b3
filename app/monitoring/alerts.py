"""Alerts: signals of all workers become episodes, and each episode is told once.

A signal that holds for long enough fires, one that no worker has seen for a while is
resolved; both waits keep a condition that comes and goes from telling each time. The
store makes that one step for all workers, and puts what must be told into an outbox in
the same transaction: whoever dies afterwards leaves it to the others. Messages are
leased, sent and only then struck out, so each arrives at least once, under a key that
is the same when it is sent again. A message tells all alerts of one rule and tier that
came up together; while a worse alert of the same component fires, lower ones wait.

When the store itself is down the worst must still be told: critical signals are sent
directly then, once an hour and worker, under a key that workers agree on.
"""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from app.monitoring.logs import log_event
from app.monitoring.signals import Signal, Source, Tier

INTERVAL_S = 5.0
DIRECT_EVERY_S = 3_600.0
_log = logging.getLogger("app.alerts")

Event = Literal["firing", "resolved"]
Delivery = Literal["taken", "refused", "failed"]


@dataclass(frozen=True, slots=True)
class Notice:
    """One change of one alert.

    Attributes:
        id: Unique: fingerprint, number of the episode and event.
        event: What it is that happened.
        component: What the alert is about.
        summary: One sentence.
        at: When it happened, by the store's clock.
    """

    id: str
    event: Event
    component: str
    summary: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Batch:
    """A message: the notices of one rule that are told together.

    Attributes:
        key: The same each time it is sent; receivers drop what they know.
        rule: The rule.
        tier: How much it matters.
        notices: At least one, in the order in which they happened.
    """

    key: str
    rule: str
    tier: Tier
    notices: Sequence[Notice]


class AlertStore(Protocol):
    """Where the episodes of all workers are, and what must be told of them."""

    async def see(self, signal: Signal) -> None:
        """Take in a signal; begin an episode when it has held for long enough."""
        ...

    async def settle(self) -> int:
        """End the episodes that nobody sees any more, and return how many."""
        ...

    async def claim(self) -> Batch | None:
        """Return a message that nobody else sends, to be sent within its lease."""
        ...

    async def close(self, batch: Batch, delivery: Delivery) -> None:
        """Strike out a message that was taken or refused; let one that failed wait."""
        ...


class AlertSink(Protocol):
    """Brings messages to whoever is on call."""

    async def send(self, batch: Batch) -> Delivery:
        """Send a message; raises nothing but its cancellation."""
        ...


class LogSink:
    """Writes messages to the log, for services without a webhook."""

    async def send(self, batch: Batch) -> Delivery:
        """Write a message."""
        level = logging.CRITICAL if batch.tier == "critical" else logging.WARNING
        for notice in batch.notices:
            log_event(
                _log,
                f"alert.{notice.event}",
                level=level,
                rule=batch.rule,
                tier=batch.tier,
                component=notice.component,
                summary=notice.summary,
                id=notice.id,
            )
        return "taken"


class AlertManager:
    """Watches this worker's sources, and shares what they say with all workers."""

    def __init__(
        self,
        store: AlertStore,
        sink: AlertSink,
        *,
        sources: Iterable[Source],
        now: Callable[[], datetime],
        prepare: Callable[[], Awaitable[object]] | None = None,
        interval_s: float = INTERVAL_S,
    ) -> None:
        """Watch nothing yet.

        Args:
            store: Shared with the other workers.
            sink: Brings messages out.
            sources: What to ask for signals, every ``interval_s`` seconds.
            now: The wall clock, for what is told without the store.
            prepare: Done before each look, for sources that must be asked first.
            interval_s: Seconds between two looks.
        """
        self._prepare = prepare
        self._store = store
        self._sink = sink
        self._sources = tuple(sources)
        self._now = now
        self._interval_s = interval_s
        self._told_directly: dict[str, str] = {}
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to watch."""
        self._watching = asyncio.create_task(self._watch_forever(), name="alerts")

    async def close(self) -> None:
        """Stop watching; what is in the outbox is for the others, or the next start."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    async def look(self) -> None:
        """Take in what holds now, and send what is to be told."""
        if self._prepare is not None:
            await self._prepare()
        signals = [signal for source in self._sources for signal in source()]
        try:
            for signal in signals:
                await self._store.see(signal)
            await self._store.settle()
            while (batch := await self._store.claim()) is not None:
                await self._store.close(batch, await self._sink.send(batch))
        except Exception as exc:  # noqa: BLE001  # a store that is down is what to tell
            log_event(
                _log,
                "alerts.not_stored",
                level=logging.ERROR,
                problem=type(exc).__name__,
            )
            await self._tell_directly(signals)

    async def _tell_directly(self, signals: Iterable[Signal]) -> None:
        now = self._now()
        hour = str(int(now.timestamp() // DIRECT_EVERY_S))
        for signal in signals:
            fingerprint = signal.fingerprint
            if signal.tier != "critical" or (
                self._told_directly.get(fingerprint) == hour
            ):
                continue
            notice = Notice(
                f"{fingerprint}:unstored-{hour}:firing",
                "firing",
                signal.component,
                signal.summary,
                now,
            )
            key = hashlib.sha256(notice.id.encode()).hexdigest()[:32]
            batch = Batch(key, signal.rule, signal.tier, [notice])
            if await self._sink.send(batch) != "failed":
                self._told_directly[fingerprint] = hour

    async def _watch_forever(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                # A look that hangs or fails must not be the last one.
                async with asyncio.timeout(6 * self._interval_s):
                    await self.look()
            except Exception as exc:  # noqa: BLE001  # see above
                log_event(_log, "alerts.failed", level=logging.ERROR, error=exc)
