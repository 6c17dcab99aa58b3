"""Registering, logging in, refreshing and leaving."""

from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel

from app.api.dependencies import (
    Authenticated,
    PartsOf,
    Plain,
    Work,
    note_refusal,
    refuse,
)
from app.api.documents import commit_and_forget, to_its_end
from app.api.frontier import record_of
from app.api.openapi import answers
from app.api.parts import Parts
from app.api.problems import Problem, not_found
from app.api.schemas import Credentials, NewPassword, RefreshToken
from app.context import UserExecutionContext
from app.realtime import EVERY_SESSION, announce_revoked
from app.storage import (
    Account,
    Profile,
    UsernameTakenError,
    add_account,
    change_password,
    find_account,
    find_own_account,
    find_profile,
    holds_password,
    transaction,
)

router = APIRouter(tags=["auth"])
_WRONG_PASSWORD = "The username or the password is wrong."  # noqa: S105  # a sentence


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


@router.post("/auth/register", status_code=201, responses=answers(409))
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


@router.post("/auth/login", responses=answers(401))
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
        raise refuse(request, "wrong password", _WRONG_PASSWORD)
    record_of(request.scope).user_id = account.user_id
    family_id = str(parts.new_id())
    async with parts.sessions.for_user(account.user_id) as session:
        if not await holds_password(session, account):
            raise refuse(request, "wrong password", _WRONG_PASSWORD)
        await parts.refresh_tokens.forget_expired(session, account.user_id)
        token = await parts.refresh_tokens.issue(session, account.user_id, family_id)
        request_id = record_of(request.scope).request_id
        trail = parts.trails(account.user_id, request_id).bound_to(session)
        await trail.record("session.started", family_id)
    return _pair(parts, account.user_id, family_id, token)


@router.post("/auth/refresh", responses=answers(401))
async def refresh(body: RefreshToken, parts: PartsOf, request: Request) -> TokenPair:
    """Exchange a refresh token for a new pair; each token works once."""
    async with parts.sessions.for_auth() as session:
        rotation = await parts.refresh_tokens.rotate(session, body.refresh_token)
        if rotation.has_ended and rotation.user_id and rotation.family_id:
            await parts.sessions.set_user(session, rotation.user_id)
            request_id = record_of(request.scope).request_id
            trail = parts.trails(rotation.user_id, request_id).bound_to(session)
            await trail.record("session.replayed", rotation.family_id)
    record_of(request.scope).user_id = rotation.user_id
    # What follows comes after the commit: a replayed token has ended its family.
    if rotation.has_ended and rotation.user_id and rotation.family_id:
        await announce_revoked(parts.redis, rotation.user_id, rotation.family_id)
    if not (rotation.token and rotation.user_id and rotation.family_id):
        reason = "replayed" if rotation.family_id else "unknown refresh token"
        detail = "The refresh token is not valid any more. Log in again."
        raise refuse(request, reason, detail)
    return _pair(parts, rotation.user_id, rotation.family_id, rotation.token)


@router.post("/auth/logout", status_code=204)
async def log_out(caller: Authenticated, context: Work, parts: PartsOf) -> None:
    """End the session the access token came from."""
    await parts.refresh_tokens.revoke(context.database, caller.claims.session_id)
    await context.audit.record("session.ended", caller.claims.session_id)
    await to_its_end(_leave(context, parts, caller.claims.session_id))


@router.post("/auth/logout/everywhere", status_code=204)
async def log_out_everywhere(context: Work, parts: PartsOf) -> None:
    """End all sessions of the user, on every device."""
    await parts.refresh_tokens.revoke_all(context.database, context.user_id)
    await context.audit.record("sessions.ended", context.user_id)
    await to_its_end(_leave(context, parts, EVERY_SESSION))


@router.post("/auth/password", status_code=204, responses=answers(403, 404, 409))
async def post_password(
    body: NewPassword, context: Plain, parts: PartsOf, request: Request
) -> None:
    """Change the password, which ends all sessions: log in again with the new one."""
    async with transaction(parts.sessions, context) as reading:
        account = await find_own_account(reading)
    if account is None:
        raise not_found("user")
    # Both hashes outside of a transaction: each takes tens of milliseconds.
    if not await parts.passwords.verify(body.password, account.password_hash):
        note_refusal(request, "wrong password")
        raise Problem(403, "The password is wrong. Nothing was changed.")
    password_hash = await parts.passwords.hash(body.new_password)
    async with parts.sessions.for_user(context.user_id) as session:
        work = context.child(session=session)
        if not await change_password(session, account, password_hash):
            raise Problem(409, "The password was changed meanwhile. Log in again.")
        await parts.refresh_tokens.revoke_all(session, context.user_id)
        await work.audit.record("password.changed", context.user_id)
        await to_its_end(_leave(work, parts, EVERY_SESSION))


@router.get("/me", responses=answers(404))
async def me(context: Work) -> Profile:
    """Show the own account."""
    profile = await find_profile(context)
    if profile is None:
        raise not_found("user")
    return profile


async def _leave(context: UserExecutionContext, parts: Parts, session_id: str) -> None:
    await commit_and_forget(context)
    await announce_revoked(parts.redis, context.user_id, session_id)


def _pair(parts: Parts, user_id: str, family_id: str, token: str) -> TokenPair:
    return TokenPair(
        access_token=parts.access_tokens.issue(user_id, family_id),
        refresh_token=token,
        expires_in=parts.access_tokens.lifetime_s,
        user_id=UUID(user_id),
    )
