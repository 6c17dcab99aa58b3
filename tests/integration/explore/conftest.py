"""A probe of Postgres for every module here, and none of their tables left."""

import asyncio
from collections.abc import Iterator

import asyncpg
import pytest

from test_framework.clients.blocked import PostgresProbe


@pytest.fixture(scope="session")
def probe(database_url: str) -> Iterator[PostgresProbe]:
    """Tells who waits for whom."""

    async def drop() -> None:
        connection = await asyncpg.connect(database_url)
        try:
            await connection.execute("DROP TABLE IF EXISTS gate_seats, gate_visits")
        finally:
            await connection.close()

    with PostgresProbe(database_url) as made:
        yield made
    asyncio.run(drop())
