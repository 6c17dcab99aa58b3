"""Errors as problem documents (RFC 9457).

A problem says what is wrong with the request that got it. It repeats nothing but that
request's own path and field names: values may be secrets, and text from elsewhere may
be another user's.
"""

from collections.abc import Mapping
from http import HTTPStatus

import redis.exceptions
import sqlalchemy.exc
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from app.agents import ClosedError
from app.security import PermissionDeniedError, StaleKeysError
from app.storage import is_outage

MEDIA_TYPE = "application/problem+json"
UNAVAILABLE = (
    sqlalchemy.exc.TimeoutError,
    sqlalchemy.exc.OperationalError,
    sqlalchemy.exc.InterfaceError,
    redis.exceptions.ConnectionError,
    redis.exceptions.TimeoutError,
    OSError,
    ClosedError,
    StaleKeysError,
)
"""What a dependency that is down or overloaded raises, and a service that stops."""

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_DETAILS = {
    400: "The request is malformed. See /openapi.json for what is expected.",
    404: "There is no such resource, or it is not yours.",
    405: "This resource does not support the method. See the Allow header.",
}


def is_unavailable(exc: Exception) -> bool:
    """Whether a dependency is down, full or overloaded, or the service stops."""
    return isinstance(exc, UNAVAILABLE) or is_outage(exc)


def is_connection_lost(exc: Exception) -> bool:
    """Whether a database connection broke in the middle of what it was asked."""
    return isinstance(exc, sqlalchemy.exc.DBAPIError) and exc.connection_invalidated


class Problem(HTTPException):
    """Raised to answer a request with a problem document: the client's fault."""

    def __init__(
        self, status: int, detail: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        """Answer with ``status`` and one sentence."""
        super().__init__(status, detail, dict(headers or {}))


SESSION_ENDED = "The session of this token has ended. Log in again."


def not_found(kind: str) -> Problem:
    """Return the problem of a resource that is absent or somebody else's."""
    return Problem(404, f"There is no such {kind}, or it is not yours.")


def unauthorized(detail: str) -> Problem:
    """Return the problem of a missing or bad token or password."""
    return Problem(401, detail, headers={"www-authenticate": "Bearer"})


def problem_response(
    status: int,
    detail: str,
    *,
    path: str,
    headers: Mapping[str, str] | None = None,
    errors: list[dict[str, object]] | None = None,
) -> Response:
    """Return a problem document as a response."""
    body: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": path,
    }
    if errors is not None:
        body["errors"] = errors
    return JSONResponse(
        body, status, headers=dict(headers or {}), media_type=MEDIA_TYPE
    )


async def answer_http_exception(request: Request, exc: Exception) -> Response:
    """Answer what routes and the framework raise on purpose."""
    if not isinstance(exc, HTTPException):
        raise exc
    detail = exc.detail
    headers = dict(exc.headers or {})
    if exc.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["allow"] = ", ".join(_allowed(request))
    if not isinstance(exc, Problem):
        # The framework's own texts are kept out: some repeat parts of the input.
        detail = _DETAILS.get(exc.status_code, HTTPStatus(exc.status_code).phrase)
    return problem_response(
        exc.status_code, detail, path=request.url.path, headers=headers
    )


def _allowed(request: Request) -> list[str]:
    # The framework names the methods of the first route with this path, out of several.
    app: Starlette = request.app
    return [
        method
        for method in _METHODS
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in app.routes
        )
    ]


async def answer_denied(request: Request, exc: Exception) -> Response:
    """Answer a request for something that the user may not do."""
    if not isinstance(exc, PermissionDeniedError):
        raise exc
    client = request.client
    refusals = request.app.state.parts.refusals
    refusals.note("forbidden", client.host if client else "unknown")
    return problem_response(403, str(exc), path=request.url.path)


async def answer_validation_error(request: Request, exc: Exception) -> Response:
    """Answer a request whose fields are wrong: which ones and why, not their values."""
    if not isinstance(exc, RequestValidationError):
        raise exc
    errors: list[dict[str, object]] = [
        {"field": ".".join(map(str, error["loc"])), "problem": error["msg"]}
        for error in exc.errors()
    ]
    return problem_response(
        422,
        "Some fields of the request are wrong.",
        path=request.url.path,
        errors=errors,
    )
