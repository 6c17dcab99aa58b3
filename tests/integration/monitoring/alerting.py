"""Workers that share alerts in one real Postgres, and who is told over real HTTP."""

import asyncio
import contextlib
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, table, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.monitoring import AlertManager, AlertSink, Signal, Webhook
from app.settings import Settings
from app.storage import AlertTimes, PostgresAlerts, open_engine

WORKERS = 50
TIMES = AlertTimes(keep_s=60, group_s=0, lease_s=30)
TABLES = [table(name) for name in ("alert_notices", "alert_batches", "alert_episodes")]


async def forget_alerts(engine: AsyncEngine) -> None:
    """Remove all alerts that earlier tests left."""
    async with engine.begin() as connection:
        await connection.execute(
            text("SELECT set_config('app.scope', 'monitoring', true)")
        )
        for rows in TABLES:
            await connection.execute(delete(rows))


@dataclass
class Receiver:
    """A webhook's other end, over real HTTP.

    Attributes:
        url: Where it listens.
        messages: What it was sent, in order of arrival.
        status: What it answers.
        delay_s: How long it takes to; all workers come while one message is underway.
        has_message: Set once it was sent something.
    """

    url: str = ""
    messages: list[dict[str, object]] = field(default_factory=list)
    status: int = 204
    delay_s: float = 0.02
    has_message: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def told(self) -> Counter[str]:
        """How often each notice arrived, by its id."""
        return Counter(str(alert["id"]) for alert in self._alerts())

    @property
    def events(self) -> list[str]:
        """The events in the order in which they arrived first."""
        seen = dict.fromkeys((str(a["id"]), str(a["event"])) for a in self._alerts())
        return [event for _, event in seen]

    @property
    def keys(self) -> set[str]:
        """The keys of the messages."""
        return {str(message["key"]) for message in self.messages}

    def _alerts(self) -> list[dict[str, object]]:
        return [
            alert
            for message in self.messages
            for alert in message["alerts"]  # type: ignore[attr-defined]  # JSON
        ]

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Take messages of one connection."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                size = int(head.split("content-length: ")[1].split("\r\n")[0])
                message = json.loads(await reader.readexactly(size))
                assert f"idempotency-key: {message['key']}" in head
                self.messages.append(message)
                self.has_message.set()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.delay_s):
                        await reader.read(1)
                        break  # who sent it is gone
                writer.write(
                    f"HTTP/1.1 {self.status} X\r\ncontent-length: 0\r\n\r\n".encode()
                )
                await writer.drain()
        writer.close()


@dataclass
class Clock:
    """The wall clock of the store, which the test sets."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        """Return the instant."""
        return self.now

    def forward(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)


@dataclass
class Fleet:
    """Workers that share alerts.

    Attributes:
        managers: One per worker.
        signals: What each worker sees now.
        clock: The store's clock.
    """

    managers: list[AlertManager]
    signals: list[Signal]
    clock: Clock
    engine: AsyncEngine

    async def look(self) -> None:
        """Let all workers look at one time."""
        await asyncio.gather(*(manager.look() for manager in self.managers))


@contextlib.asynccontextmanager
async def fleet(
    settings: Settings,
    receiver: Receiver,
    *,
    workers: int = WORKERS,
    times: AlertTimes = TIMES,
    store: type[PostgresAlerts] = PostgresAlerts,
    manager: type[AlertManager] = AlertManager,
    wrap: Callable[[AlertSink], AlertSink] = lambda sink: sink,
    is_store_down: bool = False,
) -> AsyncIterator[Fleet]:
    """Yield workers over empty tables of alerts."""
    engine = open_engine(settings.service_database_url, pool_size=16, pool_timeout_s=20)
    await forget_alerts(engine)
    clock, signals, failed = Clock(), list[Signal](), list[str]()
    log = logging.Handler(logging.ERROR)
    log.emit = lambda record: failed.append(record.getMessage())  # type: ignore[method-assign]  # this handler's own
    logging.getLogger("app.alerts").addHandler(log)
    webhook = Webhook(receiver.url)
    managers = [
        manager(
            store(engine, times, clock=clock),
            wrap(webhook),
            sources=[lambda: signals],
            now=clock,
        )
        for _ in range(workers)
    ]
    yield Fleet(managers, signals, clock, engine)
    logging.getLogger("app.alerts").removeHandler(log)
    await webhook.aclose()
    await engine.dispose()
    assert ("alerts.not_stored" in failed) == is_store_down, failed


def signal(
    rule: str = "dependency-down", component: str = "postgres", **more: object
) -> Signal:
    """Return a signal of a name that no other test uses."""
    fields = {"tier": "critical", "summary": "Seen.", **more}
    return Signal(rule, component, **fields)  # type: ignore[arg-type]  # as they are
