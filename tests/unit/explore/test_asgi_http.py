"""Asgi over HTTP: requests, replies, cookies, streams, lifespan, errors, disconnects."""

import asyncio
import contextlib
import contextvars
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from test_framework.core import UsageError
from test_framework.explore import (
    Asgi,
    Cancel,
    Conclusion,
    Disconnect,
    Expire,
    Scenario,
    Schedule,
    explore,
    external,
)
from test_framework.explore.asgi import (
    AppError,
    ConnectionLostError,
    ForeignCanaryError,
    LifespanError,
    ProtocolError,
)
from test_framework.explore.asgi.service import GRACE_S
from test_framework.explore.execution import Runner
from test_framework.explore.faults import FaultPoints
from test_framework.explore.loop import ExplorationLoop
from test_framework.explore.scenario import main_of
from test_framework.explore.schedule import Fidelity
from test_framework.explore.schedulers import Stock
from test_framework.explore.stock import StockLoop

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Handler = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]
Visit = Callable[[Asgi], Awaitable[object]]


async def answer(
    send: Send,
    body: bytes = b"",
    status: int = 200,
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> None:
    """Send a whole reply."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def read(receive: Receive) -> bytes:
    """Return the whole content of a request."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def mirror(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer with what was asked."""
    assert scope["type"] == "http"
    body = await read(receive)
    said = {
        "method": scope["method"],
        "path": scope["path"],
        "raw_path": scope["raw_path"].decode(),
        "query": scope["query_string"].decode(),
        "headers": [
            [name.decode(), value.decode()] for name, value in scope["headers"]
        ],
        "body": body.decode(),
        "scheme": scope["scheme"],
    }
    await answer(send, json.dumps(said).encode())


def run(
    app: Handler,
    visit: Visit,
    fidelity: Fidelity = Fidelity.FIFO,
    loop: ExplorationLoop | None = None,
    **options: Any,  # noqa: ANN401  # options of Asgi
) -> Any:  # noqa: ANN401  # what visit returns
    """Let one visit happen in the order of plain asyncio; return its result."""

    async def main() -> object:
        async with Asgi(app, **options) as asgi:
            return await visit(asgi)

    return (loop or ExplorationLoop(fidelity)).run(main(), Stock().begin)


@pytest.mark.parametrize("fidelity", list(Fidelity))
def test_request_reaches_the_app_as_it_was_said(fidelity: Fidelity) -> None:
    """Method, path, query, headers and content arrive as ASGI says them."""

    async def visit(asgi: Asgi) -> Any:  # noqa: ANN401  # JSON
        browser = asgi.browser(0, headers={"X-Team": "red"})
        reply = await browser.put(
            "/a b/ü?x=1",
            query={"y": [2, 3]},
            headers={"Accept": "text/plain"},
            json={"k": "v"},
        )
        assert reply.status == 200
        return reply.json()

    said = run(mirror, visit, fidelity)

    assert said["method"] == "PUT"
    assert said["path"] == "/a b/ü"
    assert said["raw_path"] == "/a%20b/%C3%BC"
    assert said["query"] == "x=1&y=2&y=3"
    assert said["body"] == '{"k":"v"}'
    assert dict(said["headers"]) == {
        "host": "testserver",
        "x-team": "red",
        "accept": "text/plain",
        "content-type": "application/json",
        "content-length": "9",
    }


def test_content_is_form_text_bytes_or_parts() -> None:
    """Every kind of content has its media type; parts arrive one by one."""

    async def parts() -> AsyncIterator[bytes]:
        yield b"one,"
        yield b"two"

    async def visit(asgi: Asgi) -> list[tuple[str, str | None]]:
        browser = asgi.browser(0)
        replies = [
            await browser.post("/", form={"a": "1 2"}),
            await browser.post("/", body="text"),
            await browser.post("/", body=b"raw", headers={"content-type": "x/y"}),
            await browser.post("/", body=parts()),
        ]
        return [
            (said["body"], dict(said["headers"]).get("content-type"))
            for said in (reply.json() for reply in replies)
        ]

    assert run(mirror, visit) == [
        ("a=1+2", "application/x-www-form-urlencoded"),
        ("text", "text/plain; charset=utf-8"),
        ("raw", "x/y"),
        ("one,two", None),
    ]


def test_reply_to_head_has_no_body() -> None:
    """What an app sends in answer to HEAD stays on the server; its length is told."""

    async def app(_: dict[str, Any], __: Receive, send: Send) -> None:
        await answer(send, b"body", headers=((b"content-length", b"4"),))

    async def visit(asgi: Asgi) -> tuple[bytes, str]:
        reply = await asgi.browser(0).request("HEAD", "/")
        return reply.body, reply.headers["content-length"]

    assert run(app, visit, lifespan=False) == (b"", "4")


def test_wrong_arguments_are_told_with_their_cure() -> None:
    """Two contents, a URL for a path, and an app that was not started are refused."""

    async def both(asgi: Asgi) -> None:
        await asgi.browser(0).post("/", json=1, body=b"2")

    async def url(asgi: Asgi) -> None:
        await asgi.browser(0).get("http://testserver/")

    with pytest.raises(UsageError, match="one of json=, form= and body="):
        run(mirror, both)
    with pytest.raises(UsageError, match="does not begin with '/'"):
        run(mirror, url)
    with pytest.raises(UsageError, match="enter it first"):
        Asgi(mirror).browser(0)
    with pytest.raises(UsageError, match="app_errors='ignore'"):
        Asgi(mirror, app_errors="ignore")  # type: ignore[arg-type]  # the mistake


def test_cookies_are_kept_per_browser_and_path() -> None:
    """A cookie is sent where its path and scheme fit, until it is deleted or expires."""

    async def app(scope: dict[str, Any], _: Receive, send: Send) -> None:
        await answer(
            send,
            dict(scope["headers"]).get(b"cookie", b""),
            headers=tuple(
                (b"set-cookie", value.encode())
                for value in {
                    "/in": ("a=1; Path=/", "b=2; Path=/deep", "c=3; Secure; Path=/"),
                    "/out": ("a=; Max-Age=0; Path=/", "d=4; Max-Age=10; Path=/"),
                    "/past": (
                        "d=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
                        "no pair",
                    ),
                }.get(scope["path"], ())
            ),
        )

    async def visit(asgi: Asgi) -> None:
        browser, other = asgi.browser(0), asgi.browser(0)

        await browser.get("/in")
        assert (await browser.get("/x")).text == "a=1"
        assert (await browser.get("/deep/x")).text == "b=2; a=1"
        assert (await browser.get("/deeper")).text == "a=1"
        assert (await other.get("/x")).text == ""
        assert browser.cookies.get("c") == "3"

        await browser.get("/out")
        assert (await browser.get("/x")).text == "d=4"
        await asyncio.sleep(11)
        assert (await browser.get("/x")).text == ""

        await browser.get("/out")
        await browser.get("/past")
        assert (await browser.get("/x")).text == ""
        browser.cookies.set("own", "5")
        assert (await browser.get("/x")).text == "own=5"
        browser.cookies.clear()
        assert not browser.cookies

    run(app, visit)


def test_secure_cookie_goes_over_https() -> None:
    """A secure service gets its secure cookie back."""

    async def app(scope: dict[str, Any], _: Receive, send: Send) -> None:
        cookie = dict(scope["headers"]).get(b"cookie", b"")
        said = scope["scheme"].encode() + b" " + cookie
        await answer(send, said, headers=((b"Set-Cookie", b"id=1; Secure"),))

    async def visit(asgi: Asgi) -> str:
        browser = asgi.browser(0)
        await browser.get("/")
        reply = await browser.get("/")
        assert reply.headers["set-cookie"] == "id=1; Secure"
        assert reply.headers.all("SET-COOKIE") == ["id=1; Secure"]
        assert list(reply.headers) == ["set-cookie"]
        assert "date" not in reply.headers
        return reply.text

    assert run(app, visit, is_secure=True) == "https id=1"


def test_reply_is_read_while_it_comes() -> None:
    """A stream yields each part before the app makes the next one."""
    made: list[int] = []

    async def app(_: dict[str, Any], __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        for number in range(3):
            await asyncio.sleep(1)
            made.append(number)
            await send(
                {
                    "type": "http.response.body",
                    "body": b"%d" % number,
                    "more_body": True,
                }
            )
        await send({"type": "http.response.body"})

    async def visit(asgi: Asgi) -> list[tuple[bytes, int]]:
        async with asgi.browser(0).stream("GET", "/") as reply:
            assert reply.status == 200
            return [(part, len(made)) async for part in reply]

    assert run(app, visit, lifespan=False) == [(b"0", 1), (b"1", 2), (b"2", 3)]


def test_client_that_stops_reading_disconnects() -> None:
    """Leaving a stream is told to the app, whose later sends are dropped."""
    seen = []

    async def app(_: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"1", "more_body": True})
        seen.append(await receive())
        await send({"type": "http.response.body", "body": b"2"})
        seen.append({"type": "done"})

    async def visit(asgi: Asgi) -> None:
        async with asgi.browser(0).stream("GET", "/") as reply:
            async for _ in reply:
                break

    run(app, visit, lifespan=False)

    assert seen == [{"type": "http.disconnect"}, {"type": "done"}]


def test_receive_says_disconnect_after_the_reply() -> None:
    """What runs after the reply learns that there is nothing more, at once."""
    seen = []

    async def app(_: dict[str, Any], receive: Receive, send: Send) -> None:
        await answer(send)
        seen.append((await receive())["type"])

    async def visit(asgi: Asgi) -> None:
        await asgi.browser(0).post("/", body=b"unread")

    run(app, visit, lifespan=False)

    assert seen == ["http.disconnect"]


def test_user_that_times_out_leaves() -> None:
    """A user whose patience ends is a client that goes away; the app goes on."""
    seen = []

    async def app(_: dict[str, Any], receive: Receive, __: Send) -> None:
        await receive()
        seen.append((await receive())["type"])

    async def visit(asgi: Asgi) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await asgi.browser(0).get("/slow")

    run(app, visit, lifespan=False)

    assert seen == ["http.disconnect"]


# -- lifespan ----------------------------------------------------------------------------


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
        Scenario(lambda: Asgi(lively(log)), visit, users=2), budget=5, seed=1
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


# -- errors ------------------------------------------------------------------------------


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


# -- whose is it -------------------------------------------------------------------------


def board() -> Handler:
    """Return an app that shows to everybody what was posted last."""
    last = b""

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        nonlocal last
        if scope["method"] == "POST":
            last = await read(receive)
        if scope["path"] == "/header":
            await answer(send, headers=((b"x-last", last),))
        else:
            await answer(send, last)

    return app


@pytest.mark.parametrize(
    ("path", "place"), [("/", "body at byte 5"), ("/header", "header x-last at byte 5")]
)
def test_foreign_canary_names_both_users_and_the_place(path: str, place: str) -> None:
    """The failure says who was given whose canary by which request and where it stood."""

    async def visit(asgi: Asgi) -> None:
        await asgi.browser(0).post("/", body="text " + asgi.browser(0).canary())
        await asgi.browser(3).get(path)

    with pytest.raises(ForeignCanaryError) as caught:
        run(board(), visit, lifespan=False)

    error = caught.value
    assert (error.reader, error.owner, str(error.canary)) == (3, 0, "u0/0")
    assert str(error) == (
        f"user[3] was given the canary u0/0 of user[0] by GET {path}: {place}."
    )


def test_shared_canaries_are_no_leak() -> None:
    """Public values, own values and those of members of one room may be read."""

    async def visit(asgi: Asgi) -> None:
        own, other = asgi.browser(0), asgi.browser(1)
        await own.post("/", body=own.canary(is_public=True))
        await other.get("/")
        await own.post("/", body=own.canary())
        await own.get("/")
        await asgi.browser(2).get("/")

    run(board(), visit, may_see=lambda reader, owner: (reader, owner) == (2, 0))


@pytest.mark.power
def test_swallowed_canary_is_found_all_the_same() -> None:
    """A user that catches every exception hides no leak."""

    async def visit(asgi: Asgi, user: int) -> None:
        browser = asgi.browser(user)
        await browser.post("/", body=browser.canary())
        with contextlib.suppress(Exception):
            await browser.get("/")

    report = explore(
        Scenario(lambda: Asgi(board(), lifespan=False), visit), budget=5, seed=1
    )

    assert report.witness is not None, report.text()
    assert report.witness.failure.kind == "foreign-canary"
    assert report.witness.is_confirmed is True


@pytest.mark.power
def test_canary_split_over_parts_of_a_stream_is_found_at_once() -> None:
    """Half a canary in each of two parts is a whole one, seen before the stream ends."""
    canaries: list[str] = []
    taken: list[bytes] = []

    async def app(_: dict[str, Any], __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        half = len(canaries[0]) // 2
        for part in (canaries[0][:half], canaries[0][half:], "the rest"):
            body = part.encode()
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body"})

    async def visit(asgi: Asgi, user: int) -> None:
        canaries[:] = [asgi.browser(0).canary()]
        taken.clear()
        async with asgi.browser(user).stream("GET", "/") as reply:
            async for part in reply:
                taken.append(part)  # noqa: PERF401  # what came before the error counts

    run(app, lambda asgi: visit(asgi, 0), lifespan=False)
    assert b"".join(taken).decode() == f"{canaries[0]}the rest"
    with pytest.raises(ForeignCanaryError, match="stream at byte 0"):
        run(app, lambda asgi: visit(asgi, 1), lifespan=False)
    assert b"".join(taken).decode() == canaries[0][:18]


def test_headers_of_a_stream_are_looked_at() -> None:
    """A foreign canary in the head of a stream is found before its first part."""

    async def visit(asgi: Asgi) -> None:
        await asgi.browser(0).post("/", body=asgi.browser(0).canary())
        async with asgi.browser(1).stream("GET", "/header"):
            pass

    with pytest.raises(ForeignCanaryError, match="header x-last"):
        run(board(), visit, lifespan=False)


@pytest.mark.power
def test_compressed_stream_is_looked_at_as_a_whole() -> None:
    """A canary that no part shows is found when the stream has ended."""
    canaries: list[str] = []

    async def app(_: dict[str, Any], __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        packed = gzip.compress(canaries[0].encode(), mtime=0)
        for part in (packed[:20], packed[20:]):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body"})

    async def visit(asgi: Asgi) -> None:
        canaries[:] = [asgi.browser(0).canary()]
        async with asgi.browser(1).stream("GET", "/") as reply:
            await reply.read()

    with pytest.raises(ForeignCanaryError, match="gzip"):
        run(app, visit, lifespan=False)


# -- orders and faults -------------------------------------------------------------------


def test_request_is_a_task_of_its_own_with_the_context_of_the_server() -> None:
    """Tasks are named by user and request; what a user sets in its context stays there."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("v", default="none")

    async def app(_: dict[str, Any], __: Receive, send: Send) -> None:
        await answer(send, variable.get().encode())

    async def visit(asgi: Asgi, user: int) -> None:
        variable.set("client")
        browser = asgi.browser(user)
        assert (await browser.get("/a")).text == "none"
        assert (await browser.get("/a")).text == "none"

    loop = ExplorationLoop(Fidelity.FIFO)
    scenario = Scenario(lambda: Asgi(app, lifespan=False), visit)
    assert Runner(main_of(scenario, None), loop).run(Stock()) is None

    assert [loop.name(number) for number in range(len(loop.tasks))] == [
        "main",
        "user[0]",
        "user[1]",
        "user[0]/GET /a",
        "user[1]/GET /a",
        "user[0]/GET /a[1]",
        "user[1]/GET /a[1]",
    ]


@pytest.mark.power
def test_arrivals_are_choices_at_fifo() -> None:
    """A check that only holds when requests do not overlap is broken at fifo."""

    async def app(scope: dict[str, Any], _: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise ValueError(scope["type"])
        value = state["value"]
        await asyncio.sleep(0)
        state["value"] = value + 1
        await answer(send)

    state = {"value": 0}

    def setup() -> Asgi:
        state["value"] = 0
        return Asgi(app)

    async def visit(asgi: Asgi, user: int) -> None:
        await asgi.browser(user).post("/add")

    def check(asgi: Asgi) -> None:
        assert state["value"] == len(asgi.tasks)

    report = explore(Scenario(setup, visit, check), budget=5, seed=1)

    assert report.witness is not None, report.text()
    assert report.witness.failure.kind == "assertion"
    assert report.witness.is_confirmed is True
    assert Schedule.parse(report.witness.schedule.text()) == report.witness.schedule


@pytest.mark.power
def test_later_user_may_arrive_first_at_fifo() -> None:
    """No network keeps the order in which users began, so no app may rely on it."""
    arrived: list[str] = []

    async def app(scope: dict[str, Any], _: Receive, send: Send) -> None:
        arrived.append(scope["path"])
        await answer(send)

    def setup() -> Asgi:
        arrived.clear()
        return Asgi(app, lifespan=False)

    async def visit(asgi: Asgi, user: int) -> None:
        await asgi.browser(user).get(f"/{user}")

    def check(_: Asgi) -> None:
        assert arrived == sorted(arrived)

    report = explore(Scenario(setup, visit, check), budget=5, seed=1)

    assert report.witness is not None, report.text()
    assert "user[1]/GET /1[0] 1" in report.witness.schedule.text()


def test_check_waits_for_work_after_the_reply() -> None:
    """What an app does after its reply is done before the check; other users may see it half done."""
    done: list[int] = []

    async def app(_: dict[str, Any], __: Receive, send: Send) -> None:
        await answer(send)
        await asyncio.sleep(5)
        done.append(1)

    def setup() -> Asgi:
        done.clear()
        return Asgi(app, lifespan=False)

    async def visit(asgi: Asgi, user: int) -> None:
        await asgi.browser(user).get("/")

    def check(_: Asgi) -> None:
        assert done == [1, 1]

    report = explore(Scenario(setup, visit, check), budget=5, seed=1)

    assert report.witness is None, report.text()


@pytest.mark.parametrize("fidelity", [Fidelity.FIFO, Fidelity.AWAIT])
def test_check_waits_for_tasks_that_a_request_started(fidelity: Fidelity) -> None:
    """Fire and forget is done before the check, even when a slow job is part of it."""

    @dataclass
    class World:
        asgi: Asgi
        done: list[str]

    @contextlib.asynccontextmanager
    async def setup() -> AsyncIterator[World]:
        tasks: list[asyncio.Task[None]] = []
        done: list[str] = []

        async def work() -> None:
            await asyncio.to_thread(done.append, "job")
            await asyncio.sleep(GRACE_S / 2)
            done.append("slept")

        async def app(_: dict[str, Any], __: Receive, send: Send) -> None:
            tasks.append(asyncio.create_task(work()))
            await answer(send)

        async with Asgi(app, lifespan=False) as asgi:
            yield World(asgi, done)

    async def visit(world: World, user: int) -> None:
        await world.asgi.browser(user).get("/")

    def check(world: World) -> None:
        assert sorted(world.done) == ["job", "slept"]

    report = explore(
        Scenario(setup, visit, check, users=1), fidelity=fidelity, budget=5, seed=1
    )

    assert report.conclusion is Conclusion.PROVEN, report.text()


@pytest.mark.parametrize("fidelity", [Fidelity.FIFO, Fidelity.AWAIT])
@pytest.mark.parametrize("is_idle", [True, False])
def test_consumer_that_a_request_started_may_live_for_ever(
    fidelity: Fidelity, *, is_idle: bool
) -> None:
    """A task that never ends holds up neither the check nor the end, and is no finding."""

    async def consume() -> None:
        while True:
            await (asyncio.Event().wait() if is_idle else asyncio.sleep(1))

    def setup() -> Asgi:
        tasks: list[asyncio.Task[None]] = []

        async def app(_: dict[str, Any], __: Receive, send: Send) -> None:
            if not tasks:
                tasks.append(asyncio.create_task(consume(), name="consumer"))
            await answer(send)

        return Asgi(app, lifespan=False)

    checks: list[float] = []

    async def visit(asgi: Asgi, user: int) -> None:
        await asgi.browser(user).get("/")

    report = explore(
        Scenario(setup, visit, lambda asgi: checks.append(asgi.now()), users=1),
        fidelity=fidelity,
        budget=1,
        schedules=40,
        seed=1,
    )

    assert report.witness is None, report.text()
    assert report.conclusion is not Conclusion.INCONCLUSIVE, report.text()
    assert max(checks) == pytest.approx(GRACE_S, abs=1)


def test_faults_strike_requests_and_not_what_they_start() -> None:
    """A server can cancel a request and its client can leave; inner tasks are the app's."""
    loop = ExplorationLoop(Fidelity.FIFO)

    async def inner() -> None:
        async with asyncio.timeout(1):
            await external("SELECT")

    async def app(_: dict[str, Any], __: Receive, send: Send) -> None:
        await asyncio.create_task(inner(), name="inner")
        await answer(send)

    async def visit(asgi: Asgi, user: int) -> None:
        await asgi.browser(user).get("/")

    scenario = Scenario(lambda: Asgi(app, lifespan=False), visit, users=1)
    runner = Runner(main_of(scenario, None), loop)
    runner.points = FaultPoints("*", ())
    assert runner.run(Stock()) is None

    found = {(type(fault), fault.task) for fault in runner.points.found}
    assert found == {
        (Cancel, "main"),
        (Cancel, "user[0]"),
        (Cancel, "user[0]/GET /"),
        (Disconnect, "user[0]/GET /"),
        (Expire, "user[0]/GET //inner"),
    }


class Pool:
    """One connection that requests borrow, and may return dirty."""

    def __init__(self) -> None:
        self.free = asyncio.Semaphore(1)
        self.pending = False

    async def query(self, *, is_safe: bool) -> None:
        """Ask the database; the answer must be read before the next question."""
        async with self.free:
            assert not self.pending
            self.pending = True
            try:
                await external("rows")
                self.pending = False
            finally:
                if is_safe:
                    self.pending = False


def pooled(*, is_safe: bool) -> tuple[Callable[[], Asgi], Callable[[Asgi], None]]:
    """Return setup and check of an app that ends its query when the client leaves."""
    pools: list[Pool] = []

    async def app(_: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        work = asyncio.create_task(pools[0].query(is_safe=is_safe), name="query")
        leaving = asyncio.ensure_future(receive())
        try:
            await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            work.cancel()
        await answer(send)

    def setup() -> Asgi:
        pools[:] = [Pool()]
        return Asgi(app, lifespan=False)

    def check(_: Asgi) -> None:
        assert not pools[0].pending, "the connection went back with an answer unread"

    return setup, check


async def ask(asgi: Asgi, user: int) -> None:
    """Send one request."""
    reply = await asgi.browser(user).get("/rows")
    assert reply.status == 200


@pytest.mark.power
def test_disconnect_that_leaves_a_connection_dirty_is_found() -> None:
    """A client that goes away at the wrong moment spoils the pool; the safe twin rolls back."""
    setup, check = pooled(is_safe=False)
    report = explore(Scenario(setup, ask, check), cancel="user*", budget=5, seed=1)

    assert report.witness is not None, report.text()
    assert report.witness.failure.kind == "assertion"
    runner = Runner(
        main_of(Scenario(setup, ask, check), None), ExplorationLoop(Fidelity.FIFO)
    )
    gone = Disconnect("user[0]/GET /rows", 1)
    failure = runner.run(Stock(), (gone,))
    assert runner.struck == [gone]
    assert failure is not None
    assert "an answer unread" in failure.message

    setup, check = pooled(is_safe=True)
    quiet = explore(Scenario(setup, ask, check), cancel="user*", budget=1, seed=1)
    assert quiet.witness is None, quiet.text()


@pytest.mark.parametrize("fidelity", [Fidelity.FIFO, Fidelity.AWAIT])
def test_faults_alone_are_no_findings(fidelity: Fidelity) -> None:
    """Cancelled, failed and left requests of a sound app are no bug of it."""

    async def app(_: dict[str, Any], receive: Receive, send: Send) -> None:
        body = await read(receive)
        await external("SELECT")
        await answer(send, body)

    async def visit(asgi: Asgi, user: int) -> None:
        browser = asgi.browser(user)
        canary = browser.canary()
        assert (await browser.post("/", body=canary)).text == canary

    report = explore(
        Scenario(lambda: Asgi(app, lifespan=False), visit),
        cancel=True,
        errors=("ConnectionResetError",),
        fidelity=fidelity,
        budget=0.5,
        seed=1,
    )

    assert report.witness is None, report.text()


def test_request_runs_on_the_stock_loop_and_on_plain_asyncio() -> None:
    """The same visit is possible where no explorer is: to debug, or to confirm."""

    async def visit(asgi: Asgi) -> int:
        return (await asgi.browser(0).post("/", body=b"x")).status

    loop: Any = StockLoop()
    assert run(mirror, visit, loop=loop) == 200

    async def main() -> int:
        async with Asgi(mirror) as asgi:
            return await visit(asgi)

    assert asyncio.run(main()) == 200
