"""Sessions under every order: whoever is cancelled, and however often, none is left.

The pool and the sessions are SQLAlchemy's and the service's own, over a Postgres in
memory that speaks like its driver.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Self

import asyncpg
import pytest
import sqlalchemy.exc
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.storage import SessionFactory, open_engine
from test_framework.explore import Report, Scenario, explore, external
from tests.unit.app.exploring import USERS_ALONE, assert_found, left
from tests.unit.app.fakes.postgres import MemoryPostgres

_WHOSE = text("SELECT current_setting('app.user_id', true)")


class _Service:
    """A pool of one connection and the sessions over it."""

    def __init__(self, sessions: type[SessionFactory], *, is_warm: bool) -> None:
        self._is_warm = is_warm
        self.postgres = MemoryPostgres()
        asyncpg.connect = self.postgres.connect
        self.engine = open_engine(
            "postgresql+asyncpg://server/database", pool_size=1, pool_timeout_s=30
        )
        self._sessions = sessions(self.engine)

    async def __aenter__(self) -> Self:
        if self._is_warm:
            await self.work("first")
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            return
        # Waits until those who have left give the only connection back.
        await self.work("later")
        assert self.engine.pool.checkedout() == 0, "a connection is left in use"  # type: ignore[attr-defined]  # of a queue pool
        connections = self.postgres.connections
        assert not any(c.is_in_transaction for c in connections), "transaction left"
        assert len(self.postgres.open_connections) == 1, "a connection is left open"

    async def work(self, user_id: str) -> None:
        """Do what a request does; too many requests are told to come again."""
        with contextlib.suppress(sqlalchemy.exc.TimeoutError):
            async with self._sessions.for_user(user_id) as session:
                await external("something else than the database")
                assert await session.scalar(_WHOSE) == user_id, "saw another user"


@pytest.fixture(autouse=True)
def _driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the driver back in the end: each run connects to a Postgres of its own."""
    monkeypatch.setattr("asyncpg.connect", asyncpg.connect)


def _explored(
    sessions: type[SessionFactory] = SessionFactory,
    *,
    users: int = 1,
    is_warm: bool = True,
    is_left_twice: bool = True,
) -> Report:
    async def work(service: _Service, user: int) -> None:
        working = service.work(f"user-{user}")
        await (left(working, times=2) if is_left_twice else working)

    return explore(
        Scenario(lambda: _Service(sessions, is_warm=is_warm), work, users=users),
        fidelity="await",
        cancel="" if is_left_twice else USERS_ALONE,
        schedules=200,
        budget="90s",
        seed=1,
    )


@pytest.mark.slow
def test_cancelled_sessions_give_their_connection_back() -> None:
    """Two users, one cancelled at any await: neither sees the other, none is left."""
    report = _explored(users=2, is_left_twice=False)

    assert report.witness is None, report.text()


@pytest.mark.slow
def test_sessions_cancelled_twice_give_their_connection_back() -> None:
    """A second cancellation, whenever it comes, leaves no connection in use."""
    report = _explored()

    assert report.witness is None, report.text()


class _TwoStepSessions(SessionFactory):
    """Rolls back and then closes, each shielded by itself."""

    @contextlib.asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncSession]:
        session = self._maker()
        try:
            yield session
            await session.commit()
        except BaseException:
            await asyncio.shield(session.rollback())
            raise
        finally:
            await asyncio.shield(session.close())


@pytest.mark.power
def test_closing_in_two_steps_is_found() -> None:
    """Cancelled twice, it closes while it still rolls back, and leaves the connection."""
    assert_found(_explored(_TwoStepSessions), "exception", "IllegalStateChangeError")


@pytest.mark.slow
def test_cancelled_connecting_leaves_no_connection() -> None:
    """A user who is cancelled twice while the pool connects leaves none open."""
    report = _explored(is_warm=False)

    assert report.witness is None, report.text()


async def _connect_in_one_wait(**options: Any) -> asyncpg.Connection:  # noqa: ANN401  # the driver's own
    connecting = asyncio.create_task(asyncpg.connect(**options))
    try:
        return await asyncio.shield(connecting)
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):
            (await connecting).terminate()
        raise


@pytest.mark.power
def test_hanging_up_in_the_cancelled_task_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cancelled again while it waits to hang up, it leaves the connection open."""
    monkeypatch.setattr("app.storage.engine._connect", _connect_in_one_wait)

    assert_found(_explored(is_warm=False), "assertion", "a connection is left open")
