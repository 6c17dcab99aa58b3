"""The outermost layer: ids, headers, limits, the log line and the last resort."""

import json
import logging

import asyncpg
import httpx
import pytest
import sqlalchemy.exc
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.frontier import Frontier, record_of
from app.monitoring import configure_logging


async def ok(_: Scope, receive: Receive, send: Send) -> None:
    """Read the body and answer with its size."""
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % size})


def failing(error: Exception) -> ASGIApp:
    """Return an application that fails before it answers."""

    async def fail(scope: Scope, _receive: Receive, _send: Send) -> None:
        record_of(scope).user_id = "ada"
        raise error

    return fail


def client(app: ASGIApp) -> httpx.AsyncClient:
    """Return a client of ``app`` behind a frontier."""
    frontier = Frontier(app, max_body_bytes=10, name_user=lambda _: "carol")
    transport = httpx.ASGITransport(frontier)
    return httpx.AsyncClient(transport=transport, base_url="http://service.invalid")


@pytest.fixture(autouse=True)
def _logging() -> None:
    configure_logging("INFO")


async def test_answer_is_private_and_numbered() -> None:
    """Every answer forbids caching and carries the caller's request id."""
    async with client(ok) as http:
        answer = await http.get("/x", headers={"x-request-id": "req-7"})

    assert answer.headers["cache-control"] == "private, no-store"
    assert answer.headers["x-request-id"] == "req-7"


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "é", "a\tb"])
async def test_odd_request_id_is_replaced(given: str) -> None:
    """A request id that could break a log or header is replaced by a new one."""
    async with client(ok) as http:
        answers = [
            await http.get("/x", headers=[(b"x-request-id", given.encode("latin-1"))])
            for _ in range(2)
        ]

    first, second = (answer.headers["x-request-id"] for answer in answers)
    assert given not in {first, second}
    assert first != second


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_large_body_is_refused(is_chunked: bool) -> None:  # noqa: FBT001  # a parameter
    """A body over the limit gets 413, whether or not it declares its length."""

    async def chunks() -> object:
        yield b"x" * 6
        yield b"x" * 6

    body = chunks() if is_chunked else b"x" * 12
    async with client(ok) as http:
        answer = await http.post("/x", content=body)  # type: ignore[arg-type]  # both are contents

    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"


async def test_body_within_limit_passes() -> None:
    """A body of exactly the limit reaches the application whole."""
    async with client(ok) as http:
        answer = await http.post("/x", content=b"x" * 10)

    assert answer.text == "10"


async def test_crash_is_logged_but_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    """A crash answers 500 without its reason; the log has the traceback."""
    async with client(failing(KeyError("BOBSECRET"))) as http:
        answer = await http.get("/x")

    logged = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert answer.status_code == 500
    assert "BOBSECRET" not in answer.text
    assert "BOBSECRET" in logged[0]["traceback"]
    assert logged[0]["user_id"] == "ada"


@pytest.mark.parametrize(
    "error",
    [
        sqlalchemy.exc.TimeoutError("no connection"),
        ConnectionRefusedError(),
        asyncpg.CannotConnectNowError("the database system is starting up"),
        asyncpg.TooManyConnectionsError("sorry, too many clients already"),
        sqlalchemy.exc.DBAPIError("INSERT", {}, asyncpg.DiskFullError("no space")),
    ],
)
async def test_absent_dependency_is_unavailable(error: Exception) -> None:
    """A dependency that is down or overloaded answers 503 with a time to return."""
    async with client(failing(error)) as http:
        answer = await http.get("/x")

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"


async def test_lost_connection_promises_nothing() -> None:
    """A connection that broke in mid-request answers 503 and does not invite a repeat."""
    lost = sqlalchemy.exc.DBAPIError(
        "COMMIT", {}, OSError("gone"), connection_invalidated=True
    )
    kept = sqlalchemy.exc.DBAPIError("SELECT", {}, ValueError("wrong"))
    async with client(failing(lost)) as http, client(failing(kept)) as other:
        answer = await http.get("/x")
        crash = await other.get("/x")

    assert answer.status_code == 503
    assert "retry-after" not in answer.headers
    assert crash.status_code == 500


async def test_half_an_answer_is_not_completed() -> None:
    """A crash after the headers reaches the server, which breaks the connection."""

    async def half(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        message = "lost"
        raise RuntimeError(message)

    async with client(half) as http:
        with pytest.raises(RuntimeError, match="lost"):
            await http.get("/x")


async def test_log_line_names_owner(capsys: pytest.CaptureFixture[str]) -> None:
    """Each request is one line that names its user, also when it found no route."""
    async with client(ok) as http:
        await http.get("/x?q=CANARY", headers={"x-request-id": "req-7"})

    (line,) = (json.loads(text) for text in capsys.readouterr().out.splitlines())
    assert (line["request_id"], line["user_id"]) == ("req-7", "carol")
    assert (line["method"], line["path"]) == ("GET", "/x?q=CANARY")
    assert line["status"] == 200


async def test_log_omits_headers(capsys: pytest.CaptureFixture[str]) -> None:
    """Tokens stand in headers, and no header is logged."""
    async with client(failing(KeyError("x"))) as http:
        await http.get("/x", headers={"authorization": "Bearer hunter2"})

    assert "hunter2" not in capsys.readouterr().out
    assert logging.getLogger("app").propagate is False
