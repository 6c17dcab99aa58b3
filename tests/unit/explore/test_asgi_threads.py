"""Sync endpoints: their threads become jobs, one step each, and are put back."""

import asyncio
import contextvars
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
from anyio._backends._asyncio import AsyncIOBackend
from fastapi import Depends, FastAPI, Request

from test_framework.explore import Asgi, Conclusion, Report, Scenario, explore, external
from test_framework.explore.explorer import prepared
from test_framework.explore.loop import ExplorationLoop
from test_framework.explore.names import FIRST_EVENT, job_name
from test_framework.explore.schedule import Fidelity
from test_framework.explore.schedulers import Stock

ROOT = Path(__file__).parents[3]


def counter(*, is_safe: bool) -> FastAPI:
    """Return an app whose sync endpoints read and write a counter."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        yield {"box": {"value": 0}}

    app = FastAPI(lifespan=lifespan)

    @app.get("/value")
    def read(request: Request) -> int:
        return int(request.state.box["value"])

    @app.put("/value/{value}")
    def write(request: Request, value: int) -> None:
        time.sleep(0.1)  # noqa: TID251  # blocking is what a thread is for
        request.state.box["value"] = value

    @app.post("/value")
    def add(request: Request) -> None:
        request.state.box["value"] += 1

    async def visit_late(asgi: Asgi, user: int) -> None:
        browser = asgi.browser(user)
        if is_safe:
            await browser.post("/value")
        else:
            value = (await browser.get("/value")).json()
            await browser.put(f"/value/{value + 1}")

    app.state.visit = visit_late
    return app


def all_counted(asgi: Asgi) -> None:
    """Every user was counted."""
    writes = [task for task in asgi.tasks if task.get_name().startswith("P")]
    assert asgi.state["box"]["value"] == len(writes)


def explored(app: FastAPI, **options: Any) -> Report:  # noqa: ANN401  # of explore
    """Explore two users of an app."""
    return explore(
        Scenario(lambda: Asgi(app), app.state.visit, all_counted), seed=1, **options
    )


@pytest.mark.power
@pytest.mark.parametrize("fidelity", ["fifo", "await"])
def test_lost_update_of_sync_endpoints_is_found(fidelity: str) -> None:
    """Jobs of two users are put in the order that loses an update; one job alone is not cut."""
    report = explored(counter(is_safe=False), fidelity=fidelity, budget=5)

    assert report.conclusion is Conclusion.FOUND, report.text()
    assert any("jobs ran as one step" in note for note in report.notes)

    quiet = explored(counter(is_safe=True), fidelity=fidelity, budget=1)
    assert quiet.witness is None, quiet.text()


def test_jobs_are_named_by_their_endpoint() -> None:
    """A witness says which sync function arrives, not only that some job does."""
    loop = ExplorationLoop(Fidelity.FIFO)

    async def main() -> None:
        await anyio.to_thread.run_sync(partial(partial(int, 1)))
        await asyncio.to_thread(str, 1)

    with prepared(loop):
        loop.run(main(), Stock().begin)

    assert loop.name(FIRST_EVENT) == "main/int[0]"
    assert loop.name(FIRST_EVENT - 1) == "main/str[0]"
    assert job_name(print) == "print"
    assert job_name(object()) == "job"


def test_sync_dependency_and_its_exit_run_as_jobs() -> None:
    """Dependencies with yield open and close in jobs, with the context of the request."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    log: list[str] = []

    def session() -> Iterator[str]:
        log.append("open")
        yield "session"
        log.append("close")

    async def remember(request: Request) -> None:
        variable.set(request.url.path)

    app = FastAPI(dependencies=[Depends(remember)])

    @app.get("/path")
    def endpoint(value: Annotated[str, Depends(session)]) -> str:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return f"{value} {variable.get()}"

    async def visit(asgi: Asgi, user: int) -> None:
        reply = await asgi.browser(user).get("/path")
        assert reply.json() == "session /path"

    report = explore(Scenario(lambda: Asgi(app), visit, users=1), budget=5)

    assert report.witness is None, report.text()
    assert log[:4] == ["open", "close", "open", "close"]


def test_limiter_of_anyio_still_limits() -> None:
    """No more jobs wait at once than the limiter has tokens, and each run has its own."""

    async def main() -> None:
        limiter = anyio.to_thread.current_default_thread_limiter()
        assert limiter.total_tokens == 40
        limiter.total_tokens = 1
        one = asyncio.create_task(anyio.to_thread.run_sync(int))
        two = asyncio.create_task(anyio.to_thread.run_sync(int))
        for _ in range(20):  # more steps than both take; no order may spin for ever
            assert limiter.borrowed_tokens <= 1
            await asyncio.sleep(0)
        assert await one == await two == 0

    report = explore(main, budget=20, seed=1, fidelity="await", schedules=50)

    assert report.witness is None, report.text()
    assert report.schedules == 50


@pytest.mark.parametrize("is_abandoned", [False, True])
def test_cancelled_waiter_is_shielded_as_with_threads(*, is_abandoned: bool) -> None:
    """A cancelled task waits for its job once that has begun, unless it may abandon it."""
    logs: set[tuple[str, ...]] = set()

    async def main() -> None:
        log: list[str] = []

        async def work() -> None:
            await anyio.to_thread.run_sync(
                log.append, "ran", abandon_on_cancel=is_abandoned
            )
            log.append("went on")

        async with anyio.create_task_group() as group:
            group.start_soon(work)
            await external("stop")
            group.cancel_scope.cancel()
        logs.add(tuple(log))

    report = explore(main, budget=20, seed=1)

    assert report.conclusion is Conclusion.PROVEN, report.text()
    assert ("ran", "went on") in logs
    assert (() in logs) is is_abandoned


def test_call_back_into_the_loop_is_refused_with_its_cure() -> None:
    """A job cannot wait for the loop that stands still: that is said, not hung."""

    async def nothing() -> None:
        pass

    async def main() -> None:
        await anyio.to_thread.run_sync(anyio.from_thread.run, nothing)

    report = explore(main, budget=1)

    assert report.conclusion is Conclusion.INCONCLUSIVE
    assert "in the loop from a job" in report.claim
    assert "Make the endpoint async" in report.claim


def test_sleep_outside_of_a_job_is_still_refused() -> None:
    """In a step of the loop time.sleep stops every user; in a job it takes no time."""

    async def in_job() -> None:
        before = time.monotonic()
        await asyncio.to_thread(time.sleep, 3600)  # noqa: TID251  # a thread may
        assert time.monotonic() - before < 1000

    async def in_step() -> None:
        time.sleep(3600)  # noqa: ASYNC251, TID251  # the misuse

    assert explore(in_job, budget=1).witness is None
    refused = explore(in_step, budget=1)
    assert refused.conclusion is Conclusion.INCONCLUSIVE
    assert "calls time.sleep(3600)" in refused.claim


def test_anyio_is_put_back() -> None:
    """After an exploration the threads of anyio are threads again, also for other loops."""
    before = dict(vars(AsyncIOBackend))
    seen = []

    async def elsewhere() -> str:
        return await anyio.to_thread.run_sync(lambda: "done")

    async def main() -> None:
        seen.append(vars(AsyncIOBackend)["run_sync_in_worker_thread"])
        await anyio.to_thread.run_sync(int)

    explore(main, budget=1)

    assert seen[0] is not before["run_sync_in_worker_thread"]
    assert dict(vars(AsyncIOBackend)) == before
    assert asyncio.run(elsewhere()) == "done"


@pytest.mark.slow
def test_anyio_is_not_imported_and_may_come_late() -> None:
    """The explorer does not load anyio; an app that loads it in its setup is served."""
    program = textwrap.dedent(
        """
        import sys
        from test_framework.explore import Asgi, Scenario, explore

        async def plain(scope, receive, send):
            assert scope["type"] == "http"
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body"})

        async def visit(asgi, user):
            await asgi.browser(user).get("/")

        explore(Scenario(lambda: Asgi(plain), visit), budget=1)
        assert "anyio" not in sys.modules

        def setup():
            from fastapi import FastAPI
            app = FastAPI()
            app.get("/")(lambda: "sync")
            return Asgi(app)

        report = explore(Scenario(setup, visit), budget=1, schedules=5)
        assert report.witness is None, report.text()
        assert any("jobs" in note for note in report.notes), report.text()
        """
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
