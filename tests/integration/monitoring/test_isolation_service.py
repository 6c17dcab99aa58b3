"""The guard in the running service: planted mismatches are refused and told."""

import asyncio
import dataclasses
import json

import pytest
from sqlalchemy import text

from app.api import Parts
from app.monitoring import (
    AlertManager,
    Batch,
    Delivery,
    IsolationError,
    IsolationGuard,
)
from app.realtime import EventLog
from app.realtime.events import _events_key
from app.settings import Settings
from app.storage import AlertTimes, PostgresAlerts
from tests.integration.app.service import Member, Service, next_frames, running, serving
from tests.integration.monitoring.alerting import forget_alerts

pytestmark = [pytest.mark.integration, pytest.mark.slow]


class BlindGuard(IsolationGuard):
    """Compares nothing."""

    def require(self, place: str, *, owner: str | None, user_id: str) -> None:
        """Let everything pass."""


class Told:
    """A sink that keeps what it is sent."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.batches: list[Batch] = []

    async def send(self, batch: Batch) -> Delivery:
        """Keep a message."""
        self.batches.append(batch)
        return "taken"


async def _plant(service: Service, ada: Member, bob: Member) -> None:
    """Put an event of Bob into Ada's log, as a wrong key would."""
    frame = {"type": "run.completed", "run_id": "r", "data": "BOBSECRET"}
    redis = service.parts.redis
    await redis.xadd(
        _events_key(ada.user_id),
        {"event": json.dumps(frame), "owner": bob.user_id},
        id="1000-0",
    )


async def _received(service: Service, ada: Member) -> str:
    """Return what Ada's socket is sent before it ends or has had its time."""
    frames = []
    async with service.socket(ada, after=0) as connection:
        try:
            async with asyncio.timeout(20):
                while True:
                    frames.append(await connection.recv(decode=True))
                    if "BOBSECRET" in frames[-1]:
                        break
        except Exception as exc:  # noqa: BLE001  # however the socket ends
            frames.append(type(exc).__name__)
    return " ".join(frames)


async def test_foreign_event_is_refused_and_told(settings: Settings) -> None:
    """Another user's event in a log reaches nobody, is counted, and is a critical alert."""
    async with (
        serving(settings) as service,
        service.member() as ada,
        service.member() as bob,
    ):
        await forget_alerts(service.parts.engine)
        await _plant(service, ada, bob)
        received = await _received(service, ada)
        parts, sink = service.parts, Told()
        manager = AlertManager(
            PostgresAlerts(parts.engine, AlertTimes(group_s=0)),
            sink,
            sources=[parts.guard.signals],
            now=lambda: None,  # type: ignore[arg-type, return-value]  # the store has the clock
        )
        await manager.look()
        shown = await asyncio.to_thread(parts.metrics.render)

    assert "BOBSECRET" not in received
    assert b'isolation_violations_total{place="event"} 1.0' in shown
    told = [batch for batch in sink.batches if batch.rule == "isolation-violated"]
    assert [batch.tier for batch in told] == ["critical"]
    assert bob.user_id not in str(told)
    assert ada.user_id not in str(told)


async def test_service_tells_what_its_guard_sees(settings: Settings) -> None:
    """The service's own alerts watch its guard, its dependencies, its loop and levels."""
    async with running(settings) as service:
        parts = service.parts
        await forget_alerts(parts.engine)
        parts.guard.report("session", owner="bob", user_id="ada")
        for _ in range(100):
            parts.sla.record("/threads", 500, 0.1)
        await parts.alerts.look()
        async with parts.engine.begin() as connection:
            await connection.execute(
                text("SELECT set_config('app.scope', 'monitoring', true)")
            )
            rows = await connection.execute(
                text("SELECT rule, component, tier, state FROM alert_episodes")
            )
            told = {tuple(row) for row in rows}

    assert ("isolation-violated", "session", "critical", "firing") in told
    assert ("budget-burns-fast", "/threads", "critical", "firing") in told


@pytest.mark.power
async def test_unguarded_log_is_found(settings: Settings) -> None:
    """Without the guard Ada is sent what is Bob's."""

    def unguarded(parts: Parts) -> Parts:
        log = EventLog(parts.redis, guard=BlindGuard())
        return dataclasses.replace(parts, events=log)

    async with (
        serving(settings, replace=unguarded) as service,
        service.member() as ada,
        service.member() as bob,
    ):
        await _plant(service, ada, bob)

        assert "BOBSECRET" in await _received(service, ada)


async def test_session_of_another_user_is_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that takes on another user fails the request before its first query."""
    async with (
        running(settings) as service,
        service.member() as ada,
        service.member() as bob,
    ):
        mixed_up = text(
            f"SELECT set_config('app.user_id', '{bob.user_id}', true), :user_id"  # an id
        )
        monkeypatch.setattr("app.storage.sessions._SET_USER", mixed_up)
        answer = await ada.http.get("/me")
        with pytest.raises(IsolationError):
            async with service.context(ada.user_id):
                pass
        monkeypatch.undo()
        after = await ada.http.get("/me")

    assert answer.status_code == 500
    assert bob.username not in answer.text
    assert after.json()["username"] == ada.username


async def test_own_events_still_arrive(settings: Settings) -> None:
    """The guard is quiet while all is well."""
    async with serving(settings) as service, service.member() as ada:
        async with service.socket(ada) as connection:
            await next_frames(connection, until="ready")
            thread = await ada.new("/threads", title="t")
            await ada.new(f"/threads/{thread}/runs", goal="g")
            await next_frames(connection, until="run.completed")
        signals = list(service.parts.guard.signals())

    assert signals == []
