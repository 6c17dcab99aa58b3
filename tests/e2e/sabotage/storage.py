"""Twins of the storage: settings in the pool, warm sessions, keys without users."""

import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from fastapi import APIRouter, FastAPI, Response
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from app.api.dependencies import Authenticated, PartsOf, Work
from app.api.schemas import NewThread
from app.api.threads import get_messages, post_thread
from app.cache import UserKeyspace
from app.main import Parts, create_app
from app.storage import DocumentSummary, Message, SessionFactory, Thread
from app.storage.tables import documents, threads
from tests.e2e.sabotage.overriding import override

REMEMBERED_S = 0.5
_SET_USER_FOR_GOOD = text("SELECT set_config('app.user_id', :user_id, false)")


async def _newest_threads(session: AsyncSession) -> list[Thread]:
    """List threads by row-level security alone: the query names no user."""
    columns = threads.c
    rows = await session.execute(
        select(columns.id, columns.title, columns.created_at, columns.updated_at)
        .order_by(columns.created_at.desc())
        .limit(100)
    )
    return [Thread(*row) for row in rows]


async def _newest_documents(session: AsyncSession) -> list[DocumentSummary]:
    """List documents by row-level security alone: the query names no user."""
    columns = documents.c
    rows = await session.execute(
        select(columns.id, columns.title, columns.created_at, columns.updated_at)
        .order_by(columns.created_at.desc())
        .limit(100)
    )
    return [DocumentSummary(*row) for row in rows]


class _PooledSetting(SessionFactory):
    """Sets the user on the connection, which outlives the transaction."""

    async def set_user(self, session: AsyncSession, user_id: str) -> None:
        await session.execute(_SET_USER_FOR_GOOD, {"user_id": user_id})


def create_pooled_setting() -> FastAPI:
    """A session setting that survives in the pool meets a query that sets none.

    Catalogue D03 (measured: SQLAlchemy's pool keeps it; django-tenants#545).
    """
    router = APIRouter()

    @router.get("/threads")
    async def get_threads(caller: Authenticated, parts: PartsOf) -> list[Thread]:
        del caller  # row-level security knows who it is
        async with AsyncSession(parts.engine) as session:
            return await _newest_threads(session)

    def sabotage(parts: Parts) -> Parts:
        return replace(parts, sessions=_PooledSetting(parts.engine))

    return override(create_app(replace=sabotage), router)


class _WarmSessions(SessionFactory):
    """Keeps sessions with their user set, to spare a round trip to Postgres."""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__(engine)
        self._warm: list[AsyncSession] = []

    @contextlib.asynccontextmanager
    async def warm(self, user_id: str) -> AsyncIterator[AsyncSession]:
        if self._warm:
            session = self._warm.pop()
        else:
            session = self._maker()
            await self.set_user(session, user_id)
        try:
            yield session
        finally:
            self._warm.append(session)


def create_warm_sessions() -> FastAPI:
    """Hands a session that was opened for one user to the next one.

    Catalogue D02 (openrelik-server#111): a free list of sessions that forgets whose
    they are.
    """
    router = APIRouter()

    @router.get("/documents")
    async def get_documents(
        caller: Authenticated, parts: PartsOf
    ) -> list[DocumentSummary]:
        sessions = parts.sessions
        if not isinstance(sessions, _WarmSessions):
            raise TypeError(sessions)
        async with sessions.warm(caller.claims.user_id) as session:
            return await _newest_documents(session)

    def sabotage(parts: Parts) -> Parts:
        return replace(parts, sessions=_WarmSessions(parts.engine))

    return override(create_app(replace=sabotage), router)


class _SharedKeyspace(UserKeyspace):
    """Names keys after what they hold, and forgets whose it is."""

    def key(self, name: str) -> str:
        return f"cache:{name}"


def create_cache_without_user() -> FastAPI:
    """Caches the list of documents under a key that lacks the user.

    Catalogue R01 (wso2#733, vllm semantic-router#1448).
    """

    def sabotage(parts: Parts) -> Parts:
        return replace(parts, keyspaces=_SharedKeyspace)

    return create_app(replace=sabotage)


def create_cached_messages() -> FastAPI:
    """Remembers the messages of a thread for half a second, in each worker by itself.

    Catalogue R03: what was just written is missing from the next answer, or there and
    gone again, depending on the worker that answers. No user sees another's data.
    """
    router = APIRouter()
    remembered: dict[tuple[str, UUID], tuple[float, list[Message]]] = {}

    @router.get("/threads/{thread_id}/messages")
    async def get_messages_once(thread_id: UUID, context: Work) -> list[Message]:
        key, now = (context.user_id, thread_id), time.monotonic()
        if key not in remembered or now - remembered[key][0] > REMEMBERED_S:
            remembered[key] = (now, await get_messages(thread_id, context))
        return remembered[key][1]

    return override(create_app(), router)


def create_clock_identifiers() -> FastAPI:
    """Numbers new threads by the clock, so that two of one second are one.

    CWE-694: ``datetime.now().strftime(...)`` as a reference number.
    """
    router = APIRouter()

    @router.post("/threads", status_code=201)
    async def number_thread(
        new: NewThread, context: Work, parts: PartsOf, response: Response
    ) -> dict[str, str]:
        thread = await post_thread(new, context, parts, response)
        number = datetime.now(UTC).strftime("%Y%m%d%H%M%S")
        return {"id": number, "thread_id": thread.thread_id, "title": thread.title}

    return override(create_app(), router)
