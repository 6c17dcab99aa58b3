"""The outermost layer: one record per request, one log line, headers, last resort.

Pure ASGI, so it costs no task and no context of its own, and cancellation passes
through unchanged. Everything it knows of a request is in that request's scope.
"""

import functools
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import (
    Problem,
    is_connection_lost,
    is_unavailable,
    problem_response,
)
from app.monitoring import NO_ROUTE, RequestWatch, Trace, WatchedRequest, log_event

RECORD = "app.record"
_SANE_ID = re.compile(r"[A-Za-z0-9._\-]{1,128}")
_PUBLIC = ("/health/", "/.well-known/", "/openapi.json", "/docs")
_SWITCHING_PROTOCOLS = 101
_log = logging.getLogger("app.requests")


@dataclass(slots=True)
class RequestRecord:
    """What is known of one request; filled in as it proceeds.

    Attributes:
        request_id: The caller's, or a new one.
        user_id: The authenticated user, None so far or for strangers.
        status: The answer's status; 0 while there is none.
        watched: What is counted and traced of it.
    """

    request_id: str
    user_id: str | None = None
    status: int = 0
    watched: WatchedRequest | None = None

    @property
    def trace(self) -> Trace | None:
        """The request's span; its context hangs further ones under it."""
        return self.watched.trace if self.watched is not None else None


class Frontier:
    """Wraps the whole application."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_body_bytes: int,
        name_user: Callable[[Scope], str | None],
        watch: Callable[[], RequestWatch] = RequestWatch,
    ) -> None:
        """Limit bodies to ``max_body_bytes``.

        Args:
            app: What is wrapped.
            max_body_bytes: Largest body.
            name_user: Says whose token a request carries that ended before it was
                authenticated, so that the log names an owner for its path.
            watch: Returns what counts and traces requests.
        """
        self._watch = watch
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._name_user = name_user

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's request."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        record = RequestRecord(given if _SANE_ID.fullmatch(given) else str(uuid4()))
        scope[RECORD] = record
        started_ns = time.monotonic_ns()
        method = scope.get("method", "WEBSOCKET")
        with self._watch().request(scope["type"], method) as watched:
            record.watched = watched
            counted = _counted(scope, send, watched)
            try:
                if scope["type"] == "http":
                    await self._http(scope, receive, counted, headers, record)
                else:
                    await self._app(scope, receive, counted)
            finally:
                watched.end(_endpoint(scope))
                self._write_line(scope, record, time.monotonic_ns() - started_ns)

    async def _http(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        headers: Headers,
        record: RequestRecord,
    ) -> None:
        is_public = scope["path"].startswith(_PUBLIC)

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                answer = MutableHeaders(raw=message["headers"])
                answer["x-request-id"] = record.request_id
                if not is_public:
                    answer["cache-control"] = "private, no-store"
                    answer["vary"] = "authorization"
            await send(message)

        limited = self._limit(receive)
        try:
            self._check_length(int(headers.get("content-length", 0)))
            await self._app(scope, limited, send_marked)
        except Exception as exc:
            answer = self._last_resort(exc, scope["path"], record)
            if record.status:
                # Half an answer is out: let the server break the connection, so the
                # client cannot take it for a whole one.
                raise
            await answer(scope, receive, send_marked)

    def _limit(self, receive: Receive) -> Receive:
        taken = 0

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            self._check_length(taken)
            return message

        return limited

    def _check_length(self, body_bytes: int) -> None:
        if body_bytes > self._max_body_bytes:
            raise Problem(
                413,
                f"The body is larger than {self._max_body_bytes} bytes. Send less.",
                headers={"connection": "close"},
            )

    def _last_resort(self, exc: Exception, path: str, record: RequestRecord) -> ASGIApp:
        if isinstance(exc, Problem):
            return problem_response(
                exc.status_code, exc.detail, path=path, headers=exc.headers
            )
        log = functools.partial(
            log_event,
            _log,
            level=logging.ERROR,
            request_id=record.request_id,
            user_id=record.user_id,
        )
        if is_connection_lost(exc):
            # Without a time to come again: a commit may have been on its way, and that
            # header says that nothing happened.
            log("dependency.lost", problem=type(exc).__name__)
            return problem_response(
                503,
                "A dependency was lost while it worked on this request. Look what was "
                "done before you send it again.",
                path=path,
            )
        if is_unavailable(exc):
            log("dependency.unavailable", problem=type(exc).__name__)
            return problem_response(
                503,
                "A dependency of the service does not answer. Try again soon.",
                path=path,
                headers={"retry-after": "1"},
            )
        log("request.failed", error=exc)
        self._watch().crashed(exc, user_id=record.user_id)
        return problem_response(
            500,
            "The service failed. Report the x-request-id of this answer.",
            path=path,
        )

    def _write_line(self, scope: Scope, record: RequestRecord, elapsed_ns: int) -> None:
        query = scope["query_string"].decode("latin-1")
        log_event(
            _log,
            "request",
            request_id=record.request_id,
            user_id=record.user_id or self._name_user(scope),
            method=scope.get("method", "WEBSOCKET"),
            path=scope["path"] + (f"?{query}" if query else ""),
            status=record.status,
            duration_ms=round(elapsed_ns / 1e6, 2),
        )


def _counted(scope: Scope, send: Send, watched: WatchedRequest) -> Send:
    async def counted(message: Message) -> None:
        # Before it is sent: an answer that a client has got is one that is counted.
        if message["type"] in {"http.response.start", "websocket.http.response.start"}:
            watched.answer(_endpoint(scope), message["status"])
        elif message["type"] == "websocket.accept":
            watched.answer(_endpoint(scope), _SWITCHING_PROTOCOLS)
        await send(message)

    return counted


def _endpoint(scope: Scope) -> str:
    # The template: paths hold ids, and there is no end of them.
    return str(getattr(scope.get("route"), "path", NO_ROUTE))


def note_route(scope: Scope) -> None:
    """Say that a request has found its route: it is in flight there from now on."""
    watched = record_of(scope).watched
    if watched is not None:
        watched.route(_endpoint(scope))


def record_of(scope: Scope) -> RequestRecord:
    """Return the record of a request."""
    record: RequestRecord = scope[RECORD]
    return record
