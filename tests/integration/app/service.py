"""The reference service in the test's own loop, for tests that look inside.

``running`` enters the application's lifespan and speaks ASGI to it; ``serving`` puts it
behind a real uvicorn on loopback, for WebSockets and broken connections. Two of either
on one database and Redis are two workers: they share nothing in the process.
"""

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from uuid import uuid4

import httpx
import uvicorn
from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection, connect

from app.api import Parts
from app.api.wire import BoundedWebSocket
from app.context import UserExecutionContext
from app.main import create_app
from app.settings import Settings

Replace = Callable[[Parts], Parts]
PASSWORD = "correct horse"
# Loaded once: a client that makes its own spends 15 ms on certificates nobody shows it.
_TLS = ssl.create_default_context()


@dataclass(frozen=True)
class Member:
    """A registered and logged-in user."""

    http: httpx.AsyncClient
    user_id: str
    username: str
    access_token: str
    refresh_token: str

    async def new(self, path: str, **body: str) -> str:
        """Create something and return its id."""
        answer = await self.http.post(path, json=body)
        assert answer.is_success, answer.text
        fields = answer.json()
        found = [fields.get(f"{kind}_id") for kind in ("run", "message", "document")]
        return str(next(filter(None, found), fields.get("thread_id")))


@dataclass(frozen=True)
class Service:
    """A running application."""

    app: FastAPI
    base_url: str
    transport: httpx.AsyncBaseTransport | None = None

    @property
    def parts(self) -> Parts:
        """The parts it runs with."""
        parts: Parts = self.app.state.parts
        return parts

    def http(self, **headers: str) -> httpx.AsyncClient:
        """Return a client; the caller closes it."""
        return httpx.AsyncClient(
            base_url=self.base_url,
            transport=self.transport,
            headers=headers,
            timeout=60,
            trust_env=False,
            verify=_TLS,
        )

    @contextlib.asynccontextmanager
    async def member(self) -> AsyncIterator[Member]:
        """Register and log in a new user."""
        username = f"user-{uuid4().hex}"
        credentials = {"username": username, "password": PASSWORD}
        async with self.http() as http:
            registered = await http.post("/auth/register", json=credentials)
            assert registered.status_code == 201, registered.text
            pair = (await http.post("/auth/login", json=credentials)).json()
            http.headers["authorization"] = f"Bearer {pair['access_token']}"
            yield Member(
                http,
                pair["user_id"],
                username,
                pair["access_token"],
                pair["refresh_token"],
            )

    def socket(self, member: Member, *, after: int | None = None) -> connect:
        """Return a WebSocket of a user, to enter."""
        url = self.base_url.replace("http", "ws", 1) + "/ws"
        return connect(
            url if after is None else f"{url}?after={after}",
            additional_headers={"authorization": f"Bearer {member.access_token}"},
            proxy=None,
        )

    @contextlib.asynccontextmanager
    async def context(self, user_id: str) -> AsyncIterator[UserExecutionContext]:
        """Open a context of a user with a session, as a request does."""
        parts = self.parts
        async with parts.sessions.for_user(user_id) as session:
            yield UserExecutionContext(
                user_id=user_id,
                request_id="test",
                keyspace=parts.keyspaces(parts.redis, user_id),
                emitter=parts.emitters(parts.events, user_id),
                audit=parts.trails(user_id, "test").bound_to(session),
                session=session,
            )


@contextlib.asynccontextmanager
async def running(
    settings: Settings, *, replace: Replace | None = None
) -> AsyncIterator[Service]:
    """Run the application without a socket."""
    app = create_app(settings, replace=replace)
    async with app.router.lifespan_context(app):
        yield Service(app, "http://service.invalid", httpx.ASGITransport(app))


@contextlib.asynccontextmanager
async def serving(
    settings: Settings,
    *,
    replace: Replace | None = None,
    create: Callable[[Settings], FastAPI] | None = None,
) -> AsyncIterator[Service]:
    """Run the application, or what ``create`` makes, behind uvicorn on a free port."""
    app = create(settings) if create else create_app(settings, replace=replace)
    config = uvicorn.Config(
        app, log_config=None, ws=BoundedWebSocket, timeout_graceful_shutdown=2
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.01)
            assert not task.done(), "the service did not start"
        try:
            yield Service(app, f"http://127.0.0.1:{listener.getsockname()[1]}")
        finally:
            server.should_exit = True
            await task


async def next_frames(
    connection: ClientConnection, *, until: str
) -> list[dict[str, object]]:
    """Return the frames up to and with the first of a type."""
    frames: list[dict[str, object]] = []
    while not frames or frames[-1]["type"] != until:
        async with asyncio.timeout(10):
            frames.append(json.loads(await connection.recv()))
    return frames
