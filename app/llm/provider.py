"""An endpoint of a provider: a URL, connections, and the credential for each request."""

import contextlib
from collections.abc import AsyncIterator

import httpx

from app.llm.client import ModelUnauthorizedError
from app.llm.credentials import Credentials, StaticKey
from app.llm.pool import HttpPool


class Provider:
    """Sends requests to one provider; owns neither the pool nor the credentials."""

    def __init__(
        self, url: str, pool: HttpPool, credentials: Credentials | None = None
    ) -> None:
        """Send to paths below ``url``."""
        self._url = url.rstrip("/")
        self._pool = pool
        self._credentials = credentials or StaticKey(None)
        self.host = httpx.URL(url).host

    @contextlib.asynccontextmanager
    async def exchange(
        self, path: str, body: object
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Send JSON and yield the pieces of a good answer.

        A token may end between our look at it and the provider's: a request that was
        refused for its credential is sent once more with another one, if there is.

        Raises:
            ModelError: What ``HttpPool.exchange`` raises, and no credential.
        """
        async with contextlib.AsyncExitStack() as stack:
            headers = await self._credentials.headers()
            try:
                pieces = await stack.enter_async_context(
                    self._pool.exchange(self._url + path, body, headers=headers)
                )
            except ModelUnauthorizedError:
                if not self._credentials.refuse(headers):
                    raise
                pieces = await stack.enter_async_context(
                    self._pool.exchange(
                        self._url + path,
                        body,
                        headers=await self._credentials.headers(),
                    )
                )
            yield pieces

    async def fetch(self, path: str, body: object) -> bytes:
        """Send JSON and return a good answer; raises what ``exchange`` does."""
        async with self.exchange(path, body) as pieces:
            return b"".join([piece async for piece in pieces])
