"""Asgi as a server: startup and shutdown of the app, and what becomes of its errors."""

import asyncio
from typing import Any

import pytest

from test_framework.explore import (
    Asgi,
    Conclusion,
    Scenario,
    explore,
)
from test_framework.explore.asgi import (
    AppError,
    ConnectionLostError,
    LifespanError,
    ProtocolError,
)
from test_framework.explore.loop import ExplorationLoop
from test_framework.explore.schedule import Fidelity
from tests.unit.explore.asgi_app import (
    Handler,
    Receive,
    Send,
    answer,
    mirror,
    run,
)


def lively(log: list[str]) -> Handler:
    """Return an app with a lifespan that counts requests in its state."""

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            log.append((await receive())["type"])
            scope["state"]["pool"] = ["pool"]
            await send({"type": "lifespan.startup.complete"})
            log.append((await receive())["type"])
            await send({"type": "lifespan.shutdown.complete"})
            return
        scope["state"]["mine"] = scope["path"]
        scope["state"]["pool"].append(scope["path"])
        await answer(send, ",".join(sorted(scope["state"])).encode())

    return app


def test_lifespan_surrounds_the_requests() -> None:
    """Startup comes first, shutdown last, and every request gets a copy of the state."""
    log: list[str] = []

    async def visit(asgi: Asgi) -> list[str]:
        log.append("visit")
        first = (await asgi.browser(0).get("/1")).text
        assert asgi.state == {"pool": ["pool", "/1"]}
        return [first, (await asgi.browser(1).get("/2")).text]

    assert run(lively(log), visit) == ["mine,pool", "mine,pool"]
    assert log == ["lifespan.startup", "visit", "lifespan.shutdown"]


def test_scenario_starts_and_stops_its_app() -> None:
    """A Scenario enters the app of its setup in every run, and leaves it."""
    log: list[str] = []

    async def visit(asgi: Asgi, user: int) -> None:
        await asgi.browser(user).get("/")

    report = explore(
        Scenario(lambda: Asgi(lively(log)), visit, users=2), budget=60, seed=1
    )

    assert report.conclusion is Conclusion.PROVEN, report.text()
    assert log[:4] == ["lifespan.startup", "lifespan.shutdown"] * 2
    assert log.count("lifespan.startup") == log.count("lifespan.shutdown")


def test_failed_startup_and_shutdown_are_told() -> None:
    """An app that says it failed, or raises while it starts, ends the run with that."""

    async def refuse(_: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    async def crash(_: dict[str, Any], receive: Receive, __: Send) -> None:
        await receive()
        raise KeyError("url")

    async def limp(_: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.failed"})

    async def stay(_: Asgi) -> None:
        pass

    with pytest.raises(LifespanError, match=r"startup of the app failed: no database"):
        run(refuse, stay)
    with pytest.raises(KeyError, match="url"):
        run(crash, stay)
    with pytest.raises(LifespanError, match="shutdown"):
        run(limp, stay)


def test_app_without_lifespan_is_served() -> None:
    """An app that does not know the scope is served all the same, as by uvicorn."""

    async def quiet(scope: dict[str, Any], _: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await answer(send, b"ok")

    async def get(asgi: Asgi) -> int:
        return (await asgi.browser(0).get("/")).status

    assert run(mirror, get) == 200
    assert run(quiet, get) == 200


async def broken(scope: dict[str, Any], _: Receive, send: Send) -> None:
    """Raise before, in or after the reply; or answer out of turn."""
    path = scope["path"]
    if path == "/before":
        raise KeyError("before")
    if path == "/cancelled":
        raise asyncio.CancelledError
    if path == "/nothing":
        return
    if path == "/first":
        await send({"type": "http.response.body", "body": b""})
    lengths = {"/longer": b"0", "/shorter": b"2"}
    length = [(b"Content-Length", lengths[path])] if path in lengths else []
    await send({"type": "http.response.start", "status": 200, "headers": length})
    if path == "/twice":
        await send({"type": "http.response.start", "status": 200})
    if path == "/in":
        raise KeyError("in")
    await send({"type": "http.response.body", "body": b"x"})
    if path == "/late":
        await send({"type": "http.response.body", "body": b"y"})
    await asyncio.sleep(1)
    raise KeyError("after")


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/before", KeyError),
        ("/in", KeyError),
        ("/nothing", ProtocolError),
        ("/first", ProtocolError),
        ("/twice", ProtocolError),
        ("/late", ProtocolError),
        ("/longer", ProtocolError),
        ("/shorter", ProtocolError),
        ("/cancelled", AppError),
    ],
)
def test_error_of_the_app_reaches_the_user(path: str, error: type[Exception]) -> None:
    """What the app raises is raised where its user awaits the reply."""

    async def visit(asgi: Asgi) -> None:
        with pytest.raises(error):
            await asgi.browser(0).get(path)
        assert [(one.user, one.request) for one in asgi.errors] == [(0, f"GET {path}")]

    run(broken, visit, lifespan=False)


def test_error_of_the_app_becomes_a_status_on_demand() -> None:
    """As in a server: status 500, or a reply that is cut off."""

    async def visit(asgi: Asgi) -> None:
        browser = asgi.browser(0)
        reply = await browser.get("/before")
        assert (reply.status, reply.text) == (500, "Internal Server Error")
        with pytest.raises(ConnectionLostError, match="KeyError"):
            await browser.get("/in")
        assert (await browser.get("/after")).text == "x"
        await asgi.settle()
        assert [str(one.error) for one in asgi.errors] == [
            "'before'",
            "'in'",
            "'after'",
        ]

    loop = ExplorationLoop(Fidelity.FIFO)
    run(broken, visit, loop=loop, lifespan=False, app_errors="reply")
    assert loop.errors == []


def test_error_after_the_reply_is_a_failure_of_the_run() -> None:
    """An exception that no reply can tell is told to the loop."""

    async def visit(asgi: Asgi, user: int) -> None:
        await asgi.browser(user).get("/after")

    report = explore(
        Scenario(lambda: Asgi(broken, lifespan=False), visit, users=1), budget=5
    )

    assert report.witness is not None, report.text()
    failure = report.witness.failure
    assert failure.kind == "loop-error"
    assert "GET /after of user[0] failed after it had answered" in failure.message


@pytest.mark.parametrize("fidelity", ["fifo", "await"])
def test_app_that_remembers_a_run_is_refused_with_both_ends(fidelity: str) -> None:
    """A global of the app that outlives a run is told by what it changes."""
    seen: set[str] = set()

    async def app(scope: dict[str, Any], _: Receive, send: Send) -> None:
        await answer(send, b"again" if scope["path"] in seen else b"new")
        seen.add(scope["path"])
        # Work after the reply: a run that passes waits for it, one that fails does not.
        await asyncio.sleep(1)

    async def visit(asgi: Asgi, user: int) -> None:
        reply = await asgi.browser(user).get(f"/{user}")
        assert reply.text == "new", f"user[{user}] got {reply.text!r}"

    report = explore(
        Scenario(lambda: Asgi(app, lifespan=False), visit),
        fidelity=fidelity,
        budget=60,
        seed=1,
    )

    assert report.conclusion is Conclusion.INCONCLUSIVE
    assert "user[0] got 'again'" in report.claim
    assert " ?" not in report.claim
