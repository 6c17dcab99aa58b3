"""A small model server for tests and demonstrations: real HTTP, deterministic answers.

Speaks the part of OpenAI's API that the service uses: ``/v1/chat/completions`` (whole
or streamed) answered by ``LocalModel``, ``/v1/embeddings`` by ``embedding_of``, and
``/v1/token``, which exchanges the key for a token of some seconds' life. It keeps no
conversation.

    python -m app.llm.server --port 8100 [--key SECRET]... [--token-s 60]
                             [--allow-faults]

With ``--allow-faults`` it misbehaves on request: ``PUT /faults`` says how, for all that
follows (``{}`` ends it), and a request's header ``x-fault`` for that request alone, as
a JSON object with the fields of ``Fault``. Never open that to a network.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import random
import secrets
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from app.llm.client import Reply
from app.llm.embeddings import embedding_of
from app.llm.local import LocalModel
from app.llm.wire import DONE, NONSENSE, read_messages, read_tools, tool_calls

_CHARS_PER_TOKEN = 4
_BEARER = "Bearer "


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """How to misbehave.

    Attributes:
        latency_s: Wait so long before the answer.
        hold: Answer when the next fault is set, and not before.
        status: Answer with this status instead.
        retry_after_s: Name this time in ``Retry-After``, beside ``status``.
        ratio: The part of the requests that is met, 0 to 1, drawn at random.
        drop_after: Break the connection after so many events of a stream, or before
            an answer in one piece when it is 0.
        stall_after: Go on after so many events of a stream when the next fault is set,
            and not before.
        garble_after: Send half an event after so many, and go on.
        shuffle: Return embeddings in another order than the texts came in.
        poison: Refuse (400) any request whose body contains this text.
        paths: Only requests to paths that contain one of these.
        key: Only requests that show this.
        most_per_key: Ask to come back later (429) who has so many requests under way
            that show one key.
    """

    latency_s: float = 0.0
    hold: bool = False
    status: int | None = None
    retry_after_s: float | None = None
    ratio: float = 1.0
    drop_after: int | None = None
    stall_after: int | None = None
    garble_after: int | None = None
    shuffle: bool = False
    poison: str | None = None
    paths: tuple[str, ...] = ()
    key: str | None = None
    most_per_key: int | None = None


class _DroppedError(Exception):
    """Raised to make the web server break the connection."""


@dataclass(slots=True)
class ModelServer:
    """The endpoints and what they share.

    Attributes:
        keys: What requests must show one of, or exchange for a token; none of them
            admits everyone.
        token_s: How long a token lives, in seconds.
        allows_faults: Whether faults can be asked for.
        served: Requests that arrived, by path.
        concurrent: Largest number of requests that were served at one time.
        shown: Requests that arrived, by what they showed.
        most: Largest number of them at one time.
    """

    keys: tuple[str, ...] = ()
    token_s: float = 60.0
    allows_faults: bool = False
    served: Counter[str] = field(default_factory=Counter)
    concurrent: int = 0
    shown: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)
    _fault: Fault = field(default_factory=Fault)
    _tokens: dict[str, float] = field(default_factory=dict)
    _model: LocalModel = field(default_factory=LocalModel)
    _open: Counter[str] = field(default_factory=Counter)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def app(self) -> Starlette:
        """Return the ASGI application."""
        routes = [
            Route("/health", self._health),
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
            Route("/v1/embeddings", self._embeddings, methods=["POST"]),
            Route("/v1/token", self._token, methods=["POST"]),
        ]
        if self.allows_faults:
            routes.append(Route("/faults", self._faults, methods=["PUT", "GET"]))
        return Starlette(routes=routes, middleware=[Middleware(_Counted, server=self)])

    @contextlib.contextmanager
    def counted(self, shown: str) -> Iterator[None]:
        """Count a request as under way for a block."""
        self._open[shown] += 1
        self.shown[shown] += 1
        self.most[shown] = max(self.most[shown], self._open[shown])
        self.concurrent = max(self.concurrent, self._open.total())
        try:
            yield
        finally:
            self._open[shown] -= 1

    async def _health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _faults(self, request: Request) -> Response:
        """Take a fault, or tell what was served so far."""
        if request.method == "PUT":
            try:
                self._fault = _read_fault(await request.body())
            except (ValueError, TypeError) as exc:
                return _problem(400, str(exc))
            self.served.clear()
            self.concurrent = 0
            self.shown.clear()
            self.most.clear()
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()
        counts = {"served": self.served, "shown": self.shown, "most": self.most}
        return JSONResponse({**counts, "concurrent": self.concurrent})

    async def _token(self, request: Request) -> Response:
        fault = await self._meet(request)
        if fault.status is not None:
            return _failure(fault)
        if _bearer(request) not in self.keys:
            return _problem(401, "wrong key")
        now = time.monotonic()
        for old in [token for token, end in self._tokens.items() if end < now]:
            del self._tokens[old]
        token = secrets.token_urlsafe(24)
        self._tokens[token] = now + self.token_s
        return JSONResponse({"access_token": token, "expires_in": self.token_s})

    async def _chat(self, request: Request) -> Response:
        fault = await self._meet(request)
        if refusal := await self._refusal(request, fault):
            return refusal
        try:
            body = json.loads(await request.body())
            messages, tools = read_messages(body), read_tools(body)
        except NONSENSE as exc:
            return _problem(400, f"bad request: {type(exc).__name__}")
        if all(message.role != "user" for message in messages):
            return _problem(400, "there is no message of a user")
        reply = await self._model.complete(messages, tools=tools)
        usage = _usage(body, reply)
        if body.get("stream"):
            return StreamingResponse(
                _events(reply, usage, fault, self._changed),
                media_type="text/event-stream",
            )
        if fault.drop_after is not None:
            raise _DroppedError
        message: dict[str, object] = {"role": "assistant", "content": reply.content}
        if reply.tool_calls:
            message["tool_calls"] = tool_calls(reply.tool_calls)
        return JSONResponse({"choices": [{"message": message}], "usage": usage})

    async def _embeddings(self, request: Request) -> Response:
        fault = await self._meet(request)
        if refusal := await self._refusal(request, fault):
            return refusal
        try:
            texts = json.loads(await request.body())["input"]
            data = [
                {"index": index, "embedding": embedding_of(text)}
                for index, text in enumerate(texts)
            ]
        except NONSENSE as exc:
            return _problem(400, f"bad request: {type(exc).__name__}")
        if fault.shuffle:
            data.reverse()
        return JSONResponse({"data": data})

    async def _meet(self, request: Request) -> Fault:
        """Count a request, draw its fault, and wait as long as that says."""
        self.served[request.url.path] += 1
        fault, asked = self._fault, request.headers.get("x-fault")
        if asked is not None and self.allows_faults:
            fault = _read_fault(asked.encode())
        is_met = fault.key in (None, _bearer(request)) and (
            not fault.paths or any(part in request.url.path for part in fault.paths)
        )
        if not is_met or random.random() >= fault.ratio:
            return Fault()
        # At once, before others come or go.
        if fault.most_per_key and self._open[_bearer(request)] > fault.most_per_key:
            return Fault(status=429, retry_after_s=fault.retry_after_s)
        if fault.hold:
            await self._changed.wait()
        if fault.latency_s:
            await asyncio.sleep(fault.latency_s)
        return fault

    async def _refusal(self, request: Request, fault: Fault) -> Response | None:
        if fault.status is not None:
            return _failure(fault)
        if fault.poison and fault.poison.encode() in await request.body():
            return _problem(400, "poison")
        if not self.keys:
            return None
        shown = _bearer(request)
        if shown in self.keys or self._tokens.get(shown, 0.0) > time.monotonic():
            return None
        return _problem(401, "wrong key or old token")


class _Counted:
    """Counts requests until their answers are sent to the end, or left."""

    def __init__(self, app: ASGIApp, server: ModelServer) -> None:
        self._app = app
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        with self._server.counted(_bearer(Request(scope))):
            await self._app(scope, receive, send)


def _read_fault(text: bytes) -> Fault:
    given = json.loads(text or b"{}")
    fault = Fault(**given)
    return dataclasses.replace(fault, paths=tuple(fault.paths))


def _bearer(request: Request) -> str:
    return request.headers.get("authorization", "").removeprefix(_BEARER)


def _problem(status: int, message: str) -> Response:
    return JSONResponse({"error": {"message": message}}, status)


def _failure(fault: Fault) -> Response:
    answer = _problem(fault.status or 500, "injected")
    if fault.retry_after_s is not None:
        answer.headers["retry-after"] = f"{fault.retry_after_s:g}"
    return answer


def _usage(body: dict[str, Any], reply: Reply) -> dict[str, int]:
    asked = sum(len(m.get("content") or "") for m in body["messages"])
    prompt = asked // _CHARS_PER_TOKEN + 1
    answered = len(reply.content) // _CHARS_PER_TOKEN + 1
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answered,
        "total_tokens": prompt + answered,
    }


async def _events(
    reply: Reply, usage: dict[str, int], fault: Fault, changed: asyncio.Event
) -> AsyncIterator[bytes]:
    """Yield the server-sent events of a reply, a word each."""
    deltas: list[dict[str, object]] = [
        {"content": word} for word in reply.content.splitlines(keepends=True)
    ]
    deltas += [
        {"tool_calls": [{"index": index, **call}]}
        for index, call in enumerate(tool_calls(reply.tool_calls))
    ]
    events: list[dict[str, object]] = [
        {"choices": [{"delta": delta}]} for delta in deltas
    ]
    events.append({"choices": [], "usage": usage})
    for number, event in enumerate(events):
        if number == fault.drop_after:
            raise _DroppedError
        if number == fault.stall_after:
            await changed.wait()
        if number == fault.garble_after:
            yield b'data: {"choices": [{"del\n\n'
        yield b"data: " + json.dumps(event).encode() + b"\n\n"
        # Each event goes out by itself, as from a model that thinks.
        await asyncio.sleep(0)
    yield f"data: {DONE}\n\n".encode()


def main() -> None:
    """Print the URL and serve until a signal comes."""
    parser = argparse.ArgumentParser(description="A small deterministic model server.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8100, help="0: any free one")
    parser.add_argument(
        "--key", action="append", help="what requests must show, or one of several"
    )
    parser.add_argument("--token-s", type=float, default=60.0)
    parser.add_argument("--allow-faults", action="store_true")
    chosen = parser.parse_args()
    server = ModelServer(
        keys=tuple(chosen.key or ()),
        token_s=chosen.token_s,
        allows_faults=chosen.allow_faults,
    )
    config = uvicorn.Config(
        server.app(),
        log_level="critical" if chosen.allow_faults else "warning",
        timeout_graceful_shutdown=2,
    )
    with socket.create_server((chosen.host, chosen.port)) as listener:
        host, port = listener.getsockname()[:2]
        sys.stdout.write(f"http://{host}:{port}\n")
        sys.stdout.flush()
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
