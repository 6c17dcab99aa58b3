"""FastAPI apps that leak between users, each with a safe sibling."""

import asyncio
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import (
    BackgroundTasks,
    Body,
    Depends,
    FastAPI,
    Header,
    Request,
    Response,
    WebSocket,
    WebSocketDisconnect,
)
from fastapi.responses import StreamingResponse
from starlette.middleware.base import BaseHTTPMiddleware

from test_framework.explore import (
    Asgi,
    Scenario,
    external,
)

Visit = Callable[[Asgi, int], Coroutine[Any, Any, None]]
Text = Annotated[str, Body(embed=True)]
User = Annotated[int, Header(alias="x-user")]


@dataclass
class Case:
    """An app to be made anew for each run, what its users do, and what must hold."""

    make: Callable[[], FastAPI]
    visit: Visit
    kind: str
    check: Callable[[Asgi], object] | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def scenario(self) -> Scenario[Asgi]:
        """Return it as a scenario of two users."""
        return Scenario(lambda: Asgi(self.make()), self.visit, self.check)


def browser_of(asgi: Asgi, user: int) -> Any:  # noqa: ANN401  # a Browser, used in one line
    """Return a browser that says who it is."""
    return asgi.browser(user, headers={"x-user": str(user)})


async def write_and_read(asgi: Asgi, user: int) -> None:
    """Write a note of one's own and read it back."""
    browser = browser_of(asgi, user)
    canary = browser.canary()
    assert (await browser.post("/note", json={"text": canary})).status == 200
    reply = await browser.get("/note")
    assert reply.status == 200
    assert reply.json() == canary


async def read_own(asgi: Asgi, user: int) -> None:
    """Send a canary and get it back."""
    browser = browser_of(asgi, user)
    canary = browser.canary()
    reply = await browser.post("/note", json={"text": canary})
    assert reply.json() == canary


def current_user(*, is_safe: bool) -> Case:
    """The user of a request stands in a global; safe: in the request."""

    def make() -> FastAPI:
        current: dict[str, int] = {}
        notes: dict[int, str] = {}
        app = FastAPI()

        async def identify(request: Request, user: User) -> None:
            current["user"] = request.state.user = user

        def who(request: Request) -> int:
            return int(request.state.user) if is_safe else current["user"]

        @app.post("/note", dependencies=[Depends(identify)])
        async def write(request: Request, text: Text) -> None:
            await external("INSERT")
            notes[who(request)] = text

        @app.get("/note", dependencies=[Depends(identify)])
        async def read(request: Request) -> str | None:
            await external("SELECT")
            return notes.get(who(request))

        return app

    return Case(make, write_and_read, "foreign-canary")


def pooled_context(*, is_safe: bool) -> Case:
    """A worker task took the context of who started it; safe: the job brings its own."""
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant")

    def make() -> FastAPI:
        app = FastAPI()
        jobs: asyncio.Queue[tuple[contextvars.Context, asyncio.Future[str]]]
        jobs = asyncio.Queue()
        workers: list[asyncio.Task[None]] = []

        async def work() -> None:
            for _ in range(2):
                context, done = await jobs.get()
                await external("job")
                value: str = context[tenant] if is_safe else tenant.get()
                if not done.done():
                    done.set_result(value)

        @app.post("/note")
        async def note(text: Text) -> str:
            tenant.set(text)
            if not workers:
                workers.append(asyncio.create_task(work(), name="worker"))
            done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            jobs.put_nowait((contextvars.copy_context(), done))
            return await done

        return app

    return Case(make, read_own, "foreign-canary")


def response_cache(*, is_safe: bool) -> Case:
    """Replies are cached by path; safe: by path and user."""

    def make() -> FastAPI:
        app = FastAPI()
        notes: dict[int, str] = {}
        cache: dict[tuple[str, int], str | None] = {}

        @app.post("/note")
        async def write(user: User, text: Text) -> None:
            notes[user] = text

        @app.get("/note")
        async def read(request: Request, user: User) -> str | None:
            key = (request.url.path, user if is_safe else 0)
            if key not in cache:
                await external("SELECT")
                cache[key] = notes.get(user)
            return cache[key]

        return app

    return Case(make, write_and_read, "foreign-canary")


def mutable_default(*, is_safe: bool) -> Case:
    """A default list is shared by all requests; safe: each makes its own."""

    def make() -> FastAPI:
        app = FastAPI()

        def render(text: str, lines: list[str] | None = None, /) -> list[str]:
            lines = [] if lines is None else lines
            lines.append(text)
            return lines

        shared: list[str] = []

        @app.post("/note")
        async def note(text: Text) -> str:
            lines = render(text) if is_safe else render(text, shared)
            await external("LOG")
            return lines[-1]

        return app

    return Case(make, read_own, "foreign-canary")


def streaming(*, is_safe: bool) -> Case:
    """All streams take their parts from one buffer; safe: each has its own."""

    def make() -> FastAPI:
        app = FastAPI()
        shared: list[str] = []

        @app.post("/note")
        async def note(text: Text) -> StreamingResponse:
            buffer = [] if is_safe else shared

            async def parts() -> AsyncIterator[str]:
                buffer.append(text)
                yield "begin "
                await external("MORE")
                yield buffer.pop()

            return StreamingResponse(parts())

        return app

    async def visit(asgi: Asgi, user: int) -> None:
        browser = browser_of(asgi, user)
        canary = browser.canary()
        async with browser.stream("POST", "/note", json={"text": canary}) as reply:
            body = await reply.read()
        assert body == f"begin {canary}".encode()

    return Case(make, visit, "foreign-canary")


def broadcast(*, is_safe: bool) -> Case:
    """A message goes to all sockets; safe: to those of its user."""

    def make() -> FastAPI:
        app = FastAPI()
        sockets: dict[WebSocket, int] = {}

        @app.websocket("/ws")
        async def serve(socket: WebSocket, user: User) -> None:
            await socket.accept()
            sockets[socket] = user
            try:
                while True:
                    text = await socket.receive_text()
                    for other, owner in list(sockets.items()):
                        if owner == user or not is_safe:
                            await other.send_text(text)
            except WebSocketDisconnect:
                pass
            finally:
                sockets.pop(socket, None)

        return app

    async def visit(asgi: Asgi, user: int) -> None:
        browser = browser_of(asgi, user)
        async with browser.websocket("/ws") as socket:
            canary = browser.canary()
            await socket.send(canary)
            assert await socket.receive() == canary

    return Case(make, visit, "foreign-canary")


@dataclass
class Session:
    """A session of a database: holds what is not committed yet."""

    pending: list[str] = field(default_factory=list)


def background_session(*, is_safe: bool) -> Case:
    """A background task writes through a session that others use; safe: its own."""
    stored: dict[int, list[str]] = {}

    def make() -> FastAPI:
        stored.clear()
        app = FastAPI()
        shared = Session()

        async def save(session: Session, user: int, text: str) -> None:
            session.pending.append(text)
            await external("FLUSH")
            stored[user] = list(session.pending)
            session.pending.clear()

        @app.post("/note")
        async def note(user: User, text: Text, tasks: BackgroundTasks) -> str:
            tasks.add_task(save, Session() if is_safe else shared, user, text)
            return text

        return app

    def check(_: Asgi) -> None:
        assert all(len(texts) == 1 for texts in stored.values()), "mixed sessions"

    return Case(make, read_own, "assertion", check)


def dirty_connection(*, is_safe: bool) -> Case:
    """A stream that its client leaves returns its connection as it is; safe: reset."""

    def make() -> FastAPI:
        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
            yield {"free": [{"tenant": None}, {"tenant": None}]}

        app = FastAPI(lifespan=lifespan)

        @app.get("/rows")
        async def rows(request: Request, user: User) -> StreamingResponse:
            connection = request.state.free.pop()

            async def parts() -> AsyncIterator[str]:
                try:
                    connection["tenant"] = user
                    yield "begin"
                    await external("ROWS")
                    yield "end"
                    connection["tenant"] = None
                finally:
                    if is_safe:
                        connection["tenant"] = None
                    request.state.free.append(connection)

            return StreamingResponse(parts())

        return app

    async def visit(asgi: Asgi, user: int) -> None:
        assert (await browser_of(asgi, user).get("/rows")).text == "beginend"

    def check(asgi: Asgi) -> None:
        tenants = [connection["tenant"] for connection in asgi.state["free"]]
        assert tenants == [None, None], "a connection went back with its tenant set"

    return Case(make, visit, "assertion", check, {"cancel": "user*/GET*"})


def middleware_cookie(*, is_safe: bool) -> Case:
    """A middleware keeps the session of the last cookie; safe: it looks it up."""

    def make() -> FastAPI:
        app = FastAPI()
        names: dict[str, str] = {}
        last: list[str] = []

        async def session(
            request: Request, call_next: Callable[[Request], Awaitable[Response]]
        ) -> Response:
            last[:] = [request.cookies.get("sid", "")]
            request.state.sid = last[0]
            return await call_next(request)

        app.add_middleware(BaseHTTPMiddleware, dispatch=session)

        @app.post("/login")
        async def login(response: Response, user: User, text: Text) -> None:
            names[str(user)] = text
            response.set_cookie("sid", str(user))

        @app.get("/name")
        async def name(request: Request) -> str:
            await external("SELECT")
            return names[request.state.sid if is_safe else last[0]]

        return app

    async def visit(asgi: Asgi, user: int) -> None:
        browser = browser_of(asgi, user)
        canary = browser.canary()
        await browser.post("/login", json={"text": canary})
        assert browser.cookies.get("sid") == str(user)
        assert (await browser.get("/name")).json() == canary

    return Case(make, visit, "foreign-canary")


CASES = [
    current_user,
    pooled_context,
    response_cache,
    mutable_default,
    streaming,
    broadcast,
    background_session,
    dirty_connection,
    middleware_cookie,
]
