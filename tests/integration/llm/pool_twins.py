"""Connection pools as they are often used: they remember, or give back too early."""

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any
from unittest import mock

import h11
import httpx
from httpcore import AsyncConnectionPool, AsyncHTTPConnection
from httpcore._async.http11 import AsyncHTTP11Connection, HTTPConnectionState

from app.llm import HttpPool


@contextlib.contextmanager
def unread_connections() -> Iterator[None]:
    """Put connections back whatever is still to come on them.

    The one line of httpcore that closes them instead is taken out.
    """

    async def put_back(self: AsyncHTTP11Connection) -> None:
        async with self._state_lock:
            self._state = HTTPConnectionState.IDLE
            self._h11_state = h11.Connection(our_role=h11.CLIENT)

    with mock.patch.object(AsyncHTTP11Connection, "_response_closed", put_back):
        yield


class HeadersOnClient(HttpPool):
    """Sets the headers of a request on the client that all requests share."""

    @contextlib.asynccontextmanager
    async def exchange(
        self, url: str, body: object, *, headers: Mapping[str, str]
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        self._http.headers.update(headers)
        async with super().exchange(url, body, headers={}) as pieces:
            yield pieces


class KeepsCookies(HttpPool):
    """Has the cookie jar that an httpx client has by default."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401  # the sibling's own
        super().__init__(**options)
        self._http.cookies = httpx.Cookies()


class WaitsWithinHttpx(HttpPool):
    """Leaves the limit of connections, and the waiting for one, to httpx."""

    def __init__(self, *, connections: int, **options: Any) -> None:  # noqa: ANN401  # as above
        super().__init__(connections=10_000, **options)
        self._transport = httpx.AsyncHTTPTransport(
            limits=httpx.Limits(max_connections=connections)
        )
        self._http._transport = self._transport

    @property
    def lost(self) -> int:
        """Connections that were never opened, while no request is under way."""
        pool = self._transport._pool
        assert isinstance(pool, AsyncConnectionPool)
        return sum(
            isinstance(connection, AsyncHTTPConnection)
            and connection._connection is None
            for connection in pool.connections
        )
