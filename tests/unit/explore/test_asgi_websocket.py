"""Asgi over WebSockets: handshake, messages, close codes, disconnects, ownership."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from test_framework.explore import Asgi, Conclusion, Disconnect, Scenario, explore
from test_framework.explore.asgi import (
    ForeignCanaryError,
    ProtocolError,
    WebSocketClosedError,
    WebSocketRejectedError,
)
from test_framework.explore.execution import Runner
from test_framework.explore.loop import ExplorationLoop
from test_framework.explore.scenario import main_of
from test_framework.explore.schedule import Fidelity
from test_framework.explore.schedulers import Stock

Message = dict[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]
Handler = Callable[[Message, Receive, Send], Awaitable[None]]


def run(
    app: Handler,
    visit: Callable[[Asgi], Awaitable[object]],
    fidelity: Fidelity = Fidelity.FIFO,
    **options: Any,  # noqa: ANN401  # options of Asgi
) -> Any:  # noqa: ANN401  # what visit returns
    """Let one visit happen in the order of plain asyncio; return its result."""

    async def main() -> object:
        async with Asgi(app, lifespan=False, **options) as asgi:
            return await visit(asgi)

    return ExplorationLoop(fidelity).run(main(), Stock().begin)


async def accept(receive: Receive, send: Send, **more: object) -> None:
    """Take the handshake."""
    assert await receive() == {"type": "websocket.connect"}
    await send({"type": "websocket.accept", **more})


async def echo(_: Message, receive: Receive, send: Send) -> None:
    """Send back what comes, until the end."""
    await accept(receive, send)
    while (message := await receive())["type"] == "websocket.receive":
        message.pop("type")
        await send({"type": "websocket.send", **message})


@pytest.mark.parametrize("fidelity", list(Fidelity))
def test_text_and_bytes_come_back(fidelity: Fidelity) -> None:
    """Both kinds of messages go both ways, and JSON as text."""

    async def visit(asgi: Asgi) -> list[object]:
        async with asgi.browser(0).websocket("/ws") as socket:
            await socket.send("text")
            await socket.send(b"bytes")
            await socket.send_json({"k": 1})
            return [
                await socket.receive(),
                await socket.receive(),
                await socket.receive_json(),
            ]

    assert run(echo, visit, fidelity) == ["text", b"bytes", {"k": 1}]


def test_handshake_says_what_both_want() -> None:
    """Path, cookies and subprotocols reach the app; its choice and cookies come back."""
    scopes = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await accept(
            receive,
            send,
            subprotocol="v2",
            headers=[(b"set-cookie", b"seen=1"), (b"x-room", b"7")],
        )
        await receive()

    async def visit(asgi: Asgi) -> tuple[str | None, str]:
        browser = asgi.browser(4)
        browser.cookies.set("id", "4")
        async with browser.websocket("/ws?room=7", subprotocols=("v1", "v2")) as socket:
            pass
        assert browser.cookies.get("seen") == "1"
        return socket.subprotocol, socket.headers["x-room"]

    assert run(app, visit, is_secure=True) == ("v2", "7")
    (scope,) = scopes
    assert scope["type"] == "websocket"
    assert scope["scheme"] == "wss"
    assert scope["path"] == "/ws"
    assert scope["query_string"] == b"room=7"
    assert scope["subprotocols"] == ["v1", "v2"]
    assert (b"cookie", b"id=4") in scope["headers"]


async def deny(scope: Message, receive: Receive, send: Send) -> None:
    """Refuse in the two ways there are, or fail."""
    await receive()
    if scope["path"] == "/raise":
        raise KeyError("raise")
    if scope["path"] == "/odd":
        await send({"type": "websocket.send", "text": "too early"})
    if scope["path"] == "/close":
        await send({"type": "websocket.close"})
        return
    await send({"type": "websocket.http.response.start", "status": 401})
    await send(
        {"type": "websocket.http.response.body", "body": b"who ", "more_body": True}
    )
    await send({"type": "websocket.http.response.body", "body": b"are you"})


def test_rejection_has_its_status() -> None:
    """A handshake that is closed is forbidden; one that is denied has the app's answer."""

    async def visit(asgi: Asgi) -> list[tuple[int, bytes]]:
        seen = []
        for path in ("/close", "/deny", "/raise", "/odd"):
            with pytest.raises(WebSocketRejectedError) as caught:
                async with asgi.browser(0).websocket(path):
                    pass
            seen.append((caught.value.status, caught.value.body))
        assert [type(one.error) for one in asgi.errors] == [KeyError, ProtocolError]
        return seen

    assert run(deny, visit, app_errors="reply") == [
        (403, b""),
        (401, b"who are you"),
        (500, b"Internal Server Error"),
        (500, b"Internal Server Error"),
    ]


def test_error_of_the_app_reaches_the_user_of_a_socket() -> None:
    """What the app raises is raised where the user waits; on demand it is code 1011."""

    async def app(_: Message, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        await receive()
        raise KeyError("lost")

    async def raised(asgi: Asgi) -> None:
        async with asgi.browser(0).websocket("/") as socket:
            await socket.send("x")
            await socket.receive()

    async def closed(asgi: Asgi) -> int:
        async with asgi.browser(0).websocket("/") as socket:
            await socket.send("x")
            with pytest.raises(WebSocketClosedError) as caught:
                await socket.receive()
        return caught.value.code

    with pytest.raises(KeyError, match="lost"):
        run(app, raised)
    assert run(app, closed, app_errors="reply") == 1011


def test_close_of_the_app_has_code_and_reason() -> None:
    """Messages before the close are read first; then reading and writing tell the code."""

    async def app(_: Message, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        await send({"type": "websocket.send", "text": "last words"})
        await send({"type": "websocket.close", "code": 4001, "reason": "slow down"})
        with pytest.raises(ProtocolError, match="after it had ended WS /"):
            await send({"type": "websocket.send", "text": "too late"})

    async def visit(asgi: Asgi) -> None:
        async with asgi.browser(0).websocket("/") as socket:
            assert [message async for message in socket] == ["last words"]
            for call in (socket.receive(), socket.send("x")):
                with pytest.raises(WebSocketClosedError) as caught:
                    await call
                assert (caught.value.code, caught.value.reason) == (4001, "slow down")

    run(app, visit)


def test_app_that_returns_closes_its_socket() -> None:
    """As under uvicorn the code is 1000; to return without any answer is a failure."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["path"] == "/":
            await accept(receive, send)

    async def visit(asgi: Asgi) -> int:
        with pytest.raises(ProtocolError, match="WS /silent unanswered"):
            async with asgi.browser(0).websocket("/silent"):
                pass
        async with asgi.browser(0).websocket("/") as socket:
            with pytest.raises(WebSocketClosedError) as caught:
                await socket.receive()
        return caught.value.code

    assert run(app, visit) == 1000


def test_close_of_the_user_reaches_the_app() -> None:
    """The app receives the code of the user, or 1000 at the end of the context."""
    seen: list[Message] = []

    async def app(_: Message, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        seen.append(await receive())
        with pytest.raises(OSError, match="is closed"):
            await send({"type": "websocket.send", "text": "too late"})

    async def visit(asgi: Asgi) -> None:
        browser = asgi.browser(0)
        async with browser.websocket("/") as socket:
            socket.close(4000, "bored")
        async with browser.websocket("/"):
            pass

    run(app, visit)

    kind = "websocket.disconnect"
    assert seen == [
        {"type": kind, "code": 4000, "reason": "bored"},
        {"type": kind, "code": 1000, "reason": ""},
    ]


def test_disconnect_fault_looks_like_a_lost_connection() -> None:
    """The app receives code 1006, its send fails, and the user is gone, which is no bug."""
    seen: list[object] = []

    async def app(_: Message, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        seen.append((await receive()).get("code"))
        try:
            await send({"type": "websocket.send", "text": "hello?"})
        except OSError:
            seen.append("gone")

    async def visit(asgi: Asgi, user: int) -> None:
        async with asgi.browser(user).websocket("/ws") as socket:
            await socket.receive()
        seen.append("unreachable")

    scenario = Scenario(lambda: Asgi(app, lifespan=False), visit, users=1)
    runner = Runner(main_of(scenario, None), ExplorationLoop(Fidelity.FIFO))
    fault = Disconnect("user[0]/WS /ws", 1)

    assert runner.run(Stock(), (fault,)) is None
    assert runner.struck == [fault]
    assert seen == [1006, "gone"]


def chat(*, is_safe: bool) -> Callable[[], Asgi]:
    """Return the setup of an app that sends each message to a member of a room by number.

    The unsafe one keeps the last socket that connected, and answers there.
    """

    def setup() -> Asgi:
        last: list[Send] = []

        async def app(_: Message, receive: Receive, send: Send) -> None:
            await accept(receive, send)
            last[:] = [send]
            while (message := await receive())["type"] == "websocket.receive":
                to = send if is_safe else last[0]
                await to({"type": "websocket.send", "text": message["text"]})

        return Asgi(app, lifespan=False)

    return setup


async def talk(asgi: Asgi, user: int) -> None:
    """Send a canary and read the answer."""
    browser = asgi.browser(user)
    async with browser.websocket("/chat") as socket:
        canary = browser.canary()
        await socket.send(canary)
        async with asyncio.timeout(5):
            assert await socket.receive() == canary


@pytest.mark.power
@pytest.mark.parametrize("fidelity", ["fifo", "await"])
def test_message_to_the_wrong_socket_is_found(fidelity: str) -> None:
    """A broadcast to whoever connected last gives a user what belongs to another."""
    report = explore(
        Scenario(chat(is_safe=False), talk), fidelity=fidelity, budget=5, seed=1
    )

    assert report.conclusion is Conclusion.FOUND, report.text()
    assert report.witness is not None
    failure = report.witness.failure
    assert failure.kind == "foreign-canary"
    assert "by WS /chat: message at byte 0" in failure.message

    quiet = explore(
        Scenario(chat(is_safe=True), talk), fidelity=fidelity, budget=1, seed=1
    )
    assert quiet.witness is None, quiet.text()


def test_message_that_nobody_read_was_given_all_the_same() -> None:
    """A foreign canary in a message that the user never took is a leak too."""
    canaries: list[str] = []

    async def app(_: Message, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        await send({"type": "websocket.send", "bytes": canaries[0].encode()})
        await receive()

    async def visit(asgi: Asgi) -> None:
        canaries.append(asgi.browser(1).canary())
        async with asgi.browser(0).websocket("/"):
            await asyncio.sleep(1)

    with pytest.raises(ForeignCanaryError, match=r"user\[0\] was given .* user\[1\]"):
        run(app, visit)


@pytest.mark.parametrize(
    ("messages", "place"),
    [
        (
            [{"type": "websocket.accept", "headers": [(b"x-last", b"CANARY")]}],
            "header x-last",
        ),
        (
            [
                {"type": "websocket.accept"},
                {"type": "websocket.close", "reason": "CANARY"},
            ],
            "close reason",
        ),
        (
            [
                {"type": "websocket.http.response.start", "status": 403},
                {"type": "websocket.http.response.body", "body": b"CANARY"},
            ],
            "rejection",
        ),
    ],
)
def test_all_that_a_handshake_and_a_close_say_is_looked_at(
    messages: list[Message], place: str
) -> None:
    """Headers, reasons and rejections are given to a user as messages are."""
    canaries: list[str] = []

    def filled(value: Any) -> Any:  # noqa: ANN401  # any part of a message
        match value:
            case str():
                return value.replace("CANARY", canaries[0])
            case bytes():
                return value.replace(b"CANARY", canaries[0].encode())
            case tuple() | list():
                return [filled(one) for one in value]
            case dict():
                return {key: filled(one) for key, one in value.items()}
            case _:
                return value

    async def app(_: Message, receive: Receive, send: Send) -> None:
        await receive()
        for message in messages:
            await send(filled(message))

    async def visit(asgi: Asgi) -> None:
        canaries[:] = [asgi.browser(1).canary()]
        async with asgi.browser(0).websocket("/"):
            pass

    with pytest.raises(ForeignCanaryError, match=place):
        run(app, visit)


@pytest.mark.parametrize("fidelity", ["fifo", "await"])
def test_faults_alone_are_no_findings_on_sockets(fidelity: str) -> None:
    """Every fault at every suspension of a sound WebSocket app finds nothing."""
    report = explore(
        Scenario(chat(is_safe=True), talk),
        fidelity=fidelity,
        cancel="user*",
        budget=1,
        seed=1,
    )

    assert report.witness is None, report.text()


def test_app_and_user_that_wait_for_each_other_are_a_deadlock() -> None:
    """A user who waits for an answer to nothing is told with whom it waits in a circle."""

    async def visit(asgi: Asgi, user: int) -> None:
        async with asgi.browser(user).websocket("/ws") as socket:
            await socket.receive()

    report = explore(Scenario(lambda: Asgi(echo, lifespan=False), visit, users=1))

    assert report.witness is not None
    failure = report.witness.failure
    assert failure.kind == "deadlock"
    assert "user[0] -> user[0]/WS /ws -> user[0]" in failure.message
