"""Which lines answered a request is told from what its router left in the scope."""

import functools
import inspect
import json
import os
import sysconfig
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from test_framework.services.handlers import (
    Handler,
    Handlers,
    describe,
    read_handlers,
)

FOLDER = Path(__file__).parent


class Wrapping:
    """Middleware as plain ASGI."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Do nothing about it."""
        await self._app(scope, receive, send)


class Dispatching(BaseHTTPMiddleware):
    """Middleware as Starlette helps to write it."""

    async def dispatch(
        self, request: Request, call_next: RequestResponseEndpoint
    ) -> Response:
        """Do nothing about it."""
        return await call_next(request)


class Answering(HTTPEndpoint):
    """An endpoint as a class."""

    async def get(self, _request: Request) -> Response:
        """Answer."""
        return PlainTextResponse("answer")


async def answer(_request: Request) -> Response:
    """Answer."""
    return PlainTextResponse("answer")


def who() -> str:
    """Return who asks."""
    return "alice"


def who_else() -> str:
    """Return who asks, in the place of ``who``."""
    return "bob"


def what(user: Annotated[str, Depends(who)]) -> str:
    """Return what is asked for."""
    return user


def line(function: Callable[..., object], name: str) -> str:
    """Return how a function of this file is told."""
    code = inspect.unwrap(function).__code__
    return f"{Path(__file__).name}:{code.co_firstlineno} {name}"


async def ask(app: ASGIApp, path: str = "/") -> dict[str, Any]:
    """Return the scope of a request as the application left it."""
    scopes: list[dict[str, Any]] = []

    async def keeping(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)
        scopes.append(dict(scope))

    transport = httpx.ASGITransport(keeping)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        await client.get(path)
    return scopes[0]


def fastapi_app() -> FastAPI:
    """Return an application with a dependency of a dependency."""
    app = FastAPI()

    @app.get("/")
    async def things(asked: Annotated[str, Depends(what)]) -> str:
        return asked

    return app


async def test_endpoint_is_told_with_its_dependencies() -> None:
    """The function, and what is resolved before it, innermost first."""
    told = describe(await ask(fastapi_app()), FOLDER)

    assert told is not None
    assert told.endpoint.endswith(" fastapi_app.things")
    assert told.before == (line(who, "who"), line(what, "what"))
    assert told.around == ()


async def test_overriding_dependency_stands_for_the_other() -> None:
    """What the application calls instead is told instead."""
    app = fastapi_app()
    app.dependency_overrides[who] = who_else

    told = describe(await ask(app), FOLDER)

    assert told is not None
    assert told.before == (line(who_else, "who_else"), line(what, "what"))


@pytest.mark.parametrize(
    ("layer", "work"),
    [(Wrapping, Wrapping.__call__), (Dispatching, Dispatching.dispatch)],
    ids=["plain", "dispatch"],
)
async def test_middleware_is_told_by_what_does_its_work(
    layer: Any,  # noqa: ANN401  # a class that takes an application
    work: Callable[..., object],
) -> None:
    """Plain ASGI by its call, Starlette's by ``dispatch``."""
    app = Starlette(routes=[Route("/", answer)])
    app.add_middleware(layer)

    told = describe(await ask(app), FOLDER)

    assert told == Handler(
        line(answer, "answer"), around=(line(work, work.__qualname__),)
    )


class Called:
    """An object that is an endpoint."""

    async def __call__(self, request: Request) -> Response:
        """Answer."""
        return await answer(request)

    async def method(self, request: Request) -> Response:
        """Answer as well."""
        return await answer(request)


@functools.wraps(answer)
async def decorated(request: Request) -> Response:
    """Answer behind a decorator."""
    return await answer(request)


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [
        (answer, line(answer, "answer")),
        (functools.partial(answer), line(answer, "answer")),
        (decorated, line(answer, "answer")),
        (Called().method, line(Called.method, "Called.method")),
    ],
    ids=["function", "partial", "decorated", "method"],
)
async def test_kinds_of_endpoints_are_told(
    endpoint: Callable[[Request], Awaitable[Response]], told: str
) -> None:
    """What people route to has a line, under a mount as well."""
    app = Starlette(routes=[Mount("/below", routes=[Route("/", endpoint)])])

    handler = describe(await ask(app, "/below/"), FOLDER)

    assert handler is not None
    assert handler.endpoint == told


async def test_endpoint_class_is_told_by_its_name() -> None:
    """By the first of its methods, since a class keeps no line of its own."""
    app = Starlette(routes=[Route("/", Answering)])

    handler = describe(await ask(app), FOLDER)

    assert handler is not None
    assert handler.endpoint == line(Answering.get, "Answering")


async def test_what_is_installed_is_not_told() -> None:
    """FastAPI's own document is answered by no line of the service."""
    scope = await ask(fastapi_app(), "/openapi.json")

    # Where people keep the packages below the folder of their service.
    installed = Path(sysconfig.get_path("purelib"))
    assert Path(inspect.getfile(scope["endpoint"])).is_relative_to(installed)
    assert describe(scope, installed) is None


async def test_request_without_a_route_is_not_told() -> None:
    """Nobody answered it, or a framework that does not say who did."""
    assert describe(await ask(fastapi_app(), "/nowhere"), FOLDER) is None
    assert describe({"type": "http"}, FOLDER) is None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of the handlers."""
    return tmp_path / "routes"


@pytest.fixture
def file(path: Path) -> Iterator[int]:
    """The open file of the handlers."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    yield descriptor
    os.close(descriptor)


async def test_handler_is_written_once_under_its_number(file: int, path: Path) -> None:
    """Numbers count those that are told; a second request adds nothing."""
    handlers = Handlers(file, FOLDER)
    app = fastapi_app()
    scopes = [
        await ask(app, "/openapi.json"),
        await ask(app),
        await ask(Starlette(routes=[Route("/", answer)])),
        await ask(app),
        {"type": "http"},
    ]

    numbers = [handlers.number(scope) for scope in scopes]

    assert numbers == [0, 1, 2, 1, 0]
    written = read_handlers(path)
    assert [handler.endpoint.split()[-1] for handler in written] == [
        "fastapi_app.things",
        "answer",
    ]
    assert written[0].before == (line(who, "who"), line(what, "what"))


def test_half_a_line_is_left_out(path: Path) -> None:
    """A process that was killed while it wrote tells what it had told before."""
    whole = {"endpoint": "a.py:1 a", "before": [], "around": []}
    path.write_text(f'{json.dumps(whole)}\n{{"endpoint": "b', encoding="utf-8")

    assert read_handlers(path) == [Handler("a.py:1 a")]
    assert read_handlers(path.with_name("none")) == []
