"""A service to be disturbed: each path uses one thing, and says how that went.

``GET /database`` writes a row, ``/redis`` counts, ``/fill`` writes 2 MB of rows; they
answer 503 with the name of the error when it fails. ``/clock`` tells the time,
``/seen`` what became of requests and sockets, ``/pid`` the process. ``POST`` anywhere
reads a body and answers in two parts. ``/socket`` is a WebSocket that echoes.
"""

import asyncio
import json
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import asyncpg
import redis.asyncio

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

LIMIT_S = 1.0
"""The service gives up on what it uses after this long."""


class Target:
    """The service."""

    def __init__(self) -> None:
        self._pool: Any = None
        self._redis: Any = None
        self._seen: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await self._echo(receive, send)
        elif scope["method"] == "POST":
            await self._read(receive, send)
        else:
            try:
                async with asyncio.timeout(LIMIT_S * 3):
                    status, answer = 200, await self._get(scope["path"])
            except Exception as exc:  # noqa: BLE001  # it says what broke, whatever that is
                status, answer = 503, f"{type(exc).__name__}: {exc}"
            await _answer(send, status, answer)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._pool = await asyncpg.create_pool(
            os.environ["DATABASE_URL"],
            min_size=2,
            max_size=4,
            timeout=LIMIT_S,
            command_timeout=LIMIT_S,
        )
        async with self._pool.acquire() as session:
            await session.execute(
                "CREATE TABLE IF NOT EXISTS notes (id bigserial PRIMARY KEY, text text)"
            )
        self._redis = redis.asyncio.from_url(
            os.environ["REDIS_URL"],
            socket_timeout=LIMIT_S,
            socket_connect_timeout=LIMIT_S,
        )
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._pool.terminate()
        await self._redis.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def _get(self, path: str) -> object:
        if path == "/database":
            return await self._write("note", 1)
        if path == "/fill":
            return await self._write("x" * 2000, 1000)
        if path == "/redis":
            return await self._redis.incr("count")
        if path == "/clock":
            return datetime.now(UTC).timestamp()
        if path == "/seen":
            return dict(self._seen)
        return os.getpid()

    async def _write(self, text: str, count: int) -> object:
        async with self._pool.acquire(timeout=LIMIT_S) as session:
            # Random text, which no compression makes small.
            return await session.fetchval(
                "WITH made AS (INSERT INTO notes (text) SELECT $1 || random()::text "
                "FROM generate_series(1, $2) RETURNING id) SELECT max(id) FROM made",
                text,
                count,
            )

    async def _read(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self._seen["hung up within the body"] += 1
                return
            if not message.get("more_body"):
                break
        left = asyncio.ensure_future(receive())
        done, _ = await asyncio.wait([left], timeout=0.05)
        left.cancel()
        if done:
            self._seen["hung up before the answer"] += 1
            return
        await _answer(send, 200, "x" * 1000)

    async def _echo(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        self._seen["sockets opened"] += 1
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        self._seen[f"sockets closed with {message['code']}"] += 1


async def _answer(send: Send, status: int, answer: object) -> None:
    body = json.dumps(answer).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    half = len(body) // 2
    await send({"type": "http.response.body", "body": body[:half], "more_body": True})
    await send({"type": "http.response.body", "body": body[half:]})


def create_app() -> Target:
    """Return the service."""
    return Target()
