"""Servers that were started here restart in place, and keep what they acknowledged."""

import os
from collections.abc import Iterator
from dataclasses import replace

import asyncpg
import psutil
import pytest
import redis.asyncio

from test_framework.core import TargetError, UsageError
from test_framework.services import Services, running_services

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def started() -> Iterator[Services]:
    """Both services, started here and for these tests alone."""
    given = ("DATABASE_URL", "REDIS_URL")
    kept = {k: v for k, v in os.environ.items() if k not in given}
    with running_services(environ=kept) as running:
        yield running


async def test_restarted_postgres_has_every_acknowledged_row(
    started: Services,
) -> None:
    """It is another process on the old address, and a commit just before is there."""
    url, before = started.database_url, started.pids["postgres"]
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE kept (number int)")
    await connection.executemany(
        "INSERT INTO kept VALUES ($1)", [(number,) for number in range(500)]
    )

    started.restart("postgres")

    assert not psutil.pid_exists(before)
    assert started.pids["postgres"] != before
    connection.terminate()
    connection = await asyncpg.connect(url)
    assert await connection.fetchval("SELECT count(*) FROM kept") == 500
    await connection.close()
    started.require_alive()


@pytest.mark.parametrize("keep", [True, False])
async def test_restarted_redis_keeps_what_it_is_told_to(
    started: Services,
    keep: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    """With its data or empty, on the old address and password."""
    assert started.redis_url is not None
    before = started.pids["redis"]
    async with redis.asyncio.from_url(started.redis_url) as client:
        await client.set("name", "value")

    started.restart("redis", keep=keep)

    assert started.pids["redis"] != before
    async with redis.asyncio.from_url(started.redis_url) as client:
        assert await client.get("name") == (b"value" if keep else None)
    started.require_alive()


def test_server_that_died_comes_back(started: Services) -> None:
    """A restart is the cure of a crash, which is not told afterwards."""
    process = psutil.Process(started.pids["redis"])
    process.kill()

    started.restart("redis")

    started.require_alive()


def test_what_was_not_started_here_is_not_restarted(started: Services) -> None:
    """A given server belongs to somebody else."""
    given = replace(started, pids={})

    with pytest.raises(UsageError, match="Leave DATABASE_URL unset"):
        given.restart("postgres")


def test_postgres_cannot_lose_its_data(started: Services) -> None:
    """Nobody asks Postgres to forget what it acknowledged."""
    with pytest.raises(TargetError, match="keeps what it holds"):
        started.restart("postgres", keep=False)
