"""Pooled keys, and the provider that holds them, with one protection removed each."""

import contextlib
from collections.abc import AsyncIterator, Mapping

from app.llm import ModelThrottledError, PooledKeys, Provider


class GivesBackAtFirstByte(Provider):
    """Gives the key back when the answer begins, and not when it has ended."""

    @contextlib.asynccontextmanager
    async def exchange(
        self, path: str, body: object
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        async with contextlib.AsyncExitStack() as stack:
            async with self._credentials.lent() as headers:
                pieces = await stack.enter_async_context(
                    self._pool.exchange(self._url + path, body, headers=headers)
                )
            yield pieces


class HoldsWhileWaiting(Provider):
    """Asks for another key before it gives the first one back."""

    @contextlib.asynccontextmanager
    async def exchange(
        self, path: str, body: object
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        url = self._url + path
        async with contextlib.AsyncExitStack() as stack:
            headers = await stack.enter_async_context(self._credentials.lent())
            try:
                answer = self._pool.exchange(url, body, headers=headers)
                pieces = await stack.enter_async_context(answer)
            except ModelThrottledError as exc:
                self._credentials.rest(headers, exc.retry_after_s)
                headers = await stack.enter_async_context(self._credentials.lent())
                answer = self._pool.exchange(url, body, headers=headers)
                pieces = await stack.enter_async_context(answer)
            yield pieces


class KeepsRefusedKeys(PooledKeys):
    """Goes on lending what the provider refused."""

    def refuse(self, headers: Mapping[str, str]) -> bool:
        return bool(headers)


class RestsNever(PooledKeys):
    """Goes on lending what the provider asked to come back later with."""

    def rest(self, headers: Mapping[str, str], seconds: float | None) -> bool:
        return bool(headers) or seconds is None
