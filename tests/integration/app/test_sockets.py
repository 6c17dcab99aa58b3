"""Sockets end when they must, and only then: a hundred users on two real workers."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from app.api import websocket as endpoint
from app.realtime import announce_revoked
from app.settings import Settings
from tests.integration.app.crowd import Guest, guests
from tests.integration.app.service import Service, next_frames, serving

pytestmark = [pytest.mark.integration, pytest.mark.slow]
USERS = 100


@contextlib.asynccontextmanager
async def _two(settings: Settings) -> AsyncIterator[tuple[Service, Service]]:
    async with serving(settings) as first, serving(settings) as second:
        yield first, second


async def _open(
    stack: contextlib.AsyncExitStack, service: Service, guest: Guest, query: str = ""
) -> ClientConnection:
    connection = await stack.enter_async_context(guest.socket(service, query))
    await next_frames(connection, until="ready")
    return connection


async def _ending(
    connection: ClientConnection, within_s: float = 60
) -> tuple[int, str]:
    """Return code and reason of the close that ends a socket; 0 when none does."""
    try:
        async with asyncio.timeout(within_s):
            while True:
                await connection.recv()
    except TimeoutError:
        return 0, ""
    except ConnectionClosed as closed:
        received = closed.rcvd
        return (received.code, received.reason) if received else (1006, "")


async def _end_logins(service: Service, logged_in: list[Guest]) -> None:
    for guest in logged_in:
        async with service.parts.sessions.for_user(guest.user_id) as session:
            await service.parts.refresh_tokens.revoke(session, guest.session_id)


async def _log_out_everybody(settings: Settings) -> list[tuple[int, str]]:
    """Log a hundred users out who have a socket on each worker; return the ends."""
    async with _two(settings) as (first, second), contextlib.AsyncExitStack() as stack:
        crowd = await guests(first, USERS)
        opened = await asyncio.gather(
            *(
                _open(stack, worker, guest)
                for guest in crowd
                for worker in (first, second)
            )
        )
        staying = await guests(first, 1)
        spared = await _open(stack, second, staying[0])
        await _end_logins(first, crowd)
        await asyncio.gather(
            *(
                announce_revoked(first.parts.redis, guest.user_id, guest.session_id)
                for guest in crowd
            )
        )
        ends = await asyncio.gather(*(_ending(each, 60) for each in opened))
        assert await _ending(spared, 0.1) == (0, "")
        return ends


async def test_logout_closes_sockets_of_all_workers(settings: Settings) -> None:
    """A login that ends closes its sockets wherever they are, and no other's."""
    ends = await _log_out_everybody(settings)

    assert Counter(ends) == {(4401, endpoint.ENDED.reason): 2 * USERS}


async def test_lost_announcement_is_made_up_for(settings: Settings) -> None:
    """A logout that was announced while a worker was deaf is seen when it hears again."""
    async with serving(settings) as service, contextlib.AsyncExitStack() as stack:
        crowd = await guests(service, 10)
        opened = [await _open(stack, service, guest) for guest in crowd]
        await _end_logins(service, crowd)
        await service.parts.redis.client_kill_filter(_type="pubsub")

        ends = await asyncio.gather(*(_ending(each) for each in opened))

    assert Counter(ends) == {(4401, endpoint.ENDED.reason): 10}


@pytest.mark.parametrize(
    "path", ["/me", pytest.param("/documents", marks=pytest.mark.long)]
)
async def test_logout_whose_worker_was_killed_is_announced_when_asked_again(
    settings: Settings, path: str
) -> None:
    """Its end was committed and nobody told; whoever asks again closes its sockets."""
    async with serving(settings) as service, contextlib.AsyncExitStack() as stack:
        crowd = await guests(service, 5)
        opened = [await _open(stack, service, guest) for guest in crowd]
        await _end_logins(service, crowd)
        async with service.http() as http:
            for guest in crowd:
                answer = await http.get(
                    path, headers={"authorization": f"Bearer {guest.token}"}
                )
                assert answer.status_code == 401

        ends = await asyncio.gather(*(_ending(each) for each in opened))

    assert Counter(ends) == {(4401, endpoint.ENDED.reason): 5}


@pytest.mark.long
@pytest.mark.power
async def test_socket_deaf_to_logouts_is_caught(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sockets that heed only the expiry of their token stay, which is seen."""
    monkeypatch.setattr(endpoint._Watch, "hear", lambda *_: None)
    monkeypatch.setattr(
        f"{__name__}._ending", lambda each, _=0, end=_ending: end(each, 0.5)
    )
    ends = await _log_out_everybody(settings)

    assert Counter(ends) == {(0, ""): 2 * USERS}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the wall clock of sockets is ahead; looked at all the time."""
    ahead = [0.0]
    now = endpoint._now
    monkeypatch.setattr(endpoint, "_now", lambda: now() + ahead[0])
    monkeypatch.setattr(endpoint, "LOOK_EVERY_S", 0.05)
    return ahead


async def _renew(connection: ClientConnection, token: str) -> None:
    await connection.send(json.dumps({"type": "authenticate", "token": token}))


async def test_fresh_token_extends_its_socket(
    settings: Settings, clock: list[float]
) -> None:
    """A token sent on an open socket takes the place of the one that expires."""
    long = settings.model_copy(update={"access_token_s": 3_000})
    async with _two(settings) as (service, _), contextlib.AsyncExitStack() as stack:
        (ada,) = await guests(service, 1)
        renewed, left = [await _open(stack, service, ada) for _ in range(2)]
        async with serving(long) as other:
            fresh = other.parts.access_tokens.issue(ada.user_id, ada.session_id)
        await _renew(renewed, fresh)
        await next_frames(renewed, until="authenticated")
        clock[0] = settings.access_token_s + 60.0

        assert await _ending(left) == (4401, endpoint.EXPIRED.reason)
        assert await _ending(renewed, 0.5) == (0, "")
        clock[0] = 3_060.0
        assert await _ending(renewed) == (4401, endpoint.EXPIRED.reason)


async def test_token_of_another_user_switches_nothing(settings: Settings) -> None:
    """Thirty sockets that are sent somebody else's token close, and show nothing."""
    async with serving(settings) as service, contextlib.AsyncExitStack() as stack:
        crowd = await guests(service, 30)
        opened = await asyncio.gather(*(_open(stack, service, each) for each in crowd))
        for connection, stranger in zip(opened, [*crowd[1:], crowd[0]], strict=True):
            await _renew(connection, stranger.token)

        ends = await asyncio.gather(*(_ending(each) for each in opened))

    assert Counter(ends) == {(4403, endpoint.ANOTHER_USER.reason): 30}


async def test_bad_token_closes_an_open_socket(settings: Settings) -> None:
    """What is no valid token ends the socket; what is no token at all is passed over."""
    async with serving(settings) as service, contextlib.AsyncExitStack() as stack:
        (ada,) = await guests(service, 1)
        connection = await _open(stack, service, ada)
        await connection.send("hello")
        await connection.send(b"\x00" * 100)
        assert await _ending(connection, 0.2) == (0, "")
        await _renew(connection, ada.token + "x")

        assert await _ending(connection) == (4401, endpoint.NO_TOKEN.reason)


async def test_oversized_message_closes_its_socket(settings: Settings) -> None:
    """A client cannot fill the memory of the service with what it says."""
    async with serving(settings) as service, contextlib.AsyncExitStack() as stack:
        (ada,) = await guests(service, 1)
        connection = await _open(stack, service, ada)
        await connection.send("x" * (endpoint.MAX_MESSAGE_CHARS + 1))

        assert await _ending(connection) == (1009, endpoint.TOO_BIG.reason)


async def test_user_keeps_the_newest_sockets(settings: Settings) -> None:
    """Of forty sockets opened at once three stay; another user loses none."""
    three = settings.model_copy(update={"sockets_per_user": 3})
    async with serving(three) as service, contextlib.AsyncExitStack() as stack:
        ada, bob = await guests(service, 2)
        spared = [await _open(stack, service, bob) for _ in range(3)]
        opened = await asyncio.gather(
            *(stack.enter_async_context(ada.socket(service)) for _ in range(40))
        )
        ends = Counter(await asyncio.gather(*(_ending(each, 3) for each in opened)))

        assert ends == {(4429, endpoint.TOO_MANY.reason): 37, (0, ""): 3}
        assert service.parts.sockets.count_of(ada.user_id) == 3
        assert [await _ending(each, 0.05) for each in spared] == [(0, "")] * 3


async def test_full_worker_sends_newcomers_away(settings: Settings) -> None:
    """A worker with all its sockets says so; it takes one more when one has left."""
    two = settings.model_copy(update={"sockets": 2})
    async with serving(two) as service, contextlib.AsyncExitStack() as stack:
        crowd = await guests(service, 3)
        await _open(stack, service, crowd[0])
        leaving = await _open(stack, service, crowd[1])
        async with crowd[2].socket(service) as refused:
            assert await _ending(refused) == (1013, endpoint.FULL.reason)
        await leaving.close()
        async with asyncio.timeout(10):
            while len(service.parts.sockets) > 1:  # noqa: ASYNC110  # a count has no event
                await asyncio.sleep(0.01)

        await _open(stack, service, crowd[2])
