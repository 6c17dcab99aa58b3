"""All twins as one real service, which swarm and checkers are measured with.

An ASGI application for a worker process of ``services.hosting``. Users come in rooms of
as many as a scenario has; a room has a fresh state for each round::

    PUT  /P03/vulnerable/rooms/4/names/0        "canary of user 0"
    POST /P03/vulnerable/rooms/4/2/visits/0     what the scenario's user does, and its answer
    GET  /P03/vulnerable/rooms/4/2/shown/0      what user 0 reads when all visits are over
    WS   /P03/vulnerable/rooms/4/live/0         visits of user 0 over one WebSocket

Sockets, requests, disconnects and the order of things are real, and what patterns keep
in a ``Store`` lies in a real Redis where ``REDIS_URL`` names one. What they call the
world outside is a wait of a few milliseconds, and a second of theirs passes in half
a millisecond. A client that leaves cancels its visit. The process runs with
``PYTHONOPTIMIZE=1``: assertions are the explorer's oracle, and no service has them.
"""

import asyncio
import contextlib
import contextvars
import json
import os
import random
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, overload

import redis
import redis.asyncio

from test_framework.catalogue import world
from test_framework.catalogue.index import load_patterns
from test_framework.catalogue.natural import ANSWER_S
from test_framework.catalogue.pattern import TWINS, Pattern, Twin
from test_framework.catalogue.redis_store import redis_store
from test_framework.catalogue.wire import LEAVING_PACE, PACE, PATIENCE_S, encode
from test_framework.explore import external

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_called: contextvars.ContextVar[Sequence[str]] = contextvars.ContextVar("called")
_pace: contextvars.ContextVar[float] = contextvars.ContextVar("pace")


class _Names(Sequence[str]):
    """Who the users of a room are; outside of rooms, who they always are."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...

    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        return _called.get(self._names)[index]

    def __len__(self) -> int:
        return len(_called.get(self._names))


# Before any pattern is imported: each takes these from there.
_NAMES = world.NAMES
if "REDIS_URL" in os.environ:
    _URL = os.environ["REDIS_URL"]
    world.Store = redis_store(  # type: ignore[misc]  # a subclass stands for it
        redis.asyncio.Redis.from_url(_URL), redis.Redis.from_url(_URL)
    )
world.NAMES = _Names(_NAMES)  # type: ignore[assignment]  # indexed and sliced as a tuple


class HostedLoop(asyncio.SelectorEventLoop):
    """Plain asyncio, in which patterns live faster than the server around them."""

    def __init__(self) -> None:
        super().__init__()
        self._rng = random.Random()

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: object,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Shorten what a pattern waits for."""
        pace = _pace.get(None)
        if pace is not None:
            now = self.time()
            when = now + (when - now) * pace
        return super().call_at(when, callback, *args, context=context)

    async def external_event(self, label: str) -> None:  # noqa: ARG002  # for witnesses
        """Let the world outside take its time."""
        # Most answers come soon, and some late.
        await asyncio.sleep(ANSWER_S * self._rng.random() ** 3)


def make_loop() -> asyncio.AbstractEventLoop:
    """Return the loop of a worker; for ``uvicorn.Config(loop=...)``."""
    return HostedLoop()


class _Round:
    """A state, and who is working on it."""

    def __init__(self, pattern: Pattern, twin: Twin, names: Sequence[str]) -> None:
        scenario = pattern.safe if twin == "safe" else pattern.vulnerable
        self._visit = pattern.visit(twin)
        self._shown = pattern.hosted.shown if pattern.hosted else None
        self._context = contextvars.copy_context()
        self._context.run(_called.set, names)
        self._context.run(_pace.set, LEAVING_PACE if pattern.needs.cancel else PACE)
        self._state = self._context.run(scenario.setup)
        self._visits: set[asyncio.Task[Any]] = set()

    def visit(self, number: int) -> "asyncio.Task[Any]":
        """Start what a user does, in a context like that of a request."""
        task = asyncio.get_running_loop().create_task(
            self._arrive(number), context=self._context.copy()
        )
        self._visits.add(task)
        return task

    async def _arrive(self, number: int) -> object:
        # The burst brings all users at once; some patterns need one to be late.
        await external("arrival")
        return await self._visit(self._state, number)

    async def show(self, number: int) -> object:
        """Return what a user reads when nobody is at work any more."""
        if self._visits:
            await asyncio.wait(self._visits, timeout=PATIENCE_S)
        if self._shown is None:
            return None
        return self._context.run(self._shown, self._state, number)


class _Rooms:
    """The rooms of one twin."""

    def __init__(self, pattern: Pattern, twin: Twin) -> None:
        self._pattern, self._twin = pattern, twin
        self._names: dict[str, dict[int, str]] = {}
        self._rounds: dict[tuple[str, str], _Round] = {}

    def enter(self, room: str, number: int, name: str) -> None:
        """Say who is user ``number`` of a room."""
        self._names.setdefault(room, {})[number] = name

    def round(self, room: str, which: str) -> _Round:
        """Return a round, a new one for who comes first."""
        found = self._rounds.get((room, which))
        if found is None:
            given = self._names[room]
            names = [given.get(number, name) for number, name in enumerate(_NAMES)]
            found = _Round(self._pattern, self._twin, names)
            self._rounds[room, which] = found
        return found


_SERVICES = {
    (pattern.id, twin): _Rooms(pattern, twin)
    for pattern in load_patterns()
    if pattern.hosted is not None
    for twin in TWINS
}


async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """Serve all twins."""
    if scope["type"] == "lifespan":
        await _span(receive, send)
        return
    _, id_, twin, *rest = scope["path"].split("/")
    rooms = _SERVICES[id_, twin]
    match scope.get("method"), rest:
        case "PUT", ["rooms", room, "names", number]:
            rooms.enter(room, int(number), json.loads(await _body(receive)))
            await _answer(send, 204)
        case "POST", ["rooms", room, which, "visits", number]:
            await _body(receive)
            status, content = await _visit(
                rooms.round(room, which).visit(int(number)), receive
            )
            await _answer(send, status, content)
        case "GET", ["rooms", room, which, "shown", number]:
            shown = await rooms.round(room, which).show(int(number))
            await _answer(send, 200, shown)
        case None, ["rooms", room, "live", number]:
            await _talk(rooms, room, int(number), receive, send)
        case _:
            await _answer(send, 404)


async def _visit(task: "asyncio.Task[Any]", receive: Receive) -> tuple[int, object]:
    """Return status and answer of a visit; a client that leaves cancels it."""
    gone = asyncio.ensure_future(receive())
    try:
        await asyncio.wait(
            {task, gone}, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        gone.cancel()
    if not task.done():
        task.cancel()
        return (499 if gone.done() else 504), None
    if task.cancelled():
        return 500, "cancelled"
    if task.exception() is not None:
        return 500, repr(task.exception())
    return 200, task.result()


async def _talk(
    rooms: _Rooms, room: str, number: int, receive: Receive, send: Send
) -> None:
    """Serve a WebSocket: each message names a round, and is answered with a visit."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        which = str(json.loads(message["text"])["round"])
        status, content = await _visit(rooms.round(room, which).visit(number), receive)
        if status == 499:
            return
        text = encode({"status": status, "content": content})
        await send({"type": "websocket.send", "text": text})


async def _body(receive: Receive) -> bytes:
    body, is_more = b"", True
    while is_more:
        message = await receive()
        body += message.get("body", b"")
        is_more = message.get("more_body", False)
    return body


async def _answer(send: Send, status: int, content: object = None) -> None:
    body = b"" if status == 204 else encode(content).encode()
    headers = [(b"content-type", b"application/json")]
    if body:
        headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _span(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        with contextlib.suppress(KeyError):
            await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
