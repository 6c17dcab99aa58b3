"""FastAPI apps that leak between users are found; their safe siblings are quiet."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import (
    BackgroundTasks,
    FastAPI,
    HTTPException,
    Request,
    Response,
    WebSocket,
)
from fastapi.responses import StreamingResponse
from starlette.middleware.base import BaseHTTPMiddleware

from test_framework.explore import (
    Asgi,
    Conclusion,
    Report,
    Scenario,
    explore,
    load_scenario,
)
from tests.unit.explore.asgi_leaks import CASES, Case, Visit

ROOT = Path(__file__).parents[3]


@pytest.mark.power
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
@pytest.mark.parametrize("fidelity", ["fifo", "await"])
def test_leaking_app_is_found(case: Callable[..., Case], fidelity: str) -> None:
    """The sabotaged app is found by the failure that it is."""
    unsafe = case(is_safe=False)
    report = explore(
        unsafe.scenario(), fidelity=fidelity, budget=60, seed=1, **unsafe.options
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
        budget=60,
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
        return explore(scenario, budget=60)

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
        budget=60,
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
            budget=60,
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

    report = explore(load_scenario(f"{file}::notes"), budget=60, seed=1)

    assert report.witness is not None, report.text()
    assert report.witness.failure.kind == "foreign-canary"
    assert report.witness.failure.where.endswith("test_notes.py:36")
    assert "at test_notes.py:36" in page
