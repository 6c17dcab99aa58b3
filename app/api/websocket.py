"""The WebSocket of a user: the own events, in order, each once, resumable.

Two tasks serve a socket: one sends what comes after the cursor, one hears what the
client says. The request's own task watches over both, and over the login: it is the only
one that decides that the socket ends, and why. Nothing is left behind.

What clients are told, close codes and all, is in ``docs/realtime.md``.
"""

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import APIRouter, Query, WebSocket
from starlette.types import Message
from starlette.websockets import WebSocketDisconnect, WebSocketState

from app.api.dependencies import (
    bearer_token,
    is_logged_in,
    note_refusal,
    parts_of,
)
from app.api.frontier import record_of
from app.api.parts import Parts
from app.api.problems import UNAVAILABLE
from app.realtime import EVERY_SESSION, FullError, follow, sessions_channel
from app.realtime.events import READ_EVENTS
from app.security import Claims, TokenError

AUTHENTICATE_WITHIN_S = 5.0
SEND_WITHIN_S = 10.0
CATCH_UP_WITHIN_S = 60.0
CLOSE_WITHIN_S = 1.0
LOOK_EVERY_S = 5.0
"""The wall clock may be set, or the machine sleep, while a login is being watched."""
MAX_CURSOR = 2**53
MAX_MESSAGE_CHARS = 65_536
_DAY_US = 86_400 * 10**6

router = APIRouter()


@dataclass(frozen=True, slots=True)
class Ending:
    """Why the service closes a socket.

    Attributes:
        code: The close code.
        reason: A sentence for whoever reads the client's log.
    """

    code: int
    reason: str


NO_TOKEN = Ending(4401, "Send a valid access token.")
EXPIRED = Ending(4401, "The access token has expired.")
ENDED = Ending(4401, "The session has ended. Log in again.")
ANOTHER_USER = Ending(4403, "The token is another user's. Open another socket.")
TOO_MANY = Ending(4429, "The user has opened newer sockets, and this was the oldest.")
TOO_BIG = Ending(1009, "The message is too big.")
TWO_CURSORS = Ending(1008, "Send `after` once.")
FULL = Ending(1013, "This worker has too many sockets. Try again soon.")
TOO_SLOW = Ending(1013, "Events are not read fast enough.")
UNREADABLE = Ending(1013, "The service cannot read events. Try again soon.")


class _SlowConsumerError(Exception):
    """Raised when a client does not read what it is sent."""


@dataclass(slots=True)
class _Watch:
    """What is known of an open socket.

    Attributes:
        claims: The login it belongs to.
        news: Set when something of the socket has changed.
        is_in_doubt: Whether the login goes on must be asked again.
        must_give_way: The user has opened too many others.
    """

    claims: Claims
    news: asyncio.Event = field(default_factory=asyncio.Event)
    is_in_doubt: bool = False
    must_give_way: bool = False

    def hear(self, message: bytes | None) -> None:
        """Take an announcement that a login has ended, or that some were missed."""
        ended = None if message is None else message.decode(errors="replace")
        if ended in {None, EVERY_SESSION, self.claims.session_id}:
            self.is_in_doubt = True
            self.news.set()

    def give_way(self) -> None:
        """Take that the user has opened too many sockets since this one."""
        self.must_give_way = True
        self.news.set()


@router.websocket("/ws")
async def watch_events(
    websocket: WebSocket,
    after: Annotated[int | None, Query(ge=0, le=MAX_CURSOR)] = None,
) -> None:
    """Send the user's events numbered above ``after``, or from now on."""
    parts = parts_of(websocket)
    await websocket.accept()
    try:
        with parts.sockets.counted():
            ending = await _serve(parts, websocket, after)
            await _close(websocket, ending)
    except FullError:
        await _close(websocket, FULL)


async def _serve(
    parts: Parts, websocket: WebSocket, after: int | None
) -> Ending | None:
    if len(websocket.query_params.getlist("after")) > 1:
        return TWO_CURSORS
    claims = await _authenticate(parts, websocket)
    if claims is None:
        return NO_TOKEN
    record_of(websocket.scope).user_id = claims.user_id
    watch = _Watch(claims)
    channel = sessions_channel(claims.user_id)
    # Subscribed first, and asked then whether the login goes on: the subscription, once
    # it is confirmed, is the first announcement that brings the login into doubt.
    with parts.sockets.owned(claims.user_id, watch.give_way):
        async with parts.hub.listening(channel, watch.hear):
            return await _run(parts, websocket, watch, after)


async def _run(
    parts: Parts, websocket: WebSocket, watch: _Watch, after: int | None
) -> Ending | None:
    tasks = (
        asyncio.create_task(
            _send_events(parts, websocket, watch.claims.user_id, after)
        ),
        asyncio.create_task(_hear(parts, websocket, watch)),
    )
    for task in tasks:
        task.add_done_callback(lambda _: watch.news.set())
    try:
        return await _until_over(parts, watch, tasks)
    except _SlowConsumerError:
        return TOO_SLOW
    except Exception as exc:
        if _is_gone(exc):
            return None
        await _close(websocket, UNREADABLE)
        raise
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _until_over(
    parts: Parts, watch: _Watch, tasks: tuple[asyncio.Task[Ending | None], ...]
) -> Ending | None:
    """Return why the socket is to be closed, None when the client has left."""
    while True:
        watch.news.clear()
        for task in tasks:
            if task.done():
                return task.result()
        if watch.must_give_way:
            return TOO_MANY
        wait_s = min(watch.claims.expires_at - _now(), LOOK_EVERY_S)
        if wait_s <= 0:
            return EXPIRED
        if watch.is_in_doubt:
            watch.is_in_doubt = False
            try:
                if not await _goes_on(parts, watch.claims):
                    return ENDED
            except UNAVAILABLE:
                # Nobody can log out either while the database is away.
                watch.is_in_doubt = True
                wait_s = min(wait_s, 1.0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await watch.news.wait()


async def _goes_on(parts: Parts, claims: Claims) -> bool:
    async with parts.sockets.entering:
        return await is_logged_in(parts, claims)


async def _authenticate(parts: Parts, websocket: WebSocket) -> Claims | None:
    token = bearer_token(websocket.headers.get("authorization", ""))
    if token is None:
        # Browsers cannot set headers on a WebSocket: the first message carries it.
        token = await _first_message_token(websocket)
    if token is None:
        return None
    try:
        claims = await parts.access_tokens.recognise(token)
    except TokenError as exc:
        note_refusal(websocket, exc.reason)
        return None
    if not await _goes_on(parts, claims):
        note_refusal(websocket, "ended")
        return None
    return claims


async def _first_message_token(websocket: WebSocket) -> str | None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(AUTHENTICATE_WITHIN_S):
            return _token_in(await websocket.receive())
    return None


def _token_in(message: Message) -> str | None:
    """Return the token of a client's message, None when it carries none."""
    try:
        said = json.loads(message.get("text") or "")
    # Brackets in brackets make the parser give up with an error of its own.
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or said.get("type") != "authenticate":
        return None
    token = said.get("token")
    return token if isinstance(token, str) else None


async def _hear(parts: Parts, websocket: WebSocket, watch: _Watch) -> Ending | None:
    """Take what the client says until it leaves: tokens that extend its login."""
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return None
        if len(message.get("text") or message.get("bytes") or "") > MAX_MESSAGE_CHARS:
            return TOO_BIG
        token = _token_in(message)
        if token is None:
            continue  # clients have nothing else to say here
        try:
            claims = await parts.access_tokens.recognise(token)
        except TokenError as exc:
            note_refusal(websocket, exc.reason)
            return NO_TOKEN
        if claims.user_id != watch.claims.user_id:
            note_refusal(websocket, "another user")
            return ANOTHER_USER
        if claims.expires_at > watch.claims.expires_at:
            # Before it is asked for, so that an announcement in between is heard.
            watch.claims = claims
        if not await _goes_on(parts, claims):
            note_refusal(websocket, "ended")
            return ENDED
        until = watch.claims.expires_at
        await _send(
            websocket, json.dumps({"type": "authenticated", "expires_at": until})
        )


async def _send_events(
    parts: Parts, websocket: WebSocket, user_id: str, after: int | None
) -> None:
    cursor, is_ahead = await _find_cursor(parts, user_id, after)
    ready = {
        "type": "ready",
        "after": cursor,
        "user_id": user_id,
        "retry_after_s": parts.sockets.retry_after_s(),
    }
    await _send(websocket, json.dumps(ready))
    if is_ahead:
        await _send(websocket, _gap(0, cursor))
        cursor = 0
    behind_since: float | None = None
    events = follow(parts.hub, parts.events, user_id, after=cursor)
    async with contextlib.aclosing(events):
        async for batch in events:
            behind_since = _behind_since(
                behind_since, is_full=len(batch) >= READ_EVENTS
            )
            if batch and cursor == 0:
                # Nothing is before the first event, so there is no gap there either.
                cursor = await parts.events.base(user_id)
            for event in batch:
                if event.seq != cursor + 1:
                    await _send(websocket, _gap(cursor, event.seq - 1))
                await _send(websocket, event.frame)
                cursor = event.seq


async def _find_cursor(
    parts: Parts, user_id: str, after: int | None
) -> tuple[int, bool]:
    """Return where to begin, and whether no event ever had that number.

    A number above the newest is good all the same: Redis may have lost some, and what
    comes next is numbered above it. Only one from the future is not.
    """
    end = await parts.events.end(user_id)
    if after is None:
        return end, False
    return after, after > max(end, round(_now() * 1e6) + _DAY_US)


def _behind_since(since: float | None, *, is_full: bool) -> float | None:
    """Return since when more events wait than one read brings, None when none do.

    Raises:
        _SlowConsumerError: For too long: the client reads, but never catches up.
    """
    if not is_full:
        return None
    now = asyncio.get_running_loop().time()
    if since is not None and now - since > CATCH_UP_WITHIN_S:
        raise _SlowConsumerError
    return now if since is None else since


def _gap(after: int, until: int) -> str:
    return json.dumps({"type": "gap", "after": after, "until": until})


async def _send(websocket: WebSocket, frame: str) -> None:
    # The server's buffer is bounded: sending waits once it is full.
    try:
        async with asyncio.timeout(SEND_WITHIN_S):
            await websocket.send_text(frame)
    except TimeoutError as exc:
        raise _SlowConsumerError from exc


async def _close(websocket: WebSocket, ending: Ending | None) -> None:
    if ending is None or websocket.application_state is not WebSocketState.CONNECTED:
        return
    # A client that does not read may not take the close frame either. Then the server
    # breaks the connection when we return.
    with contextlib.suppress(RuntimeError, WebSocketDisconnect, OSError):
        async with asyncio.timeout(CLOSE_WITHIN_S):
            await websocket.close(ending.code, ending.reason)


def _is_gone(exc: Exception) -> bool:
    return isinstance(exc, WebSocketDisconnect | RuntimeError)


def _now() -> float:
    return time.time()  # noqa: TID251  # expiry is wall-clock time by RFC 7519
