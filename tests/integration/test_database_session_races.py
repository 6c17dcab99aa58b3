"""Database sessions: a hundred allocated at one time, each seeing its own user's rows.

Real Postgres, real logins, the service's own pool and session factory. Row-level
security is asked with statements that name no user at all. Beside each sound test
stands a twin with the mistake, which the same checking function finds.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from app.settings import Settings
from app.storage import SessionFactory, open_engine
from tests.integration.app.service import Member, Service, running

pytestmark = [pytest.mark.integration, pytest.mark.slow]

USERS = 100
FEW = 16
"""Users where a twin is to be caught: two would do."""
_USER = text("SELECT pg_backend_pid(), current_setting('app.user_id', true)")
_OWNERS = text("SELECT DISTINCT user_id::text FROM documents")


@dataclass(frozen=True)
class Allocation:
    """What one session showed its user.

    Attributes:
        user_id: Whom it was opened for.
        pid: The Postgres process behind it.
        users: The transaction's user at the start and at the end of the work.
        owners: Whose documents a statement without any condition returned.
    """

    user_id: str
    pid: int
    users: tuple[str, str]
    owners: frozenset[str]


@contextlib.asynccontextmanager
async def enrolled(
    settings: Settings, *, pool_size: int, users: int = USERS
) -> AsyncIterator[tuple[Service, list[Member]]]:
    """Run the service with logged-in users who own a document each."""
    sized = settings.model_copy(update={"database_pool_size": pool_size})
    async with contextlib.AsyncExitStack() as stack:
        service = await stack.enter_async_context(running(sized))

        async def enrol() -> Member:
            member = await stack.enter_async_context(service.member())
            await member.new("/documents", title="own", body=member.username)
            return member

        yield service, list(await asyncio.gather(*(enrol() for _ in range(users))))


async def allocate_all(
    sessions: SessionFactory, members: Iterable[Member], *, at_once: int
) -> list[Allocation]:
    """Open a session for each user; the first ``at_once`` wait for one another."""
    is_full = asyncio.Event()
    opened = 0

    async def allocate(member: Member) -> Allocation:
        nonlocal opened
        async with sessions.for_user(member.user_id) as session:
            pid, at_start = (await session.execute(_USER)).one()
            opened += 1
            if opened >= at_once:
                is_full.set()
            await is_full.wait()
            owners = frozenset((await session.execute(_OWNERS)).scalars())
            _, at_end = (await session.execute(_USER)).one()
        return Allocation(member.user_id, pid, (at_start, at_end), owners)

    return list(await asyncio.gather(*map(allocate, members)))


def assert_sessions_are_own(allocations: Iterable[Allocation]) -> None:
    """Check that each session was its user's throughout and saw only own rows."""
    for one in allocations:
        own = (one.user_id, one.user_id)
        assert one.users == own, f"{one.user_id} was given the session of {one.users}"
        foreign = one.owners - {one.user_id}
        assert not foreign, f"{one.user_id} sees rows of {len(foreign)} others"
        assert one.owners, f"{one.user_id} does not see its own row"


async def assert_pool_is_clean(engine: AsyncEngine, *, size: int) -> None:
    """Check that every connection is back and none remembers a user."""
    pool: Any = engine.pool  # every queue pool counts what is out
    assert pool.checkedout() == 0, f"{pool.checkedout()} connections are not back"
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(size):
            connection = await stack.enter_async_context(engine.connect())
            pid, user = (await connection.execute(_USER)).one()
            assert not user, f"connection {pid} still works for {user}"


@pytest.mark.parametrize("pool_size", [USERS, 8])
async def test_concurrent_sessions_are_own(settings: Settings, pool_size: int) -> None:
    """A hundred sessions, open at one time or queueing for eight, are their users'."""
    async with enrolled(settings, pool_size=pool_size) as (service, members):
        allocations = await allocate_all(
            service.parts.sessions, members, at_once=pool_size
        )

        assert len(allocations) == USERS
        assert len({one.pid for one in allocations}) == pool_size
        assert_sessions_are_own(allocations)
        await assert_pool_is_clean(service.parts.engine, size=pool_size)


class _LastUserSessions(SessionFactory):
    """Keeps the user of the session to open in itself across an await."""

    _user_id = ""

    @contextlib.asynccontextmanager
    async def for_user(self, user_id: str) -> AsyncIterator[AsyncSession]:
        self._user_id = user_id
        await asyncio.sleep(0)
        async with super().for_user(self._user_id) as session:
            yield session


class _SharedSessions(SessionFactory):
    """Opens a session when there is none and gives it to whoever comes meanwhile."""

    _session: AsyncSession | None = None

    @contextlib.asynccontextmanager
    async def for_user(self, user_id: str) -> AsyncIterator[AsyncSession]:
        if self._session is not None:
            yield self._session
            return
        async with super().for_user(user_id) as self._session:
            yield self._session
        self._session = None


class _SessionWideSessions(SessionFactory):
    """Sets the user for the connection's whole session: ``is_local => false``."""

    async def set_user(self, session: AsyncSession, user_id: str) -> None:
        await session.execute(
            text("SELECT set_config('app.user_id', :user_id, false)"),
            {"user_id": user_id},
        )


@pytest.mark.power
async def test_wrong_users_session_is_caught(settings: Settings) -> None:
    """Sessions opened for the last user that came are seen to be another's."""
    async with enrolled(settings, pool_size=8, users=FEW) as (service, members):
        twin = _LastUserSessions(service.parts.engine)
        allocations = await allocate_all(twin, members, at_once=8)

        with pytest.raises(AssertionError, match="was given the session of"):
            assert_sessions_are_own(allocations)


@pytest.mark.power
async def test_shared_session_is_caught(settings: Settings) -> None:
    """A session that a second user is handed while the first works is seen."""
    async with enrolled(settings, pool_size=8, users=FEW) as (service, members):
        twin = _SharedSessions(service.parts.engine)
        ada, bob = members[:2]
        async with twin.for_user(ada.user_id):
            allocations = await allocate_all(twin, [bob], at_once=1)

        with pytest.raises(AssertionError, match="was given the session of"):
            assert_sessions_are_own(allocations)


@pytest.mark.power
async def test_setting_that_survives_is_caught(settings: Settings) -> None:
    """A user set for the session instead of the transaction is found in the pool."""
    async with enrolled(settings, pool_size=8, users=FEW) as (service, members):
        twin = _SessionWideSessions(service.parts.engine)
        assert_sessions_are_own(await allocate_all(twin, members, at_once=8))

        with pytest.raises(AssertionError, match="still works for"):
            await assert_pool_is_clean(service.parts.engine, size=8)


@pytest.mark.power
async def test_role_above_policies_is_caught(settings: Settings) -> None:
    """A pool whose role row-level security does not bind is seen to show all rows."""
    async with enrolled(settings, pool_size=8, users=FEW) as (_, members):
        owner = open_engine(
            settings.owner_database_url, pool_size=8, pool_timeout_s=10, role="none"
        )
        try:
            allocations = await allocate_all(SessionFactory(owner), members, at_once=8)
        finally:
            await owner.dispose()

        with pytest.raises(AssertionError, match="sees rows of"):
            assert_sessions_are_own(allocations)


async def _cancel_allocations(sessions: SessionFactory, members: list[Member]) -> int:
    """Cancel a session of each user, some turns of the loop after the one before.

    The first is cancelled between two statements, whatever the machine's speed: there
    the driver has nothing to clear up, so only the session can give it back.
    """
    is_between = asyncio.Event()

    async def hold(member: Member) -> None:
        async with sessions.for_user(member.user_id) as session:
            await session.execute(_USER)
            is_between.set()
            await asyncio.Event().wait()

    async def work(member: Member) -> None:
        async with sessions.for_user(member.user_id) as session:
            for _ in range(5):
                await session.execute(text("SELECT pg_sleep(0.002)"))
                await asyncio.sleep(0.002)

    first, *others = members
    tasks = [asyncio.create_task(hold(first))]
    async with asyncio.timeout(30):
        await is_between.wait()
    tasks += [asyncio.create_task(work(member)) for member in others]
    for number, task in enumerate(tasks):
        # Eight have a connection at a time; the waits spread over their work.
        await asyncio.sleep(0.002 if number % 3 == 0 else 0)
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return sum(task.cancelled() for task in tasks)


async def test_cancelled_sessions_come_back(settings: Settings) -> None:
    """After a hundred cancelled sessions every connection is back and right."""
    async with enrolled(settings, pool_size=8) as (service, members):
        cancelled = await _cancel_allocations(service.parts.sessions, members)

        assert cancelled > USERS // 2
        await assert_pool_is_clean(service.parts.engine, size=8)
        assert_sessions_are_own(
            await allocate_all(service.parts.sessions, members, at_once=8)
        )


class _UnreturnedSessions(SessionFactory):
    """Ends a session only when its work came to its end."""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__(engine)
        self.opened: list[AsyncSession] = []

    @contextlib.asynccontextmanager
    async def for_user(self, user_id: str) -> AsyncIterator[AsyncSession]:
        session = self._maker()
        self.opened.append(session)
        await self.set_user(session, user_id)
        yield session
        await session.commit()
        await session.close()


@pytest.mark.power
async def test_sessions_that_stay_out_are_caught(settings: Settings) -> None:
    """Sessions that a cancelled request keeps are seen to be missing in the pool."""
    async with enrolled(settings, pool_size=8, users=FEW) as (service, members):
        twin = _UnreturnedSessions(service.parts.engine)
        await _cancel_allocations(twin, members)

        try:
            with pytest.raises(AssertionError, match="are not back"):
                await assert_pool_is_clean(service.parts.engine, size=8)
        finally:
            for session in twin.opened:
                await session.invalidate()
                await session.close()


@contextlib.asynccontextmanager
async def _observer(settings: Settings) -> AsyncIterator[Any]:
    engine = create_async_engine(settings.owner_database_url, poolclass=NullPool)
    async with engine.connect() as connection:
        yield await connection.execution_options(isolation_level="AUTOCOMMIT")


async def count_deadlocks(settings: Settings) -> int:
    """Return how many deadlocks Postgres has broken in this database.

    A Postgres process reports when it ends, so close the pool first.
    """
    async with _observer(settings) as connection:
        return int(
            await connection.scalar(
                text(
                    "SELECT deadlocks FROM pg_stat_database"
                    " WHERE datname = current_database()"
                )
            )
        )


async def assert_no_deadlock_since(before: int, settings: Settings) -> None:
    """Check that Postgres broke no deadlock meanwhile."""
    broken = await count_deadlocks(settings) - before
    assert broken == 0, f"Postgres broke {broken} deadlocks"


async def test_conflicting_requests_do_not_deadlock(settings: Settings) -> None:
    """Changes, additions and deletions of each user's one thread never deadlock."""
    before = await count_deadlocks(settings)
    async with enrolled(settings, pool_size=20) as (_, members):

        async def conflict(member: Member) -> list[int]:
            path = f"/threads/{await member.new('/threads', title='t')}"
            answers = await asyncio.gather(
                member.http.patch(path, json={"title": "new"}),
                member.http.post(f"{path}/messages", json={"content": "m"}),
                member.http.post(f"{path}/messages", json={"content": "m"}),
                member.http.post(f"{path}/runs", json={"goal": "g"}),
                member.http.delete(path),
                member.http.patch(path, json={"title": "newer"}),
            )
            return [answer.status_code for answer in answers]

        statuses = await asyncio.gather(*map(conflict, members))

    await assert_no_deadlock_since(before, settings)
    assert [own[4] for own in statuses] == [204] * USERS
    # What comes after the deletion finds no thread; nothing ends in between.
    assert {status for own in statuses for status in own} <= {200, 201, 202, 204, 404}


@pytest.mark.power
@pytest.mark.detect  # which would see the deadlock as well
async def test_deadlock_is_caught(settings: Settings) -> None:
    """Two transactions that lock two things crosswise are seen as a deadlock."""
    before = await count_deadlocks(settings)
    both_have_one = asyncio.Barrier(2)

    async def lock(first: int, second: int) -> None:
        async with _observer(settings) as connection:
            await connection.execute(text("SET deadlock_timeout = '10ms'"))
            await connection.execute(text(f"SELECT pg_advisory_lock({first})"))
            await both_have_one.wait()
            await connection.execute(text(f"SELECT pg_advisory_lock({second})"))

    results = await asyncio.gather(
        lock(70_001, 70_002), lock(70_002, 70_001), return_exceptions=True
    )

    assert sum(isinstance(result, DBAPIError) for result in results) == 1
    with pytest.raises(AssertionError, match="broke 1 deadlock"):
        await assert_no_deadlock_since(before, settings)
