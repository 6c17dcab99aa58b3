"""Puts the whole API onto an application."""

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import Scope

from app.api import (
    access,
    audit,
    auth,
    documents,
    health,
    intents,
    keys,
    node_sets,
    passages,
    runs,
    threads,
    websocket,
)
from app.api.dependencies import bearer_token
from app.api.frontier import Frontier
from app.api.openapi import describe
from app.api.parts import Parts
from app.api.problems import (
    answer_denied,
    answer_http_exception,
    answer_validation_error,
)
from app.monitoring import RequestWatch
from app.security import PermissionDeniedError, TokenError


def add_api(app: FastAPI, *, max_body_bytes: int) -> None:
    """Add routes, error answers and the outermost layer."""
    # Passages before documents, whose ids could else be called so.
    for module in (
        threads,
        passages,
        documents,
        runs,
        intents,
        node_sets,
        access,
        audit,
    ):
        app.include_router(module.router)
    for module in (auth, health, keys, websocket):
        app.include_router(module.router)
    describe(app)
    app.add_exception_handler(HTTPException, answer_http_exception)
    app.add_exception_handler(RequestValidationError, answer_validation_error)
    app.add_exception_handler(PermissionDeniedError, answer_denied)

    def name_user(scope: Scope) -> str | None:
        parts: Parts = app.state.parts
        raw = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        token = bearer_token(raw)
        try:
            return token and parts.access_tokens.verify(token).user_id
        except TokenError:
            return None

    def watch() -> RequestWatch:
        parts: Parts = app.state.parts
        return parts.request_watch

    app.add_middleware(
        Frontier, max_body_bytes=max_body_bytes, name_user=name_user, watch=watch
    )
