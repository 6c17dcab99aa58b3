"""Twins of the entrance: refresh race, folded names, callers kept by request id."""

from dataclasses import replace
from uuid import UUID

from fastapi import APIRouter, FastAPI, Request
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.auth import TokenPair, log_in
from app.api.dependencies import Caller, PartsOf, authenticate
from app.api.frontier import record_of
from app.api.schemas import Credentials
from app.main import Parts, create_app
from app.security import hash_refresh_token
from app.storage import RefreshTokens, Rotation
from app.storage.tables import refresh_tokens, users
from tests.e2e.sabotage.overriding import override


class _ReadThenSpend(RefreshTokens):
    async def rotate(self, session: AsyncSession, token: str) -> Rotation:
        columns = refresh_tokens.c
        token_hash = hash_refresh_token(token)
        row = (
            await session.execute(
                select(columns.user_id, columns.family_id, columns.spent_at).where(
                    columns.token_hash == token_hash, columns.revoked_at.is_(None)
                )
            )
        ).first()
        if row is None or row.spent_at is not None:
            return Rotation()
        await session.execute(
            update(refresh_tokens)
            .where(columns.token_hash == token_hash)
            .values(spent_at=func.now())
        )
        successor = await self.issue(session, row.user_id, row.family_id)
        return Rotation(row.user_id, row.family_id, successor)


def create_refresh_race() -> FastAPI:
    """Reads whether a refresh token is spent, then spends it.

    Catalogue A01 and A08 (nocturne PR#326, oxAuth#1909).
    """

    def sabotage(parts: Parts) -> Parts:
        lifetime_s = parts.settings.refresh_token_s
        return replace(parts, refresh_tokens=_ReadThenSpend(lifetime_s=lifetime_s))

    return create_app(replace=sabotage)


def create_folded_names() -> FastAPI:
    """Finds accounts by name without regard to case, and takes the oldest.

    CWE-178 and CVE-2019-19844 (Django): look-up and registration compare names
    differently.
    """
    router = APIRouter()

    @router.post("/auth/login")
    async def log_in_folded(
        credentials: Credentials, parts: PartsOf, request: Request
    ) -> TokenPair:
        pair = await log_in(credentials, parts, request)
        async with parts.sessions.for_auth() as session:
            oldest = await session.scalar(
                select(users.c.user_id)
                .where(func.lower(users.c.username) == credentials.username.lower())
                .order_by(users.c.created_at)
                .limit(1)
            )
            user_id, session_id = str(oldest), str(parts.new_id())
            await parts.refresh_tokens.issue(session, user_id, session_id)
        token = parts.access_tokens.issue(user_id, session_id)
        return pair.model_copy(update={"access_token": token, "user_id": UUID(user_id)})

    return override(create_app(), router)


def create_callers_by_request_id() -> FastAPI:
    """Verifies tokens of reads once per request id, which the client chooses.

    Catalogue L13 and P22: a memo whose key the caller chooses.
    """
    known: dict[str, Caller] = {}

    async def authenticate_once(
        request: Request,
    ) -> Caller:
        if request.method != "GET":
            return await authenticate(request)
        request_id = record_of(request.scope).request_id
        if request_id not in known:
            known[request_id] = await authenticate(request)
        return known[request_id]

    app = create_app()
    app.dependency_overrides[authenticate] = authenticate_once
    return app
