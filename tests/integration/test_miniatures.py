"""The stand-ins that the explored suites work on keep the contract of the real thing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import asyncpg
import pytest

from app.settings import Settings
from tests.unit.app.fakes.postgres import MemoryPostgres

pytestmark = [pytest.mark.integration]

Connect = Callable[[Settings], AbstractAsyncContextManager[Any]]
SET_USER = "SELECT set_config('app.user_id', $1, true)"
WHOSE = "SELECT current_setting('app.user_id', true)"


@contextlib.asynccontextmanager
async def _in_memory(_: Settings) -> AsyncIterator[Any]:
    yield await MemoryPostgres().connect()


@contextlib.asynccontextmanager
async def _real(settings: Settings) -> AsyncIterator[Any]:
    url = settings.service_database_url.replace("postgresql+asyncpg", "postgresql")
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


both = pytest.mark.parametrize(
    "connect", [_in_memory, _real], ids=["in memory", "real"]
)


async def _ask(connection: Any, query: str, *arguments: str) -> str:  # noqa: ANN401  # one of two drivers
    statement = await connection.prepare(query)
    ((value,),) = await statement.fetch(*arguments)
    return str(value or "")


@both
@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_user_ends_with_the_transaction(
    connect: Connect, settings: Settings, end: str
) -> None:
    """What was set in a transaction is seen in it, and not in the next one."""
    async with connect(settings) as connection:
        first = connection.transaction()
        await first.start()
        await _ask(connection, SET_USER, "ada")
        during = await _ask(connection, WHOSE)
        await getattr(first, end)()

        second = connection.transaction()
        await second.start()
        after = await _ask(connection, WHOSE)
        await second.rollback()

    assert (during, after) == ("ada", "")


@both
async def test_connection_does_one_thing_at_a_time(
    connect: Connect, settings: Settings
) -> None:
    """A second command while one is under way is refused by the driver."""
    async with connect(settings) as connection:
        first, second = await asyncio.gather(
            _ask(connection, WHOSE), _ask(connection, WHOSE), return_exceptions=True
        )

    assert first == ""
    assert isinstance(second, asyncpg.InterfaceError)
    assert "another operation is in progress" in str(second)


@both
async def test_closed_connection_refuses_work(
    connect: Connect, settings: Settings
) -> None:
    """A connection that was hung up says so and does nothing more."""
    async with connect(settings) as connection:
        connection.terminate()

        assert connection.is_closed()
        with pytest.raises(asyncpg.InterfaceError, match="is closed"):
            await _ask(connection, WHOSE)
        await connection.close()


@both
async def test_cancelled_commit_has_been_sent(
    connect: Connect, settings: Settings
) -> None:
    """Who is cancelled while it waits for COMMIT has sent it: the transaction is over."""
    async with connect(settings) as connection:
        transaction = connection.transaction()
        await transaction.start()
        await _ask(connection, SET_USER, "ada")
        committing = asyncio.create_task(transaction.commit())
        await asyncio.sleep(0)
        committing.cancel()
        await asyncio.gather(committing, return_exceptions=True)

        assert await _ask(connection, WHOSE) == ""
