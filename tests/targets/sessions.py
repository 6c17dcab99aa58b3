"""Session factories of a service: a sound one, and three that many services have had."""

import os
from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

_ENGINES: dict[str, AsyncEngine] = {}
_SHARED: list[AsyncSession] = []


def engine(level: str = "") -> AsyncEngine:
    """Return the engine of a level on the database of the tests."""
    if level not in _ENGINES:
        url = os.environ["MATRIX_DATABASE_URL"]
        options: dict[str, Any] = {"isolation_level": level} if level else {}
        if os.environ.get("MATRIX_UNPOOLED"):
            options["poolclass"] = NullPool
        _ENGINES[level] = create_async_engine(
            url.replace("postgresql://", "postgresql+asyncpg://"), **options
        )
    return _ENGINES[level]


async def dispose() -> None:
    """Close what the factories opened, in the loop that used it."""
    for session in _SHARED:
        await session.close()
    for one in _ENGINES.values():
        await one.dispose()
    _SHARED.clear()
    _ENGINES.clear()


def read_committed() -> AsyncSession:
    """Return a session at the level that Postgres has by itself."""
    return AsyncSession(engine())


async def serializable() -> AsyncIterator[AsyncSession]:
    """Yield a session as a dependency of FastAPI does."""
    async with AsyncSession(engine("SERIALIZABLE")) as session:
        yield session


async def repeatable_read() -> AsyncSession:
    """Return a session that takes an await to make."""
    return AsyncSession(engine("REPEATABLE READ"))


def autocommit() -> AsyncSession:
    """Return a session whose statements commit by themselves."""
    return AsyncSession(engine("AUTOCOMMIT"))


def shared() -> AsyncSession:
    """Return the one session of the whole process."""
    if not _SHARED:
        _SHARED.append(AsyncSession(engine()))
    return _SHARED[0]
