"""A twin of the model client: one HTTP client with one cookie jar for all users.

Upstream remembers a conversation per session cookie, as many hosted agents do. It
runs in the worker process, on a loopback port of its own.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from http import HTTPStatus
from uuid import uuid4

import httpx
from fastapi import FastAPI

from app.llm import ChatMessage, LocalModel, Reply, ToolSpec
from app.main import Parts, create_app


class _Upstream:
    """A tiny HTTP server that knows its clients by a cookie."""

    def __init__(self) -> None:
        self._goals: dict[str, str] = {}
        self._server: asyncio.Server | None = None

    async def start(self) -> str:
        """Listen, and return the URL."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        return f"http://{host}:{port}"

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                headers = dict(
                    line.lower().split(": ", 1) for line in head.split("\r\n")[1:-2]
                )
                body = await reader.readexactly(int(headers["content-length"]))
                writer.write(self._answer(headers.get("cookie", ""), body.decode()))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    def _answer(self, cookie: str, goal: str) -> bytes:
        session = cookie.partition("session=")[2].partition(";")[0]
        is_new = session not in self._goals
        if is_new:
            session = uuid4().hex
            self._goals[session] = goal
        body = json.dumps({"about": self._goals[session]}).encode()
        lines = [
            f"HTTP/1.1 {HTTPStatus.OK} OK",
            f"content-length: {len(body)}",
            "content-type: application/json",
            *([f"set-cookie: session={session}; Path=/"] if is_new else []),
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class _RemoteModel(LocalModel):
    """Asks upstream what the conversation is about, then plans as usual."""

    def __init__(self) -> None:
        self._upstream = _Upstream()
        self._client: asyncio.Task[httpx.AsyncClient] | None = None

    async def complete(
        self, messages: Sequence[ChatMessage], *, tools: Sequence[ToolSpec]
    ) -> Reply:
        if self._client is None:
            self._client = asyncio.create_task(self._connect())
        client = await self._client
        goal = next(m.content for m in messages if m.role == "user")
        answer = await client.post("/about", content=goal)
        about = ChatMessage("user", answer.json()["about"])
        return await super().complete([*messages, about], tools=tools)

    async def aclose(self) -> None:
        if self._client is not None:
            await (await self._client).aclose()
        await self._upstream.close()

    async def _connect(self) -> httpx.AsyncClient:
        url = await self._upstream.start()
        return httpx.AsyncClient(base_url=url, trust_env=False)


def create_shared_cookies() -> FastAPI:
    """Sends one user's upstream session cookie with all other users' calls.

    Catalogue A14 (litellm PR#36149, httpx#1359): a pooled client keeps cookies.
    """

    def sabotage(parts: Parts) -> Parts:
        return replace(parts, model=_RemoteModel())

    return create_app(replace=sabotage)
