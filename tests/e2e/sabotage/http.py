"""Twins of the HTTP layer: headers, error bodies, caching, context, logs, slots."""

import asyncio
import contextlib
import sys
from asyncio import FIRST_COMPLETED
from contextvars import ContextVar
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.dependencies import (
    Caller,
    authenticate,
    bearer_token,
    build_context,
    parts_of,
)
from app.api.frontier import record_of
from app.api.problems import unauthorized
from app.main import Parts, create_app
from app.security import TokenError

if TYPE_CHECKING:
    from app.security import Claims


class _EchoSearch:
    """Tells in a header what was searched for; the middleware object is shared."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._query = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["query_string"]:
            self._query = scope["query_string"]

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start" and scope["query_string"]:
                headers = MutableHeaders(raw=message["headers"])
                headers["x-search"] = self._query.decode("latin-1")
            await send(message)

        await self._app(scope, receive, send_marked)


def create_remembered_header() -> FastAPI:
    """Answers with a header made from the request that came last.

    Catalogue P01: ``self.query = ...; await ...; use(self.query)`` in a middleware.
    """
    app = create_app()
    app.add_middleware(_EchoSearch)
    return app


def create_shared_problem() -> FastAPI:
    """Fills one problem document for all refusals; errors pile up in its list.

    Catalogue P11 and P21: a template meant as a constant is a mutable object.
    """
    problem: dict[str, object] = {"type": "about:blank", "title": "Wrong request"}

    async def refuse(_: Request, exc: Exception) -> JSONResponse:
        if not isinstance(exc, RequestValidationError):
            raise exc
        problem["received"] = problem.get("received") or exc.body
        return JSONResponse(problem, 422)

    app = create_app()
    app.add_exception_handler(RequestValidationError, refuse)
    return app


class _MakeCacheable:
    """Speeds everything up with a minute of caching."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_cacheable(message: Message) -> None:
            if message["type"] == "http.response.start" and scope["method"] == "GET":
                headers = MutableHeaders(raw=message["headers"])
                headers["cache-control"] = "public, max-age=60"
                del headers["vary"]
            await send(message)

        outgoing = send_cacheable if scope["type"] == "http" else send
        await self._app(scope, receive, outgoing)


def create_public_answers() -> FastAPI:
    """Lets shared caches keep what depends on who asks.

    Catalogue R02 (Flask CVE-2023-30861).
    """
    app = create_app()
    app.add_middleware(_MakeCacheable)
    return app


_current: ContextVar["Claims | None"] = ContextVar("current", default=None)


class _CurrentUser:
    """Makes the user of a request known to everything below, and leaves it so."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            given = dict(scope["headers"]).get(b"authorization", b"")
            token = bearer_token(given.decode("latin-1"))
            if token is not None:
                parts: Parts = scope["app"].state.parts
                with contextlib.suppress(TokenError):
                    _current.set(parts.access_tokens.verify(token))
        await self._app(scope, receive, send)


def create_lingering_context() -> FastAPI:
    """Keeps the user in a context variable that is set and never reset.

    Catalogue C02 (Starlette#2335). Needs a server that lets context variables live
    on from one request of a connection to the next: uvicorn without
    ``reset_contextvars``.
    """

    async def authenticate_current(request: Request) -> Caller:
        claims = _current.get()
        if claims is None:
            raise unauthorized("Send an access token.")
        request_id = record_of(request.scope).request_id
        context = build_context(
            parts_of(request), user_id=claims.user_id, request_id=request_id
        )
        return Caller(claims, context)

    app = create_app()
    app.add_middleware(_CurrentUser)
    app.dependency_overrides[authenticate] = authenticate_current
    return app


class _LogContext:
    """Binds the user to the log for a request; there is one binding for all."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._user_id: str | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_bound(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._user_id = record_of(scope).user_id
            await send(message)

        outgoing = send_bound if scope["type"] == "http" else send
        await self._app(scope, receive, outgoing)
        if scope["type"] == "http" and scope["query_string"]:
            await asyncio.sleep(0.002)  # the log shipper's queue
            query = scope["query_string"].decode("latin-1")
            sys.stdout.write(f"search user={self._user_id} query={query}\n")
            sys.stdout.flush()


def create_shared_log_context() -> FastAPI:
    """Writes a search into the log under whoever was served last.

    Catalogue C10 (sentry-python#120, #147): one scope for all tasks.
    """
    app = create_app()
    app.add_middleware(_LogContext)
    return app


class _Bulkhead:
    """Admits so many requests at one time, and drops those whose client has gone."""

    def __init__(
        self, app: ASGIApp, *, slots: int = 8, patience_s: float = 0.5
    ) -> None:
        self._app = app
        self._slots = asyncio.Semaphore(slots)
        self._patience_s = patience_s
        self._is_shedding = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/auth/"):
            await self._app(scope, receive, send)
        elif await self._enter():
            await self._serve(scope, receive, send)
        else:
            await PlainTextResponse("Busy.", 503)(scope, receive, send)

    async def _enter(self) -> bool:
        if self._is_shedding and self._slots.locked():
            return False
        try:
            async with asyncio.timeout(self._patience_s):
                await self._slots.acquire()
        except TimeoutError:
            self._is_shedding = True
            return False
        return True

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        incoming: asyncio.Queue[Message] = asyncio.Queue()

        async def serve() -> None:
            await self._app(scope, incoming.get, send)

        serving = asyncio.create_task(serve())
        while not serving.done():
            hearing = asyncio.ensure_future(receive())
            await asyncio.wait({serving, hearing}, return_when=FIRST_COMPLETED)
            if not hearing.done():
                hearing.cancel()
                break
            incoming.put_nowait(hearing.result())
            if hearing.result()["type"] == "http.disconnect" and not serving.done():
                serving.cancel()
                return  # nobody listens any more
        self._slots.release()
        self._is_shedding = False


def create_lost_slots() -> FastAPI:
    """Does not give a slot back when its client has walked away.

    Catalogue X03 and X04 (sqlalchemy#8145, httpcore#658): the early return skips the
    release.
    """
    app = create_app()
    app.add_middleware(_Bulkhead)
    return app
