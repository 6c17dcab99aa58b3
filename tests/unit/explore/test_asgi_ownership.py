"""Canaries in what users are given: whose they are, where they stood, who may see them."""

import contextlib
import gzip
from typing import Any

import pytest

from test_framework.explore import (
    Asgi,
    Scenario,
    explore,
)
from test_framework.explore.asgi import (
    ForeignCanaryError,
)
from tests.unit.explore.asgi_app import Handler, Receive, Send, answer, read, run


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
        Scenario(lambda: Asgi(board(), lifespan=False), visit), budget=60, seed=1
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
