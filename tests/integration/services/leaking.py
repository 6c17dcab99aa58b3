"""A service to be hosted that keeps what it is told to keep."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

KEPT: list[str] = []
CACHE: dict[str, str] = {}


def create() -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Return the service; what it holds itself is in no module."""
    own: list[str] = []
    tasks: set[asyncio.Task[Any]] = set()
    files: list[Any] = []

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while True:
                kind = (await receive())["type"].removeprefix("lifespan.")
                await send({"type": f"lifespan.{kind}.complete"})
                if kind == "shutdown":
                    return
        text = unquote(scope["query_string"].decode())
        match scope["path"]:
            case "/module":
                KEPT.append(text)
            case "/cache":
                CACHE["last"] = text
            case "/app":
                own.append(text)
            case "/task":
                tasks.add(asyncio.create_task(asyncio.Event().wait()))
            case "/file":
                files.append(tempfile.TemporaryFile())  # noqa: SIM115  # it stays open
            case _:
                pass
        body = text.upper().encode()
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": body})

    return serve
