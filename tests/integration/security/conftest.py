"""A database of its own for tests that tamper with what all users share."""

import asyncio
import contextlib
from collections.abc import Iterator
from uuid import uuid4

import asyncpg
import pytest
from pydantic import SecretStr
from sqlalchemy import make_url

from app.settings import Settings
from app.storage.migrate import migrate


@pytest.fixture(scope="session")
def settings(settings: Settings) -> Settings:
    """Return settings under which a busy machine makes users wait, not fail."""
    return settings.model_copy(
        update={"database_pool_size": 20, "database_pool_timeout_s": 100.0}
    )


@pytest.fixture
def own_settings(settings: Settings) -> Iterator[Settings]:
    """Return settings of a service whose database nobody else uses."""
    with own_database(settings) as chosen:
        yield chosen


@contextlib.contextmanager
def own_database(settings: Settings) -> Iterator[Settings]:
    """Make a database, and drop it at the end."""
    name = f"own_{uuid4().hex}"
    shared = settings.database_url.get_secret_value()
    own = make_url(shared).set(database=name).render_as_string(hide_password=False)
    chosen = settings.model_copy(update={"database_url": SecretStr(own)})

    async def create() -> None:
        await _execute(shared, f"CREATE DATABASE {name}")
        await migrate(chosen.owner_database_url)

    asyncio.run(create())
    yield chosen
    asyncio.run(_execute(shared, f"DROP DATABASE {name} WITH (FORCE)"))


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
