"""Faults of an app in process: what follows from one is no finding, the rest is."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from fastapi import BackgroundTasks, FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from starlette.middleware.base import BaseHTTPMiddleware

from test_framework.explore import (
    Asgi,
    Conclusion,
    Report,
    Scenario,
    explore,
    external,
)
from tests.unit.explore.asgi_leaks import Visit


def notes(*, forgets: bool = False) -> FastAPI:
    """Return an app that keeps notes in a database; ``forgets`` to unlock after an error."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        await external("connect")
        yield {"notes": {}, "locked": []}

    app = FastAPI(lifespan=lifespan)

    @app.put("/note/{user}")
    async def write(request: Request, user: str) -> None:
        text = await request.json()
        request.state.locked.append(user)
        try:
            await external("INSERT")
            request.state.notes[user] = text
        except OSError:
            if not forgets:
                request.state.locked.remove(user)
            raise
        request.state.locked.remove(user)

    @app.get("/note/{user}")
    async def read(request: Request, user: str, tasks: BackgroundTasks) -> str | None:
        tasks.add_task(external, "count the readers")
        found: str | None = request.state.notes.get(user)
        return found

    return app


async def write_and_read(asgi: Asgi, user: int) -> None:
    """Write a note and read it again."""
    browser = asgi.browser(user)
    canary = browser.canary()
    assert (await browser.put(f"/note/{user}", json=canary)).status == 200
    assert (await browser.get(f"/note/{user}")).json() == canary


def unlocked(asgi: Asgi) -> None:
    """Check that no note is locked at the end."""
    assert asgi.state["locked"] == []


def explored(visit: Visit, app: FastAPI | None = None, **options: Any) -> Report:  # noqa: ANN401  # options of explore
    """Explore two users of an app, the sound one when none is given."""
    served = notes() if app is None else app
    scenario = Scenario(lambda: Asgi(served), visit, unlocked)
    return explore(scenario, **{"budget": 10, "schedules": 200, "seed": 1, **options})


@pytest.mark.parametrize("fidelity", ["fifo", "await"])
def test_injected_error_that_an_app_lets_out_is_no_finding(fidelity: str) -> None:
    """Neither in the request, where Starlette answers 500 first, nor in its background."""
    report = explored(write_and_read, errors=("OSError",), fidelity=fidelity)

    assert report.witness is None, report.text()
    assert report.conclusion is not Conclusion.INCONCLUSIVE, report.text()


@pytest.mark.parametrize("fidelity", ["fifo", "await"])
def test_errors_strike_the_app_and_not_what_anyio_does_for_it(fidelity: str) -> None:
    """``call_next`` and streams run in groups and streams of anyio, which do not fail."""
    app = FastAPI()

    async def pass_on(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        return await call_next(request)

    app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)

    @app.get("/")
    async def stream() -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            yield "a"
            with contextlib.suppress(OSError):
                await external("SELECT")
            yield "b"

        return StreamingResponse(parts())

    async def visit(asgi: Asgi, user: int) -> None:
        assert (await asgi.browser(user).get("/")).text == "ab"

    report = explore(
        Scenario(lambda: Asgi(app), visit),
        errors=("OSError",),
        fidelity=fidelity,
        schedules=200,
        budget=60,
        seed=1,
    )

    assert report.witness is None, report.text()


@pytest.mark.power
@pytest.mark.parametrize("fidelity", ["fifo", "await"])
def test_state_that_an_injected_error_leaves_wrong_is_found(fidelity: str) -> None:
    """The check sees what the request did not put right."""
    report = explored(
        write_and_read, notes(forgets=True), errors=("OSError",), fidelity=fidelity
    )

    assert report.witness is not None, report.text()
    assert report.witness.failure.kind == "assertion"
    assert "raise OSError in user[0]/PUT /note/0" in report.witness.schedule.text()


def test_user_meets_the_injected_error_of_its_request() -> None:
    """It is raised where the reply is awaited, so a user can try again."""
    tries: set[int] = set()

    async def insist(asgi: Asgi, user: int) -> None:
        browser = asgi.browser(user)
        for count in range(1, 3):
            with contextlib.suppress(OSError):
                await browser.put(f"/note/{user}", json="x")
                tries.add(count)
                break
        assert (await browser.get(f"/note/{user}")).json() == "x"

    report = explored(insist, errors=("OSError",))

    assert report.witness is None, report.text()
    assert tries == {1, 2}


@pytest.mark.parametrize("faults", [{"cancel": True}, {"errors": ("OSError",)}])
def test_no_fault_strikes_the_lifespan(faults: dict[str, Any]) -> None:
    """Nor does a cancellation strike what it started, as no server knows that."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await external("connect")
        stop = asyncio.Event()
        worker = asyncio.create_task(stop.wait())
        yield
        stop.set()
        await worker
        await external("disconnect")

    app = FastAPI(lifespan=lifespan)
    served: list[str] = []

    @app.get("/")
    async def get() -> None:
        served.append("asked")
        await external("SELECT")
        served.append("answered")

    async def visit(asgi: Asgi, user: int) -> None:
        await asgi.browser(user).get("/")

    report = explore(
        Scenario(lambda: Asgi(app), visit), schedules=200, budget=60, seed=1, **faults
    )

    assert report.witness is None, report.text()
    # The requests are struck all the same.
    assert served.count("asked") > served.count("answered")


async def _fail() -> None:
    raise ValueError("no DATABASE_URL\nset one")


@pytest.mark.parametrize("in_group", [False, True])
def test_failed_startup_says_what_was_raised(in_group: bool) -> None:  # noqa: FBT001  # a parameter
    """Starlette sends a whole traceback; its first line says nothing."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if in_group:
            async with asyncio.TaskGroup() as group:
                group.create_task(_fail())
        await _fail()
        yield

    report = explored(write_and_read, app=FastAPI(lifespan=lifespan))

    assert report.claim == (
        "setup failed: LifespanError: The startup of the app failed: "
        "ValueError: no DATABASE_URL"
    )
