"""Patience: what is away is waited for, what refuses is not asked again."""

from collections.abc import Awaitable, Callable

import asyncpg
import pytest
import redis.exceptions
import sqlalchemy.exc

from app.agents.patience import patiently

AWAY = [
    redis.exceptions.ConnectionError("gone"),
    redis.exceptions.TimeoutError("late"),
    ConnectionRefusedError(),
    asyncpg.CannotConnectNowError("the database system is starting up"),
    sqlalchemy.exc.TimeoutError("no connection"),
    sqlalchemy.exc.DBAPIError("UPDATE", {}, asyncpg.DiskFullError("no space")),
    sqlalchemy.exc.DBAPIError("COMMIT", {}, OSError(), connection_invalidated=True),
]
REFUSED = [
    redis.exceptions.ResponseError("unknown command"),
    sqlalchemy.exc.IntegrityError("INSERT", {}, asyncpg.UniqueViolationError("id")),
    asyncpg.InsufficientPrivilegeError("row-level security"),
    KeyError("run"),
]


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.agents.patience._FIRST_PAUSE_S", 0.0)


def failing(*errors: Exception) -> tuple[list[Exception], Callable[[], Awaitable[str]]]:
    """Return what raises each error once, then answers; and what it has left."""
    left = list(errors)

    async def do() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return left, do


@pytest.mark.parametrize("error", AWAY)
async def test_what_is_away_is_waited_for(error: Exception) -> None:
    """Whatever way a server is missed in, it is asked until it is back."""
    left, do = failing(error, error)

    assert await patiently(do, is_ending=lambda: False) == "done"
    assert left == []


@pytest.mark.parametrize("error", REFUSED)
async def test_refusal_is_final(error: Exception) -> None:
    """What was understood and refused is not asked again."""
    left, do = failing(error, error)

    with pytest.raises(type(error)):
        await patiently(do, is_ending=lambda: False)

    assert left == [error]


@pytest.mark.parametrize(("is_stopping", "within_s"), [(True, 60.0), (False, 0.0)])
async def test_patience_ends_with_the_service_and_in_time(
    is_stopping: bool,  # noqa: FBT001  # a parameter
    within_s: float,
) -> None:
    """A service that stops waits for no server, and nobody waits for ever."""
    left, do = failing(AWAY[0], AWAY[0])

    with pytest.raises(redis.exceptions.ConnectionError):
        await patiently(do, is_ending=lambda: is_stopping, within_s=within_s)

    assert len(left) == 1
