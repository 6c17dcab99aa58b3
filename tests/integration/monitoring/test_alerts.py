"""Alerts of many workers: each episode is told once, and none is lost with a worker.

Workers are alert managers with connections of their own to one real Postgres, and send
to one real HTTP receiver, which may be slow, fail, or hear the same message again.
"""

import asyncio
import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from uuid import uuid4

import pytest
from sqlalchemy import delete, event, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.monitoring import AlertManager, AlertSink, Batch, Delivery, Signal, Webhook
from app.settings import Settings
from app.storage import AlertTimes, PostgresAlerts
from app.storage.migrate import migrate
from tests.integration.monitoring.alerting import (
    TABLES,
    TIMES,
    WORKERS,
    Fleet,
    Receiver,
    fleet,
    signal,
)
from tests.integration.monitoring.alerts_twins import (
    ForgettingSink,
    LookingAlerts,
    RekeyingAlerts,
    StrikingManager,
    UnleasedAlerts,
    UnorderedAlerts,
)

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module", autouse=True)
def _migrated(settings: Settings) -> None:
    asyncio.run(migrate(settings.owner_database_url))


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that listens."""
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    receiver.url = f"http://127.0.0.1:{port}/hook"
    yield receiver
    server.close()
    await server.wait_closed()


async def _one_episode(fleet: Fleet) -> None:
    """Let a condition come and go."""
    fleet.signals.append(signal())
    for _ in range(2):
        await fleet.look()
        fleet.clock.forward(5)
    fleet.signals.clear()
    for _ in range(2):
        fleet.clock.forward(61)
        await fleet.look()


async def test_workers_tell_each_episode_once(
    settings: Settings, receiver: Receiver
) -> None:
    """Fifty workers tell once that a condition came, once that it went, and so again."""
    async with fleet(settings, receiver) as workers:
        await _one_episode(workers)
        del workers.managers[5:]
        await _one_episode(workers)

    assert receiver.events == ["firing", "resolved"] * 2
    assert set(receiver.told.values()) == {1}


@pytest.mark.power
async def test_episode_begun_after_a_look_is_found(
    settings: Settings, receiver: Receiver
) -> None:
    """Workers that look whether an alert fires before they begin it begin several."""
    async with fleet(settings, receiver, workers=10, store=LookingAlerts) as workers:
        await _one_episode(workers)

    assert receiver.events.count("firing") > 1


async def _sent_at_once(
    settings: Settings, receiver: Receiver, store: type[PostgresAlerts], *, workers: int
) -> int:
    """Return how often one message that lies ready is sent, by workers that all look."""
    async with fleet(settings, receiver, workers=workers, store=store) as among:
        first = store(among.engine, TIMES, clock=among.clock)
        await first.see(signal())
        async with first._transaction() as (connection, now):
            await first._group(connection, now)
        await among.look()
    return len(receiver.messages)


async def test_leased_message_is_sent_once(
    settings: Settings, receiver: Receiver
) -> None:
    """Of fifty workers that find a message one sends it."""
    assert await _sent_at_once(settings, receiver, PostgresAlerts, workers=WORKERS) == 1


@pytest.mark.power
async def test_sending_without_lease_is_found(
    settings: Settings, receiver: Receiver
) -> None:
    """Without a lease all who find the message send it."""
    assert await _sent_at_once(settings, receiver, UnleasedAlerts, workers=10) > 1


async def _with_death_after_sending(
    settings: Settings, receiver: Receiver, store: type[PostgresAlerts]
) -> None:
    """Have the worker that sends first die before it can strike the message out."""
    has_died = False

    class DyingSink:
        def __init__(self, sink: AlertSink) -> None:
            self._sink = sink

        async def send(self, batch: Batch) -> Delivery:
            nonlocal has_died
            delivery = await self._sink.send(batch)
            if not has_died:
                has_died = True
                raise asyncio.CancelledError  # the process is gone
            return delivery

    async with fleet(
        settings, receiver, workers=2, store=store, wrap=DyingSink
    ) as workers:
        workers.signals.append(signal())
        first, second = workers.managers
        with contextlib.suppress(asyncio.CancelledError):
            await first.look()
        await second.look()
        assert len(receiver.messages) == 1, "the lease holds"
        workers.clock.forward(TIMES.lease_s + 1)
        await second.look()
        await second.look()


async def test_death_after_sending_repeats_the_key(
    settings: Settings, receiver: Receiver
) -> None:
    """A message whose sender died is sent again, under the key that it had."""
    await _with_death_after_sending(settings, receiver, PostgresAlerts)

    assert len(receiver.messages) == 2
    assert len(receiver.keys) == 1


@pytest.mark.power
async def test_new_key_for_each_attempt_is_found(
    settings: Settings, receiver: Receiver
) -> None:
    """A key made when a message is sent does not tell that it was sent before."""
    await _with_death_after_sending(settings, receiver, RekeyingAlerts)

    assert len(receiver.keys) == 2


async def _with_death_before_sending(
    settings: Settings, receiver: Receiver, manager: type[AlertManager]
) -> None:
    """Have the first worker die between storing and sending."""

    def die(sink: AlertSink) -> AlertSink:
        return ForgettingSink(sink, deaths)

    deaths = [1]
    async with fleet(
        settings, receiver, workers=2, manager=manager, wrap=die
    ) as workers:
        workers.signals.append(signal())
        with contextlib.suppress(asyncio.CancelledError):
            await workers.managers[0].look()
        workers.clock.forward(TIMES.lease_s + 1)
        await workers.managers[1].look()


async def test_death_before_sending_loses_nothing(
    settings: Settings, receiver: Receiver
) -> None:
    """What a dead worker had stored and not sent, another one sends."""
    await _with_death_before_sending(settings, receiver, AlertManager)

    assert receiver.events == ["firing"]


@pytest.mark.power
async def test_striking_out_before_sending_is_found(
    settings: Settings, receiver: Receiver
) -> None:
    """A message that is struck out first is lost with its sender."""
    await _with_death_before_sending(settings, receiver, StrikingManager)

    assert receiver.events == []


async def test_look_can_be_cancelled_at_any_turn(
    settings: Settings, receiver: Receiver
) -> None:
    """A worker that is stopped after k turns of the loop loses and doubles nothing.

    For k = 0, 4, ... 96, each with a condition of its own; what it left is sent by
    another one, under the same key if it was sent already.
    """
    receiver.delay_s = 0
    async with fleet(settings, receiver, workers=2) as workers:
        stopped, other = workers.managers
        for turns in range(0, 100, 4):
            workers.signals[:] = [signal(component=f"after {turns} turns")]
            looking = asyncio.create_task(stopped.look())
            for _ in range(turns):
                await asyncio.sleep(0)
            looking.cancel()
            await asyncio.wait({looking})
            workers.clock.forward(TIMES.lease_s + 1)
            await other.look()

    sent = {(one["key"], json.dumps(one["alerts"])) for one in receiver.messages}
    once = Counter(alert["id"] for _, text in sent for alert in json.loads(text))
    assert receiver.events.count("firing") == 25
    assert len(sent) == len(receiver.keys)
    assert set(once.values()) == {1}


_KILLED_WORKER = """
import asyncio, os, sys
from datetime import UTC, datetime

from app.monitoring import AlertManager, Signal, Webhook
from app.storage import AlertTimes, PostgresAlerts, open_engine

async def main():
    engine = open_engine(os.environ["DATABASE_URL"], pool_size=1, pool_timeout_s=10)
    manager = AlertManager(
        PostgresAlerts(engine, AlertTimes(group_s=0, lease_s=1)),
        Webhook(sys.argv[1]),
        sources=[lambda: [Signal("killed", "worker", "critical", "Seen.")]],
        now=lambda: datetime.now(UTC),
    )
    await manager.look()

asyncio.run(main())
"""


@pytest.mark.long
async def test_killed_worker_leaves_message_to_others(
    settings: Settings, receiver: Receiver
) -> None:
    """A real worker that is killed while its message is underway loses nothing."""
    async with fleet(settings, receiver, workers=0) as workers:
        receiver.delay_s = 60
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _KILLED_WORKER,
            receiver.url,
            env={**os.environ, "DATABASE_URL": settings.service_database_url},
        )
        async with asyncio.timeout(60):
            await receiver.has_message.wait()
        process.kill()
        await process.wait()
        receiver.delay_s = 0
        webhook = Webhook(receiver.url)
        other = AlertManager(
            PostgresAlerts(workers.engine, AlertTimes(group_s=0, lease_s=1)),
            webhook,
            sources=[],
            now=workers.clock,
        )
        for _ in range(100):
            await other.look()
            if len(receiver.messages) > 1:
                break
            await asyncio.sleep(0.1)
        await webhook.aclose()

    assert len(receiver.messages) == 2
    assert len(receiver.keys) == 1


async def test_receiver_that_fails_is_tried_again(
    settings: Settings, receiver: Receiver
) -> None:
    """A receiver that is down for a while gets each message once it is back."""
    async with fleet(settings, receiver, workers=4) as workers:
        receiver.status = 503
        workers.signals.append(signal())
        for _ in range(4):
            await workers.look()
            workers.clock.forward(20)
        failed = len(receiver.messages)
        receiver.status = 204
        workers.clock.forward(60)
        await workers.look()
        await workers.look()

    assert failed > 1
    assert len(receiver.messages) == failed + 1
    assert len(receiver.keys) == 1


async def test_refused_message_blocks_nothing(
    settings: Settings, receiver: Receiver
) -> None:
    """What a receiver refuses for its content is given up, and others follow."""
    async with fleet(settings, receiver, workers=1) as workers:
        receiver.status = 422
        workers.signals.append(signal())
        await workers.look()
        receiver.status = 204
        workers.signals.append(signal(component="redis"))
        await workers.look()
        await workers.look()

    assert len(receiver.messages) == 2


async def test_flapping_condition_is_not_told(
    settings: Settings, receiver: Receiver
) -> None:
    """What holds too shortly is not told; what is told outlasts a pause."""
    async with fleet(settings, receiver, workers=3) as workers:
        flapping = signal(for_s=30)
        for _ in range(6):  # seen for a moment, then gone for longer than it is kept
            workers.signals[:] = [flapping]
            await workers.look()
            workers.clock.forward(5)
            workers.signals.clear()
            await workers.look()
            workers.clock.forward(61)
        told_flapping = receiver.events
        workers.signals[:] = [flapping]
        for _ in range(4):
            await workers.look()
            workers.clock.forward(15)
        workers.signals.clear()
        await workers.look()  # a pause shorter than it is kept
        workers.clock.forward(15)
        workers.signals[:] = [flapping]
        await workers.look()

    assert told_flapping == []
    assert receiver.events == ["firing"]


async def test_alerts_of_one_rule_are_one_message(
    settings: Settings, receiver: Receiver
) -> None:
    """What comes up together is told together: a message for each rule and tier."""
    patient = AlertTimes(keep_s=60, group_s=5)
    async with fleet(settings, receiver, workers=5, times=patient) as workers:
        for number in range(20):
            workers.signals.append(
                signal("budget-burns", f"/things/{number}", tier="warning")
            )
        await workers.look()
        before = len(receiver.messages)
        workers.clock.forward(6)
        await workers.look()

    assert before == 0
    assert len(receiver.messages) == 1
    assert len(receiver.told) == 20


async def _claimed_at_once(
    settings: Settings, receiver: Receiver, store: type[PostgresAlerts]
) -> list[int]:
    """Return how many notices each message holds that sixteen workers make at once."""
    async with fleet(settings, receiver, workers=0) as workers:
        shared = store(workers.engine, TIMES, clock=workers.clock)
        for number in range(10):
            await shared.see(signal(component=f"component {number}"))
        claimed = await asyncio.gather(*(shared.claim() for _ in range(16)))
        claimed += [await shared.claim() for _ in range(16)]
    return [len(batch.notices) for batch in claimed if batch is not None]


async def test_notices_are_put_together_once(
    settings: Settings, receiver: Receiver
) -> None:
    """However many workers put messages together, each notice is in one of them."""
    assert await _claimed_at_once(settings, receiver, PostgresAlerts) == [10]


@pytest.mark.power
async def test_messages_put_together_without_lock_are_found(
    settings: Settings, receiver: Receiver
) -> None:
    """Without the lock workers take one another's notices, and send empty messages."""
    assert await _claimed_at_once(settings, receiver, UnorderedAlerts) != [10]


async def test_worse_alert_inhibits_lower_tiers(
    settings: Settings, receiver: Receiver
) -> None:
    """While a critical alert fires, lower ones of its component wait.

    Those that are over by then are never told; those that last are told after it.
    """
    worse = signal("isolation-violated", "/things")
    passing = signal("budget-wanes", "/things", tier="trend")
    lasting = signal("budget-burns", "/things", tier="warning")
    other = signal("budget-burns", "/others", tier="warning")
    async with fleet(settings, receiver, workers=3) as workers:

        async def hold(*signals: Signal, seconds: float) -> Sequence[str]:
            workers.signals[:] = signals
            for _ in range(3):
                await workers.look()
                workers.clock.forward(seconds / 3)
            return [one.split(":")[0] for one in receiver.told]

        await hold(worse, seconds=6)
        during = await hold(worse, passing, lasting, other, seconds=30)
        await hold(worse, lasting, other, seconds=150)
        after = await hold(lasting, other, seconds=150)

    assert set(during) == {worse.fingerprint, other.fingerprint}
    assert set(after) == {one.fingerprint for one in (worse, other, lasting)}


async def test_dead_store_still_tells_the_worst(
    settings: Settings, receiver: Receiver
) -> None:
    """Without Postgres critical alerts are told directly, under one key of all workers.

    Once by each worker: which of them did so already nobody can tell the others.
    """
    async with fleet(settings, receiver, workers=3, is_store_down=True) as workers:
        workers.signals += [signal(), signal("loop", "x", tier="warning")]
        with _refusing(workers.engine):
            for _ in range(3):
                await workers.look()

    assert len(receiver.messages) == 3
    assert len(receiver.keys) == 1
    assert receiver.events == ["firing"]


@contextlib.contextmanager
def _refusing(engine: AsyncEngine) -> Iterator[None]:
    """Let nobody connect, as if Postgres were down."""

    def refuse(*_: object) -> None:
        raise ConnectionRefusedError

    event.listen(engine.sync_engine, "checkout", refuse)
    yield
    event.remove(engine.sync_engine, "checkout", refuse)


async def test_users_see_no_alerts(settings: Settings, receiver: Receiver) -> None:
    """A user's transaction sees no row of any table of alerts, and changes none."""
    async with fleet(settings, receiver, workers=1) as workers:
        workers.signals.append(signal())
        await workers.look()
        async with workers.engine.begin() as connection:
            await connection.execute(
                text("SELECT set_config('app.user_id', :user, true)"),
                {"user": str(uuid4())},
            )
            for rows in TABLES:
                found = await connection.execute(select(text("*")).select_from(rows))
                gone = await connection.execute(delete(rows))
                assert (found.all(), gone.rowcount) == ([], 0)
