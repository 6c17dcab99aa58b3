"""An endpoint of a provider: a URL, connections, and the credential for each request."""

import contextlib
from collections.abc import AsyncIterator, Mapping

import httpx

from app.llm.client import ModelThrottledError, ModelUnauthorizedError
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

        The credential is held until the block is left. A request that was refused for
        it (a token may end between our look at it and the provider's), or that comes
        too soon for it, is sent again with another one, if there is.

        Raises:
            ModelError: What ``HttpPool.exchange`` raises, and no credential.
        """
        async with contextlib.AsyncExitStack() as stack:
            for more_tries in reversed(range(self._credentials.tries)):
                headers = await stack.enter_async_context(self._credentials.lent())
                try:
                    pieces = await stack.enter_async_context(
                        self._pool.exchange(self._url + path, body, headers=headers)
                    )
                except (ModelUnauthorizedError, ModelThrottledError) as exc:
                    is_another = self._report(headers, exc)
                    if not (is_another and more_tries):
                        raise
                else:
                    yield pieces
                    return
                # Given back before another one is asked for: who held one and waited
                # for the next might wait for those who do the same.
                await stack.aclose()

    async def fetch(self, path: str, body: object) -> bytes:
        """Send JSON and return a good answer; raises what ``exchange`` does."""
        async with self.exchange(path, body) as pieces:
            return b"".join([piece async for piece in pieces])

    def _report(
        self,
        headers: Mapping[str, str],
        exc: ModelUnauthorizedError | ModelThrottledError,
    ) -> bool:
        if isinstance(exc, ModelThrottledError):
            return self._credentials.rest(headers, exc.retry_after_s)
        return self._credentials.refuse(headers)
