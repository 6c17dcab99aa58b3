"""The pool of connections on its own: shared by a hundred users, and without memory."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.llm import HttpPool, ModelRejectedError, ModelUnavailableError
from tests.integration.llm.pool_twins import HeadersOnClient, KeepsCookies

pytestmark = [pytest.mark.integration, pytest.mark.slow]

USERS = 100
FEW = 12
"""Users where a twin is to be caught: two would do."""
CONNECTIONS = 10


class Mirror:
    """A server that tells each request what came with it, and gives it a cookie.

    Attributes:
        open: Requests that are being served.
        most: Largest number of them at one time.
        ports: The connections that came, by their port.
    """

    def __init__(self) -> None:
        """Have served nobody."""
        self.open = self.most = 0
        self.ports: set[int] = set()

    async def tell(self, request: Request) -> Response:
        """Answer with the request's credential and cookies."""
        self.open += 1
        self.most = max(self.most, self.open)
        if request.client is not None:
            self.ports.add(request.client.port)
        await asyncio.sleep(0.002)
        self.open -= 1
        headers = request.headers
        told = {"from": headers.get("authorization"), "cookie": headers.get("cookie")}
        answer = JSONResponse(told)
        answer.set_cookie("owner", told["from"] or "")
        return answer

    async def redirect(self, _: Request) -> Response:
        """Point elsewhere."""
        return Response(status_code=307, headers={"location": "/tell"})


@contextlib.asynccontextmanager
async def mirroring() -> AsyncIterator[tuple[Mirror, str]]:
    """Run a mirror and yield it with its URL."""
    mirror = Mirror()
    routes = [
        Route("/tell", mirror.tell, methods=["POST"]),
        Route("/elsewhere", mirror.redirect, methods=["POST"]),
    ]
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:  # uvicorn has no event for it
            await asyncio.sleep(0.01)
            assert not task.done(), "the mirror did not start"
        try:
            yield mirror, f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


async def _send_all(pool: HttpPool, url: str, *, users: int) -> None:
    """Let users send two requests each; judge what came with them."""

    async def send(user: int) -> list[dict[str, str | None]]:
        told = []
        for _ in range(2):
            headers = {"authorization": f"user {user}"}
            told.append(json.loads(await pool.fetch(url, {}, headers=headers)))
        return told

    told = await asyncio.gather(*map(send, range(users)))

    for user, answers in enumerate(told):
        for answer in answers:
            assert answer["from"] == f"user {user}", "sent with another's credential"
            assert answer["cookie"] is None, "sent with a cookie"


async def test_hundred_users_share_connections_only() -> None:
    """Two hundred requests go over ten connections, each with what is its own."""
    pool = HttpPool(connections=CONNECTIONS)
    async with mirroring() as (mirror, url):
        await _send_all(pool, f"{url}/tell", users=USERS)
        await pool.aclose()

    assert 1 < mirror.most <= CONNECTIONS
    assert len(mirror.ports) <= CONNECTIONS, "connections were not used again"


@pytest.mark.power
@pytest.mark.parametrize(
    ("twin", "words"),
    [(HeadersOnClient, "another's credential"), (KeepsCookies, "with a cookie")],
)
async def test_remembering_pool_is_caught(twin: type[HttpPool], words: str) -> None:
    """Headers set on the shared client, and its cookie jar, are seen to mix users."""
    pool = twin(connections=CONNECTIONS)
    async with mirroring() as (_, url):
        with pytest.raises(AssertionError, match=words):
            await _send_all(pool, f"{url}/tell", users=FEW)
        await pool.aclose()


async def test_redirect_is_not_followed() -> None:
    """A conversation goes where the operator said, and nowhere else."""
    pool = HttpPool(connections=1)
    async with mirroring() as (mirror, url):
        with pytest.raises(ModelUnavailableError, match="HTTP 307"):
            await pool.fetch(f"{url}/elsewhere", {}, headers={})
        await pool.aclose()

    assert mirror.most == 0


async def test_unreachable_provider_is_one_sentence() -> None:
    """A port where nobody listens is an unavailable model."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    pool = HttpPool(connections=1)

    with pytest.raises(ModelUnavailableError, match="ConnectError"):
        await pool.fetch(f"http://127.0.0.1:{port}/", {}, headers={})

    await pool.aclose()


async def test_refused_request_gives_its_place_back() -> None:
    """Twenty refusals leave the only connection usable."""
    pool = HttpPool(connections=1)
    async with mirroring() as (_, url):
        for _ in range(20):
            with pytest.raises(ModelRejectedError, match="HTTP 404"):
                await pool.fetch(f"{url}/nowhere", {}, headers={})
        async with asyncio.timeout(20):
            assert await pool.fetch(f"{url}/tell", {}, headers={})
        await pool.aclose()
