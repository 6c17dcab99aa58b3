"""FastAPI apps that leak between users are found; their safe siblings are quiet."""

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import (
    BackgroundTasks,
    Body,
    Depends,
    FastAPI,
    Header,
    HTTPException,
    Request,
    Response,
    WebSocket,
    WebSocketDisconnect,
)
from fastapi.responses import StreamingResponse
from starlette.middleware.base import BaseHTTPMiddleware

from test_framework.explore import (
    Asgi,
    Conclusion,
    Report,
    Scenario,
    explore,
    external,
    load_scenario,
)

ROOT = Path(__file__).parents[3]
Visit = Callable[[Asgi, int], Coroutine[Any, Any, None]]
Text = Annotated[str, Body(embed=True)]
User = Annotated[int, Header(alias="x-user")]


@dataclass
class Case:
    """An app to be made anew for each run, what its users do, and what must hold."""

    make: Callable[[], FastAPI]
    visit: Callable[[Asgi, int], Any]
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


@pytest.mark.power
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
@pytest.mark.parametrize("fidelity", ["fifo", "await"])
def test_leaking_app_is_found(case: Callable[..., Case], fidelity: str) -> None:
    """The sabotaged app is found by the failure that it is."""
    unsafe = case(is_safe=False)
    report = explore(
        unsafe.scenario(), fidelity=fidelity, budget=10, seed=1, **unsafe.options
    )

    assert report.conclusion is Conclusion.FOUND, report.text()
    assert report.witness is not None
    assert report.witness.failure.kind == unsafe.kind, report.text()
    assert report.witness.is_confirmed is (
        True if report.witness.schedule.fidelity == "fifo" else None
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
@pytest.mark.parametrize("fidelity", ["fifo", "await"])
def test_sound_app_is_left_alone(case: Callable[..., Case], fidelity: str) -> None:
    """The safe sibling passes dozens of orders, and the faults if there are any."""
    safe = case(is_safe=True)
    report = explore(
        safe.scenario(),
        fidelity=fidelity,
        budget=10,
        schedules=60,
        seed=1,
        **safe.options,
    )

    assert report.witness is None, report.text()
    assert report.conclusion is not Conclusion.INCONCLUSIVE, report.text()


def test_status_of_an_http_exception_is_a_reply() -> None:
    """What FastAPI turns into a reply is one; what it lets out is a failure with its line."""

    def make() -> FastAPI:
        app = FastAPI()

        @app.get("/{number}")
        async def fail(number: int) -> None:
            if number == 404:
                raise HTTPException(404, "no such note")
            raise ZeroDivisionError(number)

        return app

    async def missing(asgi: Asgi, user: int) -> None:
        reply = await asgi.browser(user).get("/404")
        assert (reply.status, reply.json()) == (404, {"detail": "no such note"})
        assert (await asgi.browser(user).get("/x")).status == 422

    async def broken(asgi: Asgi, user: int) -> None:
        await asgi.browser(user).get("/500")

    async def unharmed(asgi: Asgi, user: int) -> None:
        assert (await asgi.browser(user).get("/500")).status == 500

    def explored(visit: Any, app_errors: Any = "raise") -> Any:  # noqa: ANN401  # a user
        scenario = Scenario(lambda: Asgi(make(), app_errors=app_errors), visit, users=1)
        return explore(scenario, budget=5)

    assert explored(missing).witness is None
    assert explored(unharmed, "reply").witness is None
    failure = explored(broken).witness.failure
    assert failure.kind == "exception"
    assert "ZeroDivisionError" in failure.message
    assert "test_asgi_fastapi.py" in failure.where


@pytest.mark.parametrize("fidelity", ["fifo", "await"])
def test_app_that_asks_learns_that_its_client_has_gone(fidelity: str) -> None:
    """``request.is_disconnected`` turns true when the user gives up, and not before."""
    polls: list[bool] = []
    lengths: set[int] = set()

    def make() -> FastAPI:
        app = FastAPI()
        polls.clear()

        @app.get("/")
        async def poll(request: Request) -> None:
            while not polls or not polls[-1]:
                polls.append(await request.is_disconnected())
                await asyncio.sleep(1)

        return app

    async def visit(asgi: Asgi, user: int) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(4.5):
                await asgi.browser(user).get("/")

    def check(_: Asgi) -> None:
        # The user may give up before the request has arrived.
        lengths.add(len(polls))
        assert not any(polls[:-1])
        assert all(polls[-1:])

    report = explore(
        Scenario(lambda: Asgi(make()), visit, check, users=1),
        fidelity=fidelity,
        schedules=50,
        budget=10,
        seed=1,
    )

    assert report.witness is None, report.text()
    assert 6 in lengths


def test_endpoint_that_only_reads_may_let_the_end_out() -> None:
    """A socket whose user closes it ends many an endpoint by WebSocketDisconnect: no bug."""

    def make() -> FastAPI:
        app = FastAPI()

        @app.websocket("/ws")
        async def serve(socket: WebSocket) -> None:
            await socket.accept()
            while True:
                text = await socket.receive_text()
                if text == "fail":
                    raise KeyError(text)
                await socket.send_text(text)

        return app

    async def talk(asgi: Asgi, user: int) -> None:
        async with asgi.browser(user).websocket("/ws") as socket:
            await socket.send("hello")
            assert await socket.receive() == "hello"

    async def break_it(asgi: Asgi, user: int) -> None:
        async with asgi.browser(user).websocket("/ws") as socket:
            await socket.send("fail")
            await socket.receive()

    def explored(visit: Visit) -> Report:
        return explore(
            Scenario(lambda: Asgi(make()), visit, users=1),
            cancel="user*",
            schedules=60,
            budget=10,
            seed=1,
        )

    quiet, loud = explored(talk), explored(break_it)
    assert quiet.witness is None, quiet.text()
    assert loud.witness is not None
    assert "KeyError" in loud.witness.failure.message


def test_middleware_and_background_tasks_end_in_every_order() -> None:
    """call_next, streams and background tasks neither hang nor leave tasks behind."""

    def make() -> FastAPI:
        app = FastAPI()

        async def nothing(
            request: Request, call_next: Callable[[Request], Awaitable[Response]]
        ) -> Response:
            return await call_next(request)

        app.add_middleware(BaseHTTPMiddleware, dispatch=nothing)

        @app.get("/")
        async def stream(tasks: BackgroundTasks) -> StreamingResponse:
            async def parts() -> AsyncIterator[str]:
                yield "a"
                await asyncio.sleep(0.1)
                yield "b"

            tasks.add_task(asyncio.sleep, 1)
            return StreamingResponse(parts(), background=tasks)

        return app

    async def visit(asgi: Asgi, user: int) -> None:
        assert (await asgi.browser(user).get("/")).text == "ab"

    for fidelity in ("fifo", "await"):
        report = explore(
            Scenario(lambda: Asgi(make()), visit),
            fidelity=fidelity,
            cancel="user*",
            schedules=120,
            budget=20,
            seed=1,
        )
        assert report.witness is None, report.text()
        assert not any("cut off" in note for note in report.notes), report.text()


@pytest.mark.power
def test_first_example_of_the_docs_runs_as_it_is(tmp_path: Path) -> None:
    """docs/explore-asgi.md opens with a program that finds what the page says."""
    page = (ROOT / "docs" / "explore-asgi.md").read_text(encoding="utf-8")
    program = page.partition("```python\n")[2].partition("```")[0]
    file = tmp_path / "test_notes.py"
    file.write_text(program, encoding="utf-8")

    report = explore(load_scenario(f"{file}::notes"), budget=5, seed=1)

    assert report.witness is not None, report.text()
    assert report.witness.failure.kind == "foreign-canary"
    assert report.witness.failure.where.endswith("test_notes.py:36")
    assert "at test_notes.py:36" in page
