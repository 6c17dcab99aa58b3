"""The WebSocket of a user: the own events, in order, each once, resumable.

Two tasks serve a socket: one sends what comes after the cursor, one waits for the
client to leave. Whichever ends first ends the other; nothing is left behind.
"""

import asyncio
import contextlib
import json
import time
from typing import Annotated

from fastapi import APIRouter, Query, WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from app.api.dependencies import (
    bearer_token,
    is_logged_in,
    note_refusal,
    parts_of,
)
from app.api.frontier import record_of
from app.api.parts import Parts
from app.realtime import follow
from app.security import Claims, TokenError

UNAUTHORIZED = 4401
TRY_AGAIN_LATER = 1013
AUTHENTICATE_WITHIN_S = 5.0
SEND_WITHIN_S = 10.0

router = APIRouter()


class _SlowConsumerError(Exception):
    """Raised when a client does not read what it is sent."""


@router.websocket("/ws")
async def watch_events(
    websocket: WebSocket, after: Annotated[int | None, Query(ge=0)] = None
) -> None:
    """Send the user's events numbered above ``after``, or from now on."""
    parts = parts_of(websocket)
    await websocket.accept()
    claims = await _authenticate(parts, websocket)
    if claims is None:
        await _close(websocket, UNAUTHORIZED, "Send a valid access token.")
        return
    record_of(websocket.scope).user_id = claims.user_id
    sender = asyncio.create_task(_send_events(parts, websocket, claims.user_id, after))
    receiver = asyncio.create_task(_wait_until_gone(websocket))
    try:
        await asyncio.wait(
            {sender, receiver},
            timeout=max(claims.expires_at - _now(), 0.0),
            return_when=asyncio.FIRST_COMPLETED,
        )
        is_expired = not (sender.done() or receiver.done())
    finally:
        sender.cancel()
        receiver.cancel()
        results = await asyncio.gather(sender, receiver, return_exceptions=True)
    if is_expired:
        await _close(websocket, UNAUTHORIZED, "The access token has expired.")
    elif isinstance(results[0], _SlowConsumerError):
        await _close(websocket, TRY_AGAIN_LATER, "Events are not read fast enough.")
    elif isinstance(results[0], Exception) and not _is_gone(results[0]):
        await _close(websocket, TRY_AGAIN_LATER, "The service cannot read events.")
        raise results[0]


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
    if not await is_logged_in(parts, claims):
        note_refusal(websocket, "ended")
        return None
    return claims


async def _first_message_token(websocket: WebSocket) -> str | None:
    try:
        async with asyncio.timeout(AUTHENTICATE_WITHIN_S):
            message = json.loads(await websocket.receive_text())
    # Brackets in brackets make the parser give up with an error of its own.
    except (
        TimeoutError,
        WebSocketDisconnect,
        ValueError,
        KeyError,
        RecursionError,
    ):
        return None
    if not isinstance(message, dict) or message.get("type") != "authenticate":
        return None
    token = message.get("token")
    return token if isinstance(token, str) else None


async def _send_events(
    parts: Parts, websocket: WebSocket, user_id: str, after: int | None
) -> None:
    end = await parts.events.end(user_id)
    cursor = end if after is None else after
    await _send(
        websocket, json.dumps({"type": "ready", "after": cursor, "user_id": user_id})
    )
    if cursor > end:
        # The log began anew (it expired): the client's number means nothing here.
        await _send(websocket, _gap(0, cursor))
        cursor = 0
    events = follow(parts.hub, parts.events, user_id, after=cursor)
    async with contextlib.aclosing(events):
        async for batch in events:
            for event in batch:
                if event.seq != cursor + 1:
                    await _send(websocket, _gap(cursor, event.seq - 1))
                await _send(websocket, event.frame)
                cursor = event.seq


def _gap(after: int, until: int) -> str:
    return json.dumps({"type": "gap", "after": after, "until": until})


async def _send(websocket: WebSocket, frame: str) -> None:
    # The server's buffer is bounded: sending waits once it is full.
    try:
        async with asyncio.timeout(SEND_WITHIN_S):
            await websocket.send_text(frame)
    except TimeoutError as exc:
        raise _SlowConsumerError from exc


async def _wait_until_gone(websocket: WebSocket) -> None:
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass  # clients have nothing to say here


async def _close(websocket: WebSocket, code: int, reason: str) -> None:
    if websocket.application_state is not WebSocketState.CONNECTED:
        return
    # A client that does not read may not take the close frame either. Then the server
    # breaks the connection when we return.
    with contextlib.suppress(RuntimeError, WebSocketDisconnect, OSError):
        async with asyncio.timeout(SEND_WITHIN_S):
            await websocket.close(code, reason)


def _is_gone(exc: Exception) -> bool:
    return isinstance(exc, WebSocketDisconnect | RuntimeError)


def _now() -> float:
    return time.time()  # noqa: TID251  # expiry is wall-clock time by RFC 7519
