"""Services to be hosted, each with one property, in plain ASGI."""

import asyncio
import contextvars
import json
import os
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from time import time as held  # noqa: TID251  # one of the ways
from typing import Any

from test_framework.detect import current_operation

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

COUNTED: list[int | None] = []
"""Operations of the requests for /watched."""

LAST_USER: contextvars.ContextVar[str] = contextvars.ContextVar("LAST_USER")

_leaked: list[asyncio.Task[Any]] = []


async def _leaked_worker() -> None:
    await asyncio.Event().wait()


async def _answer(send: Send, text: str) -> None:
    body = text.encode()
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


async def sound(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer requests; each path does one thing."""
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"].removeprefix("lifespan.")
            await send({"type": f"lifespan.{kind}.complete"})
            if kind == "shutdown":
                return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "hello"})
        await receive()
        return
    path = scope["path"]
    if path == "/watched":
        COUNTED.extend([current_operation()])
    elif path == "/leak":
        _leaked.append(asyncio.create_task(_leaked_worker()))
    elif path == "/crash":
        print("the cup is full")  # noqa: T201  # its log is looked at
        os._exit(9)
    elif path == "/wedge":
        Wedge().forever()
    elif path == "/sleep":
        await asyncio.sleep(0.02)
    elif path == "/remember":
        before = LAST_USER.get("nobody")
        LAST_USER.set(scope["query_string"].decode())
        await _answer(send, before)
        return
    elif path == "/secret":
        await _answer(send, f"{os.environ['SIGNING_KEY']} {os.getpid()}")
        return
    elif path == "/clock":
        await _answer(send, json.dumps(_clocks()))
        return
    elif path == "/headers":
        await _answer(send, repr([name for name, _ in scope["headers"]]))
        return
    await _answer(send, str(os.getpid()))


def _clocks() -> dict[str, float]:
    """Return the present as each way of asking has it."""
    today = datetime(*date.today().timetuple()[:3], tzinfo=UTC)  # noqa: DTZ011  # one of the ways
    return {
        "time": time.time(),  # noqa: TID251  # one of the ways
        "held": held(),
        "time_ns": time.time_ns() / 1e9,
        "gettime": time.clock_gettime(time.CLOCK_REALTIME),
        "now": datetime.now(UTC).timestamp(),
        "utcnow": datetime.utcnow().replace(tzinfo=UTC).timestamp(),  # noqa: DTZ003  # one of the ways
        "localtime": time.mktime(time.localtime()),
        "strftime": float(time.strftime("%s")),
        "today": held() - (datetime.now(UTC).date() - today.date()).total_seconds(),
        "monotonic": time.monotonic(),
    }


class Wedge:
    """Blocks the loop."""

    def forever(self) -> None:
        """Never return."""
        while True:
            pass


async def lifespan_fails(scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse to start, as Starlette does it."""
    if scope["type"] == "lifespan":
        await receive()
        text = "Traceback (most recent call last):\nRuntimeError: the well is dry"
        await send({"type": "lifespan.startup.failed", "message": text})


async def never_starts(scope: Scope, receive: Receive, _send: Send) -> None:
    """Wait for what never comes."""
    if scope["type"] == "lifespan":
        await receive()
        await asyncio.Event().wait()


def broken_factory() -> None:
    """Fail to make an application."""
    message = "the mould is cracked"
    raise ValueError(message)
