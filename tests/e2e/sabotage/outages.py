"""Twins that keep what they promise until something breaks under them."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
from fastapi import APIRouter, FastAPI
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.dependencies import Authenticated, PartsOf, Work
from app.api.documents import forget_cached
from app.api.schemas import NewDocument, NewMessage
from app.api.threads import get_messages
from app.main import Parts, create_app
from app.realtime import EventLog
from app.storage import Message as StoredMessage
from app.storage import add_message
from tests.e2e.sabotage.overriding import override

ENDS = {"run.completed", "run.failed", "run.cancelled"}
FLUSHED_EVERY_S = 1.0
HEDGED_AFTER_S = 1.0
SNAPSHOT_BYTES = 4 * 2**20


class _WriteBehind:
    """Messages that were acknowledged and are not in Postgres yet."""

    def __init__(self) -> None:
        self.waiting: list[tuple[str, UUID, StoredMessage]] = []
        self._flusher: asyncio.Task[None] | None = None

    def add(
        self,
        parts: Parts,
        caller: Authenticated,
        thread_id: UUID,
        message: StoredMessage,
    ) -> None:
        """Keep a message for the next flush."""
        self.waiting.append((caller.claims.user_id, thread_id, message))
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush_forever(parts, caller))

    async def _flush_forever(self, parts: Parts, caller: Authenticated) -> None:
        while True:
            await asyncio.sleep(FLUSHED_EVERY_S)
            for entry in list(self.waiting):
                user_id, thread_id, message = entry
                # What fails is dropped: the next flush is due.
                with contextlib.suppress(Exception):
                    async with parts.sessions.for_user(user_id) as session:
                        await add_message(
                            replace(caller.context, user_id=user_id, session=session),
                            str(thread_id),
                            message_id=message.message_id,
                            role="user",
                            content=message.content,
                        )
                self.waiting.remove(entry)


def create_early_acknowledgement() -> FastAPI:
    """Acknowledges messages at once and writes them a second later, in one go.

    CWE-662: a write-behind buffer in memory, for throughput. Reads look into it, so
    nobody notices until the process is killed.
    """
    router, buffer = APIRouter(), _WriteBehind()

    @router.post("/threads/{thread_id}/messages", status_code=201)
    async def keep_message(
        thread_id: UUID, new: NewMessage, caller: Authenticated, parts: PartsOf
    ) -> StoredMessage:
        message = StoredMessage(
            thread_id=str(thread_id),
            message_id=str(parts.new_id()),
            role="user",
            content=new.content,
            created_at=datetime.now(UTC),
        )
        buffer.add(parts, caller, thread_id, message)
        return message

    @router.get("/threads/{thread_id}/messages")
    async def read_messages(
        thread_id: UUID, context: Work, limit: int = 100
    ) -> list[StoredMessage]:
        waiting = [
            message
            for user_id, thread, message in buffer.waiting
            if (user_id, thread) == (context.user_id, thread_id)
        ]
        stored = await get_messages(thread_id, context, limit)
        known = {message.message_id for message in stored}
        return [*stored, *(one for one in waiting if one.message_id not in known)]

    return override(create_app(), router)


def create_hedged_writes() -> FastAPI:
    """Sends a write again when it has not been answered within a second.

    CWE-837: "hedged requests" (Dean & Barroso, "The Tail at Scale", 2013) are for
    reads. Both attempts are carried out once Postgres can be reached again.
    """
    router, writing = APIRouter(), set[asyncio.Task[StoredMessage | None]]()

    @router.post("/threads/{thread_id}/messages", status_code=201)
    async def write_message(
        thread_id: UUID, new: NewMessage, caller: Authenticated, parts: PartsOf
    ) -> StoredMessage | None:
        async def write() -> StoredMessage | None:
            async with parts.sessions.for_user(caller.claims.user_id) as session:
                return await add_message(
                    caller.context.child(session=session),
                    str(thread_id),
                    message_id=str(parts.new_id()),
                    role="user",
                    content=new.content,
                )

        def attempt() -> asyncio.Task[StoredMessage | None]:
            task = asyncio.create_task(write())
            writing.add(task)
            task.add_done_callback(writing.discard)
            return task

        attempts = {attempt()}
        done, _ = await asyncio.wait(attempts, timeout=HEDGED_AFTER_S)
        if not done:
            attempts.add(attempt())
            done, _ = await asyncio.wait(attempts, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()

    return override(create_app(), router)


class _BatchedLog(EventLog):
    """Collects the events of a run and appends them at its end, to spare round trips."""

    def __init__(self, redis: Redis, writer: Redis) -> None:
        super().__init__(redis)
        self._writer = EventLog(writer)
        self._writing = asyncio.Lock()
        self._batches: defaultdict[str, list[dict[str, object]]] = defaultdict(list)

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
        self._batches[run_id].append(
            {
                "user_id": user_id,
                "kind": kind,
                "run_id": run_id,
                "thread_id": thread_id,
                "data": data,
                "event_id": event_id,
            }
        )
        if kind in ENDS:
            batch = self._batches.pop(run_id)
            # Telemetry may be lost, thought whoever wrote this.
            with contextlib.suppress(Exception):
                async with self._writing:
                    for event in batch:
                        await self._writer.append(**event)  # type: ignore[arg-type]  # as they came
        return 0


def create_lossy_events() -> FastAPI:
    """Drops the events that cannot be appended while Redis is away.

    CWE-362, and the default of many a logging handler. They have a connection of their
    own, so that Redis was away is noticed by what is sent next, however soon it is back.
    """

    def sabotage(parts: Parts) -> Parts:
        url = parts.settings.redis_url.get_secret_value()
        writer = Redis.from_url(
            url, single_connection_client=True, retry=Retry(NoBackoff(), 0)
        )
        return replace(parts, events=_BatchedLog(parts.redis, writer))

    return create_app(replace=sabotage)


def create_poisoned_pool() -> FastAPI:
    """Puts a connection back as it is, also when a statement on it has failed.

    CWE-460: a transaction that was aborted and not rolled back refuses whatever comes
    next, from whomever. Where nothing fails, nobody notices.
    """
    router = APIRouter()
    free: list[asyncpg.Connection] = []

    @router.post("/documents", status_code=201)
    async def keep_document(
        new: NewDocument, caller: Authenticated, parts: PartsOf
    ) -> dict[str, str]:
        url = parts.settings.database_url.get_secret_value()
        connection = free.pop() if free else await asyncpg.connect(url)
        document_id = parts.new_id()
        try:
            await connection.execute("BEGIN")
            await connection.execute(
                "INSERT INTO documents (id, user_id, title, body) "
                "VALUES ($1, $2, $3, $4)",
                document_id,
                UUID(caller.claims.user_id),
                new.title,
                new.body,
            )
            await connection.execute("COMMIT")
        finally:
            free.append(connection)
        await forget_cached(caller.context)
        return {"document_id": str(document_id), "title": new.title}

    return override(create_app(), router)


def create_lasting_connection() -> FastAPI:
    """Reads through a connection that was opened once and is never made anew.

    CWE-404: the connection of a module, from the days before there was a pool.
    """
    router, turn = APIRouter(), asyncio.Lock()
    kept: list[asyncpg.Connection] = []

    @router.get("/documents")
    async def list_titles(
        caller: Authenticated, parts: PartsOf
    ) -> list[dict[str, str]]:
        async with turn:
            if not kept:
                url = parts.settings.database_url.get_secret_value()
                kept.append(await asyncpg.connect(url))
            rows = await kept[0].fetch(
                "SELECT title FROM documents WHERE user_id = $1 "
                "ORDER BY created_at DESC LIMIT 200",
                UUID(caller.claims.user_id),
            )
        return [{"title": row["title"]} for row in rows]

    return override(create_app(), router)


class _Hoarder:
    """Keeps what was asked and answered of each request that failed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._kept: list[tuple[Scope, bytearray]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def look(message: Message) -> None:
            if message.get("status", 0) >= 400:
                self._kept.append((scope, bytearray(b"?" * SNAPSHOT_BYTES)))
            await send(message)

        await self._app(scope, receive, look)


def create_hoarder() -> FastAPI:
    """Keeps every failed request for a page that shows the latest failures.

    CWE-401: a list without an end. Nothing fails often enough to be noticed, until an
    outage makes everything fail.
    """
    app = create_app()
    app.add_middleware(_Hoarder)
    return app
