"""Registering, logging in, refreshing and leaving."""

from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel

from app.api.dependencies import Authenticated, PartsOf, Work
from app.api.documents import forget_cached
from app.api.frontier import record_of
from app.api.parts import Parts
from app.api.problems import Problem, not_found, unauthorized
from app.api.schemas import Credentials, RefreshToken
from app.storage import (
    Account,
    Profile,
    UsernameTakenError,
    add_account,
    find_account,
    find_profile,
)

router = APIRouter(tags=["auth"])


class Registered(BaseModel):
    """A new account."""

    user_id: UUID
    username: str


class TokenPair(BaseModel):
    """An access token, its lifetime in seconds, and the token that renews it."""

    access_token: str
    refresh_token: str
    token_type: str = "Bearer"  # noqa: S105  # the scheme's name, not a secret
    expires_in: int
    user_id: UUID


@router.post("/auth/register", status_code=201)
async def register(
    credentials: Credentials, parts: PartsOf, request: Request
) -> Registered:
    """Make an account."""
    user_id = str(parts.new_id())
    # Hashed before the transaction: it takes tens of milliseconds.
    password_hash = await parts.passwords.hash(credentials.password)
    account = Account(user_id, credentials.username, password_hash)
    try:
        async with parts.sessions.for_auth() as session:
            await add_account(session, account)
    except UsernameTakenError as exc:
        raise Problem(409, "This username is taken. Choose another one.") from exc
    record_of(request.scope).user_id = user_id
    return Registered(user_id=UUID(user_id), username=account.username)


@router.post("/auth/login")
async def log_in(
    credentials: Credentials, parts: PartsOf, request: Request
) -> TokenPair:
    """Start a session."""
    async with parts.sessions.for_auth() as session:
        account = await find_account(session, credentials.username)
    is_right = await parts.passwords.verify(
        credentials.password, account.password_hash if account else None
    )
    if account is None or not is_right:
        raise unauthorized("The username or the password is wrong.")
    record_of(request.scope).user_id = account.user_id
    family_id = str(parts.new_id())
    async with parts.sessions.for_user(account.user_id) as session:
        await parts.refresh_tokens.forget_expired(session, account.user_id)
        token = await parts.refresh_tokens.issue(session, account.user_id, family_id)
        request_id = record_of(request.scope).request_id
        trail = parts.trails(account.user_id, request_id).bound_to(session)
        await trail.record("session.started", family_id)
    return _pair(parts, account.user_id, family_id, token)


@router.post("/auth/refresh")
async def refresh(body: RefreshToken, parts: PartsOf, request: Request) -> TokenPair:
    """Exchange a refresh token for a new pair; each token works once."""
    async with parts.sessions.for_auth() as session:
        rotation = await parts.refresh_tokens.rotate(session, body.refresh_token)
    record_of(request.scope).user_id = rotation.user_id
    # Raised after the commit: a replayed token has ended its family.
    if not (rotation.token and rotation.user_id and rotation.family_id):
        raise unauthorized("The refresh token is not valid any more. Log in again.")
    return _pair(parts, rotation.user_id, rotation.family_id, rotation.token)


@router.post("/auth/logout", status_code=204)
async def log_out(caller: Authenticated, context: Work, parts: PartsOf) -> None:
    """End the session the access token came from."""
    await parts.refresh_tokens.revoke(context.database, caller.claims.session_id)
    await context.audit.record("session.ended", caller.claims.session_id)
    await forget_cached(context)


@router.get("/me")
async def me(context: Work) -> Profile:
    """Show the own account."""
    profile = await find_profile(context)
    if profile is None:
        raise not_found("user")
    return profile


def _pair(parts: Parts, user_id: str, family_id: str, token: str) -> TokenPair:
    return TokenPair(
        access_token=parts.access_tokens.issue(user_id, family_id),
        refresh_token=token,
        expires_in=parts.access_tokens.lifetime_s,
        user_id=UUID(user_id),
    )
