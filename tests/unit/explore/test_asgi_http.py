"""Asgi over HTTP: requests, replies, cookies, streams, and clients that leave."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from test_framework.core import UsageError
from test_framework.explore import (
    Asgi,
)
from test_framework.explore.schedule import Fidelity
from tests.unit.explore.asgi_app import (
    Receive,
    Send,
    answer,
    mirror,
    run,
)


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
    """Two contents, a URL for a path, and what is no app or was not started."""

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
    with pytest.raises(
        UsageError, match=r"Asgi\(None\): expected the ASGI application"
    ):
        Asgi(None)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(UsageError, match=r"Asgi\('main:app'\).* import it"):
        Asgi("main:app")  # type: ignore[arg-type]  # the mistake
    with pytest.raises(UsageError, match="may_see=True: expected a function"):
        Asgi(mirror, may_see=True)  # type: ignore[arg-type]  # the mistake


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
