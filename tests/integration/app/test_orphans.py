"""Runs whose process was killed: each ends once, and its user hears of it once.

A hundred users' runs are left as a killed process leaves them, at each moment of their
lives. Then everybody sweeps at once, and some who sweep are killed too.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from uuid import uuid4

import asyncpg
import pytest

from app.agents import RunLeases, sweeper
from app.agents.sweeper import sweep_orphans
from app.api.dependencies import build_context
from app.context import UserExecutionContext
from app.realtime import EventLog, UserEmitter, events
from app.settings import Settings
from app.storage import finish_run
from app.storage.engine import STATEMENT_TIMEOUT_MS
from tests.integration.app.service import Service, running

pytestmark = [pytest.mark.integration, pytest.mark.slow]
USERS = 100
LEASE_S = 0.5


class _DyingLog(EventLog):
    """The log of a process that is killed when it is about to append."""

    async def append(self, *_: object, **__: object) -> int:
        raise asyncio.CancelledError


@dataclass(frozen=True)
class Orphan:
    """A run that nobody works on, with an expired lease."""

    user_id: str
    run_id: str


@dataclass(frozen=True)
class Site:
    """A service, and what a killed process left behind."""

    service: Service
    key: str
    leases: RunLeases
    orphans: list[Orphan]

    def context(self, user_id: str) -> UserExecutionContext:
        """Return a context of a user as the service makes them."""
        return build_context(self.service.parts, user_id=user_id, request_id="test")

    def dying(self, user_id: str) -> UserExecutionContext:
        """Return a context in which who tells of something is killed before."""
        log = _DyingLog(self.service.parts.redis)
        return replace(self.context(user_id), emitter=UserEmitter(log, user_id))

    async def sweep(self) -> int:
        """Sweep once."""
        sessions = self.service.parts.sessions
        return await sweep_orphans(self.leases, sessions, self.context)

    async def sweep_all(self) -> None:
        """Sweep from several processes at once until nothing is left."""
        async with asyncio.timeout(60):
            while await self.service.parts.redis.zcard(self.key):
                await asyncio.gather(*(self.sweep() for _ in range(4)))
                await asyncio.sleep(LEASE_S / 4)


_ROWS = """
WITH given AS (SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[])
               AS given (user_id, thread_id, run_id)),
known AS (INSERT INTO users (user_id, username, password_hash)
          SELECT user_id, user_id::text, '' FROM given),
held AS (INSERT INTO threads (id, user_id, title)
         SELECT thread_id, user_id, 't' FROM given)
INSERT INTO runs (id, user_id, thread_id, request_id, goal, status, events_after,
                  deadline_at)
SELECT run_id, user_id, thread_id, 'r', 'g', 'running', 0, now() + interval '1 hour'
FROM given
"""


@contextlib.asynccontextmanager
async def _site(settings: Settings) -> AsyncIterator[Site]:
    orphans = [Orphan(str(uuid4()), str(uuid4())) for _ in range(USERS)]
    # Not the key of the service, which sweeps too.
    key = f"leases of {uuid4()}"
    async with running(settings) as service:
        leases = RunLeases(service.parts.redis, lease_s=LEASE_S, key=key)
        async with _superuser(settings) as connection:
            await connection.execute(
                _ROWS,
                [orphan.user_id for orphan in orphans],
                [str(uuid4()) for _ in orphans],
                [orphan.run_id for orphan in orphans],
            )
        for orphan in orphans:
            await leases.hold(orphan.user_id, orphan.run_id)
            leases.let_go(orphan.user_id, orphan.run_id)
        await asyncio.sleep(LEASE_S)
        yield Site(service, key, leases, orphans)


@contextlib.asynccontextmanager
async def _superuser(settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    url = settings.owner_database_url.replace("+asyncpg", "")
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def _ends(site: Site, orphan: Orphan) -> list[str]:
    """Return the ends of a run that its user was told."""
    log = site.service.parts.events
    told = await log.read(orphan.user_id, after=0)
    return [event.kind for event in told if event.ends_run]


async def _assert_ended(site: Site, kind: str = "run.failed") -> None:
    told = Counter([tuple(await _ends(site, orphan)) for orphan in site.orphans])
    assert told == {(kind,): USERS}, told
    async with _superuser(site.service.parts.settings) as connection:
        ids = [orphan.run_id for orphan in site.orphans]
        rows = await connection.fetch(
            "SELECT DISTINCT status FROM runs WHERE id = ANY($1::uuid[])", ids
        )
    assert [f"run.{row['status']}" for row in rows] == [kind]


async def test_orphans_end_once_whoever_sweeps(settings: Settings) -> None:
    """Four sweep at one time; each run fails once, and each user is told once."""
    async with _site(settings) as site:
        await site.sweep_all()

        await _assert_ended(site)


async def _sweep_and_be_killed(site: Site) -> None:
    """Begin with each orphan, and die at another moment of it each time.

    With every other one that is between the row and the event.
    """
    sessions = site.service.parts.sessions
    for number, orphan in enumerate(site.orphans):
        make_context = site.dying if number % 2 else site.context
        context = make_context(orphan.user_id)
        sweeping = asyncio.create_task(
            sweeper._tidy_up(site.leases, sessions, context, orphan.run_id)
        )
        if number % 2:
            await asyncio.wait({sweeping})
            continue
        # Sweeping takes about four milliseconds here.
        await asyncio.sleep(0.0001 * number)
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)


async def test_sweeper_that_dies_loses_nothing(settings: Settings) -> None:
    """Whenever who sweeps is killed, the next one tells what is left to tell."""
    async with _site(settings) as site:
        await _sweep_and_be_killed(site)
        await site.sweep_all()

        await _assert_ended(site)


async def test_locked_run_keeps_nobody_waiting(settings: Settings) -> None:
    """A process stopped in a transaction has one run's row; the others end meanwhile."""
    async with _site(settings) as site, _superuser(settings) as stopped:
        locked, *others = site.orphans
        transaction = stopped.transaction()
        await transaction.start()
        lock = "SELECT FROM runs WHERE id = $1::uuid FOR UPDATE"
        await stopped.execute(lock, locked.run_id)
        # Less than a statement may take, which is how long it would wait for the row.
        async with asyncio.timeout(0.9 * STATEMENT_TIMEOUT_MS / 1000):
            await site.sweep()
        told = Counter([tuple(await _ends(site, orphan)) for orphan in others])
        assert told == {("run.failed",): USERS - 1}
        assert await _ends(site, locked) == []

        await transaction.rollback()
        await site.sweep_all()
        await _assert_ended(site)


class _HastyLeases(RunLeases):
    """Is given back before the end is told."""

    async def claim(self, *, limit: int = 50) -> list[tuple[str, str]]:
        claimed = await super().claim(limit=limit)
        for user_id, run_id in claimed:
            await self.give_back(user_id, run_id)
        return claimed


@pytest.mark.long
@pytest.mark.power
async def test_lease_given_back_too_early_is_caught(settings: Settings) -> None:
    """Who gives the lease back first and is killed then leaves runs that never end."""
    async with _site(settings) as site:
        hasty = _HastyLeases(site.service.parts.redis, key=site.key)
        sessions = site.service.parts.sessions
        sweeping = asyncio.create_task(sweep_orphans(hasty, sessions, site.dying))
        assert await sweeping == USERS
        await site.sweep_all()

        with pytest.raises(AssertionError):
            await _assert_ended(site)


async def _end_and_be_killed(site: Site, log: EventLog) -> None:
    """Complete each run and tell it, as its process does before it dies."""
    for orphan in site.orphans:
        context = site.context(orphan.user_id).child(run_id=orphan.run_id)
        async with site.service.parts.sessions.for_user(orphan.user_id) as session:
            await finish_run(
                context.child(session=session), status="completed", result="r"
            )
        await log.append(
            orphan.user_id,
            "run.completed",
            run_id=orphan.run_id,
            thread_id="t",
            data={"result": "r"},
        )


@pytest.mark.long
async def test_end_that_was_told_is_not_told_again(settings: Settings) -> None:
    """A process killed after its run's last event leaves a lease and nothing to do."""
    async with _site(settings) as site:
        await _end_and_be_killed(site, site.service.parts.events)
        await site.sweep_all()

        await _assert_ended(site, "run.completed")


@pytest.mark.long
@pytest.mark.power
async def test_log_that_takes_an_end_twice_is_caught(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that knows events by random ids only tells users twice."""
    monkeypatch.setattr(events, "_ENDS", frozenset())
    async with _site(settings) as site:
        await _end_and_be_killed(site, site.service.parts.events)
        await site.sweep_all()
        monkeypatch.undo()

        with pytest.raises(AssertionError, match=r"'run.completed', 'run.completed'"):
            await _assert_ended(site, "run.completed")


async def test_living_process_is_not_swept(settings: Settings) -> None:
    """A run whose process renews its lease is claimed by nobody."""
    async with running(settings) as service:
        key = f"leases of {uuid4()}"
        leases = RunLeases(service.parts.redis, lease_s=LEASE_S, key=key)
        await leases.hold("ada", "r")
        for _ in range(8):
            await leases.renew()
            await asyncio.sleep(LEASE_S / 8)
            assert await leases.claim() == []
        await leases.give_back("ada", "r")
