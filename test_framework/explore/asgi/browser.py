"""A browser of one user: requests, cookies, headers, WebSockets, its own canaries."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol, TypedDict, Unpack

from test_framework.explore.asgi.connection import Server
from test_framework.explore.asgi.cookies import CookieJar
from test_framework.explore.asgi.http import Exchange, Reply, Stream
from test_framework.explore.asgi.messages import (
    Body,
    Scope,
    content_of,
    path_part,
    raw_headers,
    split_target,
)
from test_framework.explore.asgi.websocket import (
    NORMAL,
    Session,
    WebSocket,
    WebSocketRejectedError,
)


class RequestOptions(TypedDict, total=False):
    """What a request may have beside method and path; see :meth:`Browser.request`."""

    query: Mapping[str, object] | None
    headers: Mapping[str, str] | None
    json: object
    form: Mapping[str, object] | None
    body: Body | None


class Site(Server, Protocol):
    """What a browser needs of the service it speaks to; see ``Asgi``.

    Attributes:
        host: Value of the Host header.
        is_secure: Whether the scheme is https and wss.
    """

    host: str
    is_secure: bool

    @property
    def state(self) -> dict[str, Any]:
        """What the lifespan of the app keeps for its requests."""

    def now(self) -> float:
        """Return the time, seconds."""

    def address_of(self, user: int) -> tuple[str, int]:
        """Return the address from which a user comes."""


class Browser:
    """What one user speaks to the service with.

    Made by :meth:`Asgi.browser`.

    Attributes:
        user: Number of the user.
        headers: Sent with every request.
        cookies: What the service set.
    """

    def __init__(
        self, service: Site, user: int, headers: Mapping[str, str] | None
    ) -> None:
        self._service = service
        self.user = user
        self.headers: dict[str, str] = dict(headers or {})
        self.cookies = CookieJar()

    def canary(self, *, is_public: bool = False) -> str:
        """Return a new value that names this user, to be sent as its data.

        Args:
            is_public: Everybody may be given it, such as a message to all.
        """
        return self._service.ownership.mint(self.user, is_public=is_public)

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        form: Mapping[str, object] | None = None,
        body: Body | None = None,
    ) -> Reply:
        """Send a request and wait for the whole reply.

        Args:
            method: Such as ``GET``.
            path: Begins with ``/``; may have a query.
            query: Further parameters of the query.
            headers: Beside those of the browser; the same name takes its place.
            json: Content, as JSON.
            form: Content, as a form.
            body: Content as it is; what an async iterator yields arrives in parts.

        Returns:
            The reply.

        Raises:
            ForeignCanaryError: The reply holds what belongs to another user.
            Exception: What the app raised, unless ``Asgi(app_errors="reply")``.
            ConnectionLostError: Else, when it raised in the middle of a reply.
            asyncio.CancelledError: A fault let this client go away.
            UsageError: An argument makes no sense.
        """
        exchange, content = self._exchange(
            method, path, query, headers, content_of(json, form, body)
        )
        try:
            await exchange.open()
            await exchange.upload(content)
            reply = await exchange.reply()
        finally:
            exchange.leave()
        self._keep(exchange)
        return reply

    async def get(self, path: str, **options: Unpack[RequestOptions]) -> Reply:
        """Send a GET; see :meth:`request`."""
        return await self.request("GET", path, **options)

    async def post(self, path: str, **options: Unpack[RequestOptions]) -> Reply:
        """Send a POST; see :meth:`request`."""
        return await self.request("POST", path, **options)

    async def put(self, path: str, **options: Unpack[RequestOptions]) -> Reply:
        """Send a PUT; see :meth:`request`."""
        return await self.request("PUT", path, **options)

    async def patch(self, path: str, **options: Unpack[RequestOptions]) -> Reply:
        """Send a PATCH; see :meth:`request`."""
        return await self.request("PATCH", path, **options)

    async def delete(self, path: str, **options: Unpack[RequestOptions]) -> Reply:
        """Send a DELETE; see :meth:`request`."""
        return await self.request("DELETE", path, **options)

    @contextlib.asynccontextmanager
    async def stream(
        self, method: str, path: str, **options: Unpack[RequestOptions]
    ) -> AsyncIterator[Stream]:
        """Send a request and read the reply while it comes.

        Leaving the context before the reply ends is how a client goes away.

        Args:
            method: As in :meth:`request`, which says what may be raised.
            path: The path.
            options: As there.

        Yields:
            The reply, which has begun.
        """
        exchange, content = self._exchange(
            method,
            path,
            options.get("query"),
            options.get("headers"),
            content_of(options.get("json"), options.get("form"), options.get("body")),
            streamed=True,
        )
        try:
            await exchange.open()
            await exchange.upload(content)
            while not exchange.status:
                exchange.raise_error()
                await exchange.wait()
            self._keep(exchange)
            reply = Stream(exchange)
            yield reply
            reply.close()
        finally:
            exchange.leave()

    @contextlib.asynccontextmanager
    async def websocket(
        self,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        subprotocols: Sequence[str] = (),
    ) -> AsyncIterator[WebSocket]:
        """Open a WebSocket; it is closed at the end of the context.

        Args:
            path: Begins with ``/``; may have a query.
            query: Further parameters of the query.
            headers: Beside those of the browser.
            subprotocols: What the user offers, best first.

        Yields:
            The socket, which the app has accepted.

        Raises:
            WebSocketRejectedError: The app did not.
        """
        scope = self._scope("websocket", "ws", path, query, headers)
        scope["subprotocols"] = list(subprotocols)
        scope["extensions"] = {"websocket.http.response": {}}
        label = f"WS {scope['raw_path'].decode()}"
        session = Session(self._service, self.user, label, scope)
        try:
            await session.open()
            while not session.is_accepted:
                session.raise_error()
                if session.rejection is not None:
                    session.require_own(session.rejection[1], "rejection")
                    raise WebSocketRejectedError(*session.rejection)
                await session.wait()
            self._keep(session)
            socket = WebSocket(session)
            yield socket
            socket.look_at_rest()
            session.close(NORMAL, "")
        finally:
            session.leave()

    # -- how it is said ---------------------------------------------------------------

    def _exchange(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None,
        headers: Mapping[str, str] | None,
        content: tuple[Any, bytes],
        *,
        streamed: bool = False,
    ) -> tuple[Exchange, Any]:
        method = method.upper()
        scope = self._scope("http", "http", path, query, headers)
        scope["method"] = method
        said, kind = content
        raw = scope["headers"]
        if kind and not any(name == b"content-type" for name, _ in raw):
            raw.append((b"content-type", kind))
        if not isinstance(said, bytes):
            raw.append((b"transfer-encoding", b"chunked"))
        elif said or method in {"POST", "PUT", "PATCH"}:
            raw.append((b"content-length", b"%d" % len(said)))
        label = f"{method} {scope['raw_path'].decode()}"
        exchange = Exchange(
            self._service, self.user, label, scope, is_streamed=streamed
        )
        return exchange, said

    def _scope(
        self,
        kind: str,
        scheme: str,
        path: str,
        query: Mapping[str, object] | None,
        headers: Mapping[str, str] | None,
    ) -> Scope:
        service = self._service
        quoted, query_string = split_target(path, query)
        own = {"host": service.host, **self.headers, **(headers or {})}
        raw = raw_headers(own)
        if self.cookies:
            cookies = self.cookies.header(
                quoted, is_secure=service.is_secure, now=service.now()
            )
            if cookies:
                raw.append((b"cookie", cookies))
        return {
            "type": kind,
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "server": (service.host, 443 if service.is_secure else 80),
            "client": service.address_of(self.user),
            "scheme": scheme + "s" * service.is_secure,
            "root_path": "",
            **path_part(quoted),
            "query_string": query_string,
            "headers": raw,
            # A copy for each, by the specification; one for all is a known leak.
            "state": service.state.copy(),
        }

    def _keep(self, connection: Exchange | Session) -> None:
        if connection.headers:
            self.cookies.take(
                connection.headers,
                path=connection.scope["raw_path"].decode(),
                now=self._service.now(),
            )
