"""Sessions and the pool: clean after every way a piece of work can end."""

import asyncio
import random

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from app.settings import Settings
from app.storage import SessionFactory
from tests.integration.app.service import Service, running, serving

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def _checked_out(service: Service) -> int:
    return int(service.parts.engine.pool.checkedout())  # type: ignore[attr-defined]  # every queue pool has it


async def _serves(service: Service, user_id: str) -> bool:
    """Return whether each connection of the pool serves the user it is told."""
    size = service.parts.settings.database_pool_size

    async def ask() -> bool:
        async with service.context(user_id) as context:
            seen = await context.database.scalar(
                text("SELECT current_setting('app.user_id') FROM pg_sleep(0.02)")
            )
            return bool(seen == user_id)

    return all(await asyncio.gather(*(ask() for _ in range(2 * size))))


async def test_cancelled_work_leaves_pool_clean(settings: Settings) -> None:
    """After 200 cancellations at random instants every connection is free and right.

    A session takes about 5 ms here, and the instants are spread over 10 ms in a seeded
    order; about half of the cancellations meet work in progress.
    """
    instants = random.Random(2)
    async with running(settings) as service, service.member() as ada:

        async def work() -> None:
            async with service.context(ada.user_id) as context:
                await context.database.execute(text("SELECT pg_sleep(0.002)"))
                await context.audit.record("test.cancelled", "x")

        async def cancel_somewhere(delay_s: float) -> bool:
            task = asyncio.create_task(work())
            await asyncio.sleep(delay_s)
            was_running = task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return was_running

        cancelled = 0
        for _ in range(25):
            delays = [instants.uniform(0, 0.01) for _ in range(8)]
            cancelled += sum(await asyncio.gather(*map(cancel_somewhere, delays)))

        assert cancelled > 50
        assert _checked_out(service) == 0
        assert await _serves(service, ada.user_id)


async def test_connection_of_cancelled_query_is_discarded(settings: Settings) -> None:
    """A connection whose query was cancelled in flight serves nobody after that."""
    one = settings.model_copy(update={"database_pool_size": 1})
    async with running(one) as service, service.member() as ada:
        pids: list[int | None] = []

        async def work(sleep_s: float) -> None:
            async with service.context(ada.user_id) as context:
                pid = text("SELECT pg_backend_pid()")
                pids.append(await context.database.scalar(pid))
                await context.database.execute(text(f"SELECT pg_sleep({sleep_s})"))

        task = asyncio.create_task(work(5))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await work(0)
        await work(0)

    cancelled, next_one, after = pids
    assert cancelled != next_one == after


async def _stop_within_a_statement(
    sessions: SessionFactory, user_id: str, locked: asyncio.Event
) -> None:
    """Lock what a user has and stop, as a process may, before a statement is executed.

    The driver looks at what the server makes of it in between, and the server waits for
    the rest: its session is not idle.
    """
    async with sessions.for_user(user_id) as session:
        await session.execute(text("UPDATE threads SET title = 'stopped'"))
        raw = await (await session.connection()).get_raw_connection()
        assert raw.driver_connection is not None
        await raw.driver_connection.prepare("SELECT count(*) FROM threads")
        locked.set()
        await asyncio.Event().wait()


async def test_work_stopped_within_a_statement_is_ended(settings: Settings) -> None:
    """Whoever waits for what it has locked is served once its time is over."""
    async with running(settings) as service, service.member() as ada:
        thread = await ada.new("/threads", title="t")
        hasty = SessionFactory(service.parts.engine, limit_ms=500)
        locked = asyncio.Event()
        stopped = asyncio.create_task(
            _stop_within_a_statement(hasty, ada.user_id, locked)
        )
        try:
            async with asyncio.timeout(20):
                await locked.wait()
                answer = await ada.http.patch(f"/threads/{thread}", json={"title": "n"})
        finally:
            stopped.cancel()
            await asyncio.gather(stopped, return_exceptions=True)

        assert (answer.status_code, answer.json()["title"]) == (200, "n")


async def test_only_auditors_take_any_time(settings: Settings) -> None:
    """Each transaction has its limit, but for reading all of the audit log."""
    limit = text("SELECT current_setting('transaction_timeout', true)")
    async with running(settings) as service, service.member() as ada:
        sessions = service.parts.sessions
        limits = []
        for opening in (
            sessions.for_user(ada.user_id),
            sessions.for_auth(),
            sessions.for_keys(),
            sessions.for_control(),
            sessions.for_anchoring(),
            sessions.for_audit(ada.user_id),
        ):
            async with opening as session:
                limits.append(await session.scalar(limit))

    assert limits == [*["1min"] * 5, "0"]


async def test_failed_work_is_rolled_back(settings: Settings) -> None:
    """Work that raises leaves nothing behind, not even in the audit trail."""
    async with running(settings) as service, service.member() as ada:

        async def fail() -> None:
            async with service.context(ada.user_id) as context:
                await context.audit.record("test.failed", "x")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()

        async with service.context(ada.user_id) as context:
            found = await context.database.scalar(
                text("SELECT count(*) FROM audit_log WHERE action = 'test.failed'")
            )
        assert found == 0
        assert _checked_out(service) == 0


async def test_killed_backends_hurt_nobody_later(settings: Settings) -> None:
    """When the server has closed pooled connections, the next requests do not fail."""
    async with running(settings) as service, service.member() as ada:
        assert await _serves(service, ada.user_id)
        owner = create_async_engine(settings.owner_database_url, poolclass=NullPool)
        async with owner.connect() as connection:
            await connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'isolation-app'"
                )
            )
        await asyncio.sleep(0.05)

        answers = await asyncio.gather(*(ada.http.get("/me") for _ in range(16)))

    assert {answer.status_code for answer in answers} == {200}


async def test_readers_of_streams_hold_no_connection(settings: Settings) -> None:
    """Streams of more users than the pool has connections stand open at one time."""
    one = settings.model_copy(update={"database_pool_size": 1})
    async with serving(one) as service, service.member() as ada:
        # Larger than the socket buffers, so that the streams really wait.
        body = "CANARY77 " * 100_000
        document = await ada.new("/documents", title="d", body=body)
        path = f"/documents/{document}/content"
        async with (
            ada.http.stream("GET", path) as first,
            ada.http.stream("GET", path) as second,
        ):
            others = await ada.http.get("/me")
            bodies = [await first.aread(), await second.aread()]

    assert others.status_code == 200
    assert [len(b) for b in bodies] == [len(body)] * 2


async def test_broken_streams_leave_pool_clean(settings: Settings) -> None:
    """Clients that leave in the middle of a stream leave no connection in use."""
    async with serving(settings) as service, service.member() as ada:
        document = await ada.new("/documents", title="d", body="x" * 900_000)
        for _ in range(10):
            async with ada.http.stream("GET", f"/documents/{document}/content") as s:
                async for _chunk in s.aiter_raw(1_000):
                    break

        assert _checked_out(service) == 0
        assert await _serves(service, ada.user_id)
