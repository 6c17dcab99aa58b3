"""The OpenAPI document: every answer that a client can get, problems included.

What follows from the shape of an endpoint is added to all of them here: a bad token where
there is a lock, a missing thing where the path names one, a body that is no JSON or too
long where there is a body. What only one endpoint answers, such as a conflict, it declares
itself with ``answers``.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.api.problems import MEDIA_TYPE

_METHODS = frozenset({"get", "put", "post", "delete", "patch"})
_PROBLEM = {
    "title": "Problem",
    "description": "What is wrong with the request (RFC 9457).",
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "problem"],
                "properties": {
                    "field": {"type": "string"},
                    "problem": {"type": "string"},
                },
            },
        },
    },
}
_SAID = {
    400: "The body is no JSON.",
    401: "The token is missing, bad, expired, or its session has ended.",
    403: "The user may not do this.",
    404: "There is no such thing, or it is not yours.",
    409: "It conflicts with what is there.",
    413: "The body is too large.",
    422: "Some fields are wrong; which and why is said.",
    429: "Too many requests; when to try again is said.",
    503: "A dependency of the service does not answer; try again soon.",
}


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what an endpoint declares of problems that only it answers with."""
    return {status: _problem(status) for status in statuses}


def text_answer(
    media_type: str, *, status: int = 200
) -> dict[int | str, dict[str, Any]]:
    """Return what an endpoint declares that streams text."""
    content = {media_type: {"schema": {"type": "string"}}}
    return {status: {"description": "The text, as it comes.", "content": content}}


def describe(app: FastAPI) -> None:
    """Let an application tell of all its answers; the document is made once."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _complete(
                get_openapi(title=app.title, version=app.version, routes=app.routes)
            )
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI documents it


def _complete(document: dict[str, Any]) -> dict[str, Any]:
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = _PROBLEM
    for item in document["paths"].values():
        for method in _METHODS & item.keys():
            operation = item[method]
            # The framework's own account of its errors, which are ours here.
            operation["responses"].pop("422", None)
            for status in sorted(_statuses(operation)):
                operation["responses"].setdefault(str(status), _problem(status))
    return document


def _statuses(operation: dict[str, Any]) -> set[int]:
    statuses = {503}
    parameters = operation.get("parameters", [])
    if operation.get("security"):
        statuses.add(401)
    if parameters:
        statuses.add(422)
    if any(parameter["in"] == "path" for parameter in parameters):
        statuses.add(404)
    if "requestBody" in operation:
        statuses |= {400, 413, 422}
    return statuses


def _problem(status: int) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": _SAID[status], "content": {MEDIA_TYPE: {"schema": schema}}}
