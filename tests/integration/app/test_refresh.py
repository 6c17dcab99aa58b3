"""Refresh tokens on a real database: one winner, and replay ends the family."""

import asyncio

import pytest
from sqlalchemy import text

from app.settings import Settings
from tests.integration.app.service import PASSWORD, Member, Service, running

pytestmark = [pytest.mark.integration, pytest.mark.slow]


async def _refresh(member: Member, token: str) -> tuple[int, str]:
    answer = await member.http.post("/auth/refresh", json={"refresh_token": token})
    return answer.status_code, answer.json().get("refresh_token", "")


async def _race(service: Service, *, contenders: int) -> None:
    async with service.member() as ada:
        answers = await asyncio.gather(
            *(_refresh(ada, ada.refresh_token) for _ in range(contenders))
        )
        statuses = sorted(status for status, _ in answers)
        assert statuses == [200] + [401] * (contenders - 1)
        # The losers replayed a spent token, so the winner's successor is dead too.
        (successor,) = (token for status, token in answers if status == 200)
        assert (await _refresh(ada, successor))[0] == 401


async def test_refresh_race_has_one_winner(settings: Settings) -> None:
    """Of twenty who spend one token at one time exactly one gets a new pair."""
    async with running(settings) as service:
        await _race(service, contenders=20)


async def test_replays_of_one_family_do_not_deadlock(settings: Settings) -> None:
    """Replays of several tokens of one login at one time are all refused in order.

    Without the lock of the family, 69 to 83 of the 320 answers were deadlocks (500).
    """
    async with running(settings) as service, service.member() as ada:
        login = {"username": ada.username, "password": PASSWORD}
        statuses: list[int] = []
        for _ in range(20):
            pair = (await ada.http.post("/auth/login", json=login)).json()
            tokens = [pair["refresh_token"]]
            for _ in range(3):
                tokens.append((await _refresh(ada, tokens[-1]))[1])
            answers = await asyncio.gather(
                *(_refresh(ada, token) for token in tokens * 4)
            )
            statuses += [status for status, _ in answers]

    assert set(statuses) <= {200, 401}


async def test_refresh_chain_goes_on(settings: Settings) -> None:
    """Each token works once and gives the next."""
    async with running(settings) as service, service.member() as ada:
        token = ada.refresh_token
        for _ in range(3):
            status, token = await _refresh(ada, token)
            assert status == 200


async def test_replay_ends_only_its_family(settings: Settings) -> None:
    """A replay ends the login it came from; other logins and users go on."""
    async with (
        running(settings) as service,
        service.member() as bob,
        service.member() as ada,
    ):
        login = {"username": ada.username, "password": PASSWORD}
        other = (await ada.http.post("/auth/login", json=login)).json()
        _, successor = await _refresh(ada, ada.refresh_token)
        assert (await _refresh(ada, ada.refresh_token))[0] == 401

        assert (await _refresh(ada, successor))[0] == 401
        assert (await _refresh(ada, other["refresh_token"]))[0] == 200
        assert (await _refresh(bob, bob.refresh_token))[0] == 200


async def test_expired_token_is_refused_and_forgotten(settings: Settings) -> None:
    """A token past its time does not refresh, and the next login deletes it."""
    short = settings.model_copy(update={"refresh_token_s": 1})
    async with running(short) as service, service.member() as ada:
        await asyncio.sleep(1.05)
        assert (await _refresh(ada, ada.refresh_token))[0] == 401

        login = {"username": ada.username, "password": PASSWORD}
        assert (await ada.http.post("/auth/login", json=login)).status_code == 200

        async with service.context(ada.user_id) as context:
            kept = await context.database.scalar(
                text("SELECT count(*) FROM refresh_tokens")
            )
    assert kept == 1


async def test_tokens_are_not_kept_in_clear(settings: Settings) -> None:
    """Neither the password nor the refresh token stands in the database."""
    async with (
        running(settings) as service,
        service.member() as ada,
        service.context(ada.user_id) as context,
    ):
        rows = await context.database.scalars(
            text(
                "SELECT to_jsonb(u)::text FROM users u UNION ALL"
                " SELECT to_jsonb(t)::text FROM refresh_tokens t"
            )
        )
        stored = list(rows)

    clear = (PASSWORD, ada.refresh_token, ada.refresh_token.encode().hex())
    assert len(stored) == 2
    assert not [row for row in stored for secret in clear if secret in row]


async def test_logout_ends_refresh(settings: Settings) -> None:
    """After a logout the session's refresh token is dead."""
    async with running(settings) as service, service.member() as ada:
        assert (await ada.http.post("/auth/logout")).status_code == 204

        assert (await _refresh(ada, ada.refresh_token))[0] == 401


async def test_concurrent_registration_has_one_winner(settings: Settings) -> None:
    """Of ten who register one name at one time exactly one succeeds."""
    async with running(settings) as service, service.member() as ada:
        body = {"username": f"{ada.username}-twin", "password": PASSWORD}
        answers = await asyncio.gather(
            *(ada.http.post("/auth/register", json=body) for _ in range(10))
        )

    assert sorted(a.status_code for a in answers) == [201] + [409] * 9
