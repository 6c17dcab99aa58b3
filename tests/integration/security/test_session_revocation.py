"""Logins end: after a logout has answered, no worker serves its access tokens.

Two workers on one database and Redis. Devices go on asking both while their users log
out; what was asked after the answer must be refused, and nobody else may notice.
"""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

import httpx
import pytest
from pydantic import SecretStr

from app.api import Parts
from app.cache import connect
from app.realtime import sessions_channel
from app.settings import Settings
from app.storage import RefreshTokens
from tests.integration.app.service import PASSWORD, Service, running
from tests.integration.security.crowd import Visitor, enrol
from tests.integration.security.sessions_twins import Remembering, SignatureOnly

pytestmark = [pytest.mark.integration, pytest.mark.slow]
USERS = 50
PATHS = ("/me", "/documents")
"""One endpoint that works in the caller's transaction, and one that does not."""


@dataclass(frozen=True)
class Asked:
    """One request of a device.

    Attributes:
        at_s: When it was sent (monotonic seconds).
        status: The status of its answer.
    """

    user_id: str
    at_s: float
    status: int


async def leave_while_asking(
    here: Service, there: Service, visitors: list[Visitor], leavers: int
) -> tuple[list[Asked], dict[str, float]]:
    """Let the first ``leavers`` log out here while all ask on both workers.

    Returns:
        All requests, and when each logout had answered (monotonic seconds).
    """
    asked: list[Asked] = []
    left: dict[str, float] = {}
    async with here.http() as near, there.http() as far:

        async def ask(visitor: Visitor, client: httpx.AsyncClient, path: str) -> None:
            at_s = time.monotonic()
            answer = await client.get(path, headers=visitor.header)
            asked.append(Asked(visitor.user_id, at_s, answer.status_code))

        async def visit(visitor: Visitor, *, leaves: bool) -> None:
            await asyncio.gather(
                *(
                    ask(visitor, client, path)
                    for client in (near, far)
                    for path in PATHS
                ),
                *([leave(visitor)] if leaves else []),
            )
            await asyncio.gather(*(ask(visitor, far, path) for path in PATHS))

        async def leave(visitor: Visitor) -> None:
            answer = await near.post("/auth/logout", headers=visitor.header)
            assert answer.status_code == 204, answer.text
            left[visitor.user_id] = time.monotonic()

        await asyncio.gather(
            *(visit(each, leaves=n < leavers) for n, each in enumerate(visitors))
        )
    return asked, left


def served_after(asked: Iterable[Asked], left: dict[str, float]) -> list[Asked]:
    """Return the requests that were served though their login had ended before."""
    return [
        one
        for one in asked
        if one.status != 401 and one.at_s > left.get(one.user_id, float("inf"))
    ]


def refused_while_in(asked: Iterable[Asked], left: dict[str, float]) -> list[Asked]:
    """Return the requests that were refused to users who never left."""
    return [one for one in asked if one.status != 200 and one.user_id not in left]


async def test_logout_ends_access_in_all_workers(settings: Settings) -> None:
    """What is asked after the logout is refused by both workers, and nobody else is."""
    async with running(settings) as here, running(settings) as there:
        visitors = await enrol(here, USERS)

        asked, left = await leave_while_asking(here, there, visitors, USERS // 2)

    assert len(left) == USERS // 2
    assert served_after(asked, left) == []
    assert refused_while_in(asked, left) == []


@pytest.mark.parametrize("twin", [SignatureOnly, Remembering])
async def test_login_that_outlives_its_logout_is_caught(
    settings: Settings, twin: type[RefreshTokens]
) -> None:
    """Twins that look only at the token, or that remember an answer, are found."""

    def sabotage(parts: Parts) -> Parts:
        lifetime_s = settings.refresh_token_s
        return replace(parts, refresh_tokens=twin(lifetime_s=lifetime_s))

    async with running(settings) as here, running(settings, replace=sabotage) as there:
        visitors = await enrol(here, 8)

        asked, left = await leave_while_asking(here, there, visitors, 4)

    assert served_after(asked, left)


async def test_logout_everywhere_ends_other_devices(settings: Settings) -> None:
    """Every device of the user is out, its refresh token too; others stay in."""
    async with running(settings) as service, service.member() as ada:
        credentials = {"username": ada.username, "password": PASSWORD}
        async with service.http() as phone, service.member() as bob:
            pair = (await phone.post("/auth/login", json=credentials)).json()
            phone.headers["authorization"] = f"Bearer {pair['access_token']}"
            assert (await phone.get("/me")).status_code == 200

            await ada.http.post("/auth/logout/everywhere")

            assert (await phone.get("/me")).status_code == 401
            assert (await phone.get("/documents")).status_code == 401
            refresh = {"refresh_token": pair["refresh_token"]}
            answer = await phone.post("/auth/refresh", json=refresh)
            assert answer.status_code == 401
            assert (await bob.http.get("/me")).status_code == 200


async def test_new_password_ends_what_the_old_one_began(settings: Settings) -> None:
    """Whoever knew the old password is out and stays out."""
    async with running(settings) as service, service.member() as ada:
        old = {"username": ada.username, "password": PASSWORD}
        new = {"username": ada.username, "password": "another horse"}
        wrong = {"password": "wrong horse", "new_password": new["password"]}
        change = {"password": PASSWORD, "new_password": new["password"]}

        assert (await ada.http.post("/auth/password", json=wrong)).status_code == 403
        assert (await ada.http.get("/me")).status_code == 200
        assert (await ada.http.post("/auth/password", json=change)).status_code == 204

        assert (await ada.http.get("/me")).status_code == 401
        assert (await ada.http.post("/auth/login", json=old)).status_code == 401
        assert (await ada.http.post("/auth/login", json=new)).status_code == 200


async def test_login_in_flight_does_not_outlive_a_new_password(
    settings: Settings,
) -> None:
    """A login that compared the old password begins no session after the change."""
    compared, changed = asyncio.Event(), asyncio.Event()

    def slow_at_the_second(parts: Parts) -> Parts:
        verify = parts.passwords.verify

        async def verify_and_wait(password: str, password_hash: str | None) -> bool:
            is_right = await verify(password, password_hash)
            compared.set()
            await changed.wait()
            return is_right

        parts.passwords.verify = verify_and_wait  # type: ignore[method-assign]  # the wait is all that differs
        return parts

    async with running(settings) as here, here.member() as ada:
        credentials = {"username": ada.username, "password": PASSWORD}
        change = {"password": PASSWORD, "new_password": "another horse"}
        async with (
            running(settings, replace=slow_at_the_second) as there,
            there.http() as thief,
        ):
            login = asyncio.create_task(thief.post("/auth/login", json=credentials))
            await compared.wait()
            answer = await ada.http.post("/auth/password", json=change)
            changed.set()

            assert answer.status_code == 204
            assert (await login).status_code == 401


async def test_end_of_a_login_is_announced(settings: Settings) -> None:
    """Logout, logout everywhere and a replayed refresh token each tell the workers."""
    async with running(settings) as service:
        ada, bob, eve = await enrol(service, 3)
        url = settings.redis_url.get_secret_value()
        async with (
            connect(url, connections=1, timeout_s=None) as listener,
            listener.pubsub() as told,
            service.http() as http,
        ):
            await told.subscribe(
                *(sessions_channel(v.user_id) for v in (ada, bob, eve))
            )
            await http.post("/auth/logout", headers=ada.header)
            await http.post("/auth/logout/everywhere", headers=bob.header)
            for _ in range(2):
                refresh = {"refresh_token": eve.refresh_token}
                await http.post("/auth/refresh", json=refresh)

            said = {}
            async with asyncio.timeout(10):
                async for message in told.listen():
                    if message["type"] == "message":
                        said[message["channel"].decode()] = message["data"].decode()
                    if len(said) == 3:
                        break

    assert said == {
        sessions_channel(ada.user_id): ada.session_id,
        sessions_channel(bob.user_id): "*",
        sessions_channel(eve.user_id): eve.session_id,
    }


async def test_logout_holds_without_redis(settings: Settings) -> None:
    """Whether a login goes on is in Postgres: a worker without Redis knows it too."""
    nowhere = SecretStr("redis://127.0.0.1:1/0")
    cut_off = settings.model_copy(update={"redis_url": nowhere})
    async with running(settings) as here, running(cut_off) as there:
        ada, bob = await enrol(here, 2)
        async with here.http() as near, there.http() as far:
            await near.post("/auth/logout", headers=ada.header)

            gone = await far.get("/me", headers=ada.header)
            served = await far.get("/me", headers=bob.header)

    assert (gone.status_code, served.status_code) == (401, 200)
