"""The stand-ins that the explored suites work on keep the contract of the real thing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import asyncpg
import pytest
from sqlalchemy import Update, func, select, update

from app.security import hash_refresh_token
from app.settings import Settings
from app.storage import RefreshTokens, Rotation, SessionFactory
from app.storage.tables import refresh_tokens
from tests.integration.app.service import running
from tests.unit.app.fakes.postgres import MemoryPostgres
from tests.unit.app.fakes.tokens import MemoryTokens

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


Login = Callable[
    [Settings], AbstractAsyncContextManager[tuple[SessionFactory, RefreshTokens, str]]
]


@contextlib.asynccontextmanager
async def _tokens_in_memory(
    _: Settings,
) -> AsyncIterator[tuple[SessionFactory, RefreshTokens, str]]:
    sessions = MemoryTokens()
    sessions.add("token", "login", is_spent=False)
    yield sessions, RefreshTokens(lifetime_s=60), "token"


@contextlib.asynccontextmanager
async def _real_tokens(
    settings: Settings,
) -> AsyncIterator[tuple[SessionFactory, RefreshTokens, str]]:
    async with running(settings) as service, service.member() as ada:
        parts = service.parts
        yield parts.sessions, parts.refresh_tokens, ada.refresh_token


both_tables = pytest.mark.parametrize(
    "login", [_tokens_in_memory, _real_tokens], ids=["in memory", "real"]
)


def _spend(token: str) -> Update:
    columns = refresh_tokens.c
    mine = columns.token_hash == hash_refresh_token(token)
    return (
        update(refresh_tokens)
        .where(mine, columns.spent_at.is_(None))
        .values(spent_at=func.now())
        .returning(columns.user_id)
    )


async def _is_waiting(task: "asyncio.Task[Any]") -> bool:
    """Tell whether a task goes on waiting, for long enough on either side."""
    await asyncio.wait({task}, timeout=0.2)
    return not task.done()


@both_tables
async def test_update_waits_and_looks_again(login: Login, settings: Settings) -> None:
    """An UPDATE of a row that another one changes waits, and then sees the change."""
    async with login(settings) as (sessions, _, token), sessions.for_auth() as second:
        async with sessions.for_auth() as first:
            won = (await first.execute(_spend(token))).first()
            spending = asyncio.create_task(second.execute(_spend(token)))
            waited = await _is_waiting(spending)

        assert won is not None
        assert waited
        assert (await spending).first() is None


@both_tables
async def test_update_that_lost_keeps_the_row(login: Login, settings: Settings) -> None:
    """A row is locked until the transaction ends, also when it did not match any more."""
    async with login(settings) as (sessions, _, token), sessions.for_auth() as third:
        async with sessions.for_auth() as second:
            async with sessions.for_auth() as first:
                await first.execute(_spend(token))
                losing = asyncio.create_task(second.execute(_spend(token)))
                await _is_waiting(losing)
            await losing
            again = update(refresh_tokens).values(spent_at=func.now())
            mine = refresh_tokens.c.token_hash == hash_refresh_token(token)
            updating = asyncio.create_task(third.execute(again.where(mine)))
            waited = await _is_waiting(updating)

        await updating
        assert waited


@both_tables
async def test_rows_are_read_as_committed(login: Login, settings: Settings) -> None:
    """What a transaction has written is seen by itself, and by others once committed."""
    spent = refresh_tokens.c.spent_at.is_not(None)
    async with login(settings) as (sessions, _, token), sessions.for_auth() as other:
        query = select(spent).where(
            refresh_tokens.c.token_hash == hash_refresh_token(token)
        )
        async with sessions.for_auth() as own:
            await own.execute(_spend(token))
            seen = [await own.scalar(query), await other.scalar(query)]
        seen.append(await other.scalar(query))

    assert seen == [True, False, True]


@both_tables
async def test_login_is_locked_to_the_end(login: Login, settings: Settings) -> None:
    """Of two who rotate a login's token the second waits for the first to commit."""
    async with (
        login(settings) as (sessions, tokens, token),
        sessions.for_auth() as second,
    ):
        async with sessions.for_auth() as first:
            winner = await tokens.rotate(first, token)
            rotating = asyncio.create_task(tokens.rotate(second, token))
            waited = await _is_waiting(rotating)
        loser = await rotating

    assert waited
    assert winner.token is not None
    # A token that is spent twice ends its login.
    assert loser == Rotation(winner.user_id, winner.family_id, has_ended=True)
