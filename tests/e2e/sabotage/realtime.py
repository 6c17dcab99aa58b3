"""Twins of the event delivery: broadcast, duplicates, subscriptions left behind."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

from fastapi import FastAPI
from redis.asyncio import Redis
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.main import Parts, create_app
from app.realtime import EventLog, Hub
from app.realtime.events import wake_channel


class _RoomLog(EventLog):
    """Takes everybody who watches for members of one room."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis)
        self._members: set[str] = set()

    async def end(self, user_id: str) -> int:
        self._members.add(user_id)
        return await super().end(user_id)

    async def append(
        self,
        user_id: str,
        kind: str,
        *,
        run_id: str,
        thread_id: str,
        data: Mapping[str, object],
        event_id: str | None = None,
    ) -> int:
        for member in self._members - {user_id}:
            await super().append(
                member, kind, run_id=run_id, thread_id=thread_id, data=data
            )
        return await super().append(
            user_id,
            kind,
            run_id=run_id,
            thread_id=thread_id,
            data=data,
            event_id=event_id,
        )


def create_broadcast() -> FastAPI:
    """Sends each event to every user who watches.

    Catalogue R08 and W08 (MCP TypeScript SDK GHSA-345p-7cg4-v4c7): a broadcast
    helper written for a chat room, reused for private events.
    """

    def sabotage(parts: Parts) -> Parts:
        return replace(parts, events=_RoomLog(parts.redis))

    return create_app(replace=sabotage)


class _Outbox:
    """Keeps each frame until the next, in case the client has to have it again."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kept: list[Message] = []

        async def send_kept(message: Message) -> None:
            # Frames without a number are greetings; only events are kept.
            if '"seq"' not in message.get("text", ""):
                await send(message)
                return
            kept.append(message)
            for frame in kept:
                await send(frame)
            del kept[:-1]

        outgoing = send_kept if scope["type"] == "websocket" else send
        await self._app(scope, receive, outgoing)


def create_duplicated_events() -> FastAPI:
    """Flushes a whole outbox with each event, so that each goes out twice.

    Catalogue W09 and R12: a replay buffer and a live path that both deliver.
    """
    app = create_app()
    app.add_middleware(_Outbox)
    return app


class _ForgetfulHub(Hub):
    """Ends a subscription after the loop, which is never reached."""

    @contextlib.asynccontextmanager
    async def following(self, user_id: str) -> AsyncIterator[asyncio.Event]:
        wake = asyncio.Event()
        channel = wake_channel(user_id)

        def listener(_: bytes | None) -> None:
            wake.set()

        self._listeners[channel].add(listener)
        await self._settle(channel)
        yield wake
        self._listeners[channel].discard(listener)
        await self._settle(channel)


def create_teardown_leak() -> FastAPI:
    """Leaves a user's subscription behind when the socket is cancelled.

    Catalogue X11 and W10: the tidying stands after the ``yield`` and not in a
    ``finally``.
    """

    def sabotage(parts: Parts) -> Parts:
        subscriber: Redis = parts.hub._redis
        return replace(parts, hub=_ForgetfulHub(subscriber))

    return create_app(replace=sabotage)
