"""From a request to the context of its user: the only place that builds contexts.

Each request gets its own. ``Work`` carries a database session whose transaction is
committed before the answer is sent, so whoever reads a 201 can read the new thing.
``Plain`` carries none, for endpoints that open sessions themselves.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer
from redis.exceptions import RedisError
from starlette.requests import HTTPConnection

from app.api.frontier import note_route, record_of
from app.api.parts import Parts
from app.api.problems import SESSION_ENDED, Problem, unauthorized
from app.context import Trace, UserExecutionContext
from app.realtime import announce_revoked
from app.security import Claims, TokenError

ANNOUNCE_WITHIN_S = 1.0
_BEARER = "bearer "


def parts_of(connection: HTTPConnection) -> Parts:
    """Return the parts of the application that serves this connection."""
    parts: Parts = connection.app.state.parts
    return parts


def bearer_token(authorization: str) -> str | None:
    """Return the token in an Authorization header, None when there is none."""
    if authorization[: len(_BEARER)].lower() != _BEARER:
        return None
    return authorization[len(_BEARER) :].strip() or None


def note_refusal(connection: HTTPConnection, reason: str) -> None:
    """Count that somebody was refused, for those who watch over the service."""
    client = connection.client
    parts_of(connection).refusals.note(reason, client.host if client else "unknown")


def refuse(connection: HTTPConnection, reason: str, detail: str) -> Problem:
    """Count a bad token or password, and return its problem (401)."""
    note_refusal(connection, reason)
    return unauthorized(detail)


async def refuse_ended(connection: HTTPConnection, claims: Claims) -> Problem:
    """Count a request of a login that has ended, and return its problem (401).

    The end is announced once more. A worker that is killed between the commit that ends
    a login and its announcement leaves sockets that nobody closes until their tokens
    expire, and its user, who got no answer, asks again.
    """
    with contextlib.suppress(RedisError, OSError, TimeoutError):
        async with asyncio.timeout(ANNOUNCE_WITHIN_S):
            # Of all logins: it is not known how many ended with this one.
            await announce_revoked(parts_of(connection).redis, claims.user_id)
    return refuse(connection, "ended", SESSION_ENDED)


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated request: what its token says, and a context without session."""

    claims: Claims
    context: UserExecutionContext


def build_context(
    parts: Parts, *, user_id: str, request_id: str, trace: Trace | None = None
) -> UserExecutionContext:
    """Return a new context of a user, without a database session."""
    return UserExecutionContext(
        user_id=user_id,
        request_id=request_id,
        keyspace=parts.keyspaces(parts.redis, user_id),
        emitter=parts.emitters(parts.events, user_id),
        audit=parts.trails(user_id, request_id),
        trace=trace,
    )


# For the OpenAPI document only; ``authenticate`` reads the header itself.
_BEARER_SCHEME = HTTPBearer(auto_error=False)


async def authenticate(
    request: Request,
    _: Annotated[object, Security(_BEARER_SCHEME)] = None,
) -> Caller:
    """Return who sent the request.

    Raises:
        Problem: It carries no valid access token (401).
    """
    note_route(request.scope)
    parts = parts_of(request)
    token = bearer_token(request.headers.get("authorization", ""))
    if token is None:
        raise unauthorized("Send an access token: `Authorization: Bearer <token>`.")
    try:
        claims = await parts.access_tokens.recognise(token)
    except TokenError as exc:
        raise refuse(request, exc.reason, str(exc)) from exc
    record = record_of(request.scope)
    parts.guard.require(
        "request", owner=record.user_id or claims.user_id, user_id=claims.user_id
    )
    record.user_id = claims.user_id
    context = build_context(
        parts,
        user_id=claims.user_id,
        request_id=record.request_id,
        trace=record.trace and record.trace.of(claims.user_id),
    )
    return Caller(claims, context)


async def is_logged_in(parts: Parts, claims: Claims) -> bool:
    """Return whether the login of a token goes on, in a transaction of its own."""
    async with parts.sessions.for_user(claims.user_id) as session:
        return await parts.refresh_tokens.is_live(session, claims.session_id)


async def open_work(
    request: Request, caller: Annotated[Caller, Depends(authenticate)]
) -> AsyncIterator[UserExecutionContext]:
    """Yield the caller's context with a database session of its own."""
    parts = parts_of(request)
    with caller.context.traced("transaction") as context:
        async with parts.sessions.for_user(context.user_id) as session:
            # Asked in the transaction of the work: what a logout ended before is refused
            # in every worker, with Redis or without.
            if not await parts.refresh_tokens.is_live(
                session, caller.claims.session_id
            ):
                raise await refuse_ended(request, caller.claims)
            yield replace(
                context, session=session, audit=context.audit.bound_to(session)
            )


async def open_plain(
    request: Request, caller: Annotated[Caller, Depends(authenticate)]
) -> UserExecutionContext:
    """Return the caller's context without a session."""
    # The connection is given back before the endpoint begins, which takes its own.
    if not await is_logged_in(parts_of(request), caller.claims):
        raise await refuse_ended(request, caller.claims)
    return caller.context


async def _parts(request: Request) -> Parts:
    # A coroutine, though it awaits nothing: FastAPI runs plain functions in a thread.
    return parts_of(request)


PartsOf = Annotated[Parts, Depends(_parts)]
Authenticated = Annotated[Caller, Depends(authenticate)]
Plain = Annotated[UserExecutionContext, Depends(open_plain)]
# Scope "function": the transaction ends when the endpoint returns, before its answer.
Work = Annotated[UserExecutionContext, Depends(open_work, scope="function")]
