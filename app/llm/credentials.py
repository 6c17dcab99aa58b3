"""What the service shows the provider: a fixed key, or tokens that live for minutes.

A credential is lent for a whole exchange. These are lent to any number at one time; keys
with a limit each stand in ``keys``.

Tokens are fetched by one flight at a time: a hundred requests that find the token old
cost one request for a new one. Nothing is remembered of a failure, so the next request
tries again; and a request that is cancelled while it waits takes nothing from others.
"""

import abc
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import httpx

from app.llm.client import ModelError
from app.llm.flight import SingleFlight
from app.llm.pool import HttpPool, unusable
from app.llm.wire import NONSENSE
from app.security import Secret

MARGIN_S = 5.0
AUTHORIZATION = "authorization"

Fetch = Callable[[], Awaitable[tuple[str, float]]]
"""Returns a new token and how long it is good for, in seconds."""


class Credentials(Protocol):
    """Says who the service is, on each request anew."""

    @property
    def tries(self) -> int:
        """With how many credentials a request is tried, one after the other."""
        ...

    def lent(self) -> contextlib.AbstractAsyncContextManager[Mapping[str, str]]:
        """Lend the headers of one request, until its answer was read or left.

        Raises:
            ModelError: There is no credential now.
        """
        ...

    def refuse(self, headers: Mapping[str, str]) -> bool:
        """Hear that the provider did not accept these; True to ask for others."""
        ...

    def rest(self, headers: Mapping[str, str], seconds: float | None) -> bool:
        """Hear that the provider wants these no sooner than after some seconds.

        Args:
            headers: What it was shown.
            seconds: What it asked for; None when it did not say.

        Returns:
            True to ask for others, or for the time when they may be had.
        """
        ...

    async def aclose(self) -> None:
        """End what is under way."""
        ...


class SharedCredentials(abc.ABC):
    """Credentials that any number of requests show at one time."""

    __slots__ = ()

    @property
    def tries(self) -> int:
        """Another one is tried once."""
        return 2

    @contextlib.asynccontextmanager
    async def lent(self) -> AsyncIterator[Mapping[str, str]]:
        """Lend what ``headers`` returns, and raise what it raises."""
        yield await self.headers()

    @abc.abstractmethod
    async def headers(self) -> Mapping[str, str]:
        """Return the headers of one request.

        Raises:
            ModelError: There is no credential now.
        """

    @abc.abstractmethod
    def refuse(self, headers: Mapping[str, str]) -> bool:
        """Hear that the provider did not accept these; True when others may come."""

    def rest(self, headers: Mapping[str, str], seconds: float | None) -> bool:  # noqa: ARG002  # of the protocol
        """Have nothing else to offer: all that follow show the same."""
        return False

    async def aclose(self) -> None:  # noqa: B027  # most have nothing to end
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class StaticKey(SharedCredentials):
    """The same key each time, or none."""

    key: str | None = field(repr=False)

    async def headers(self) -> Mapping[str, str]:
        """Return the key."""
        return {} if self.key is None else {AUTHORIZATION: f"Bearer {self.key}"}

    def refuse(self, headers: Mapping[str, str]) -> bool:  # noqa: ARG002  # of the protocol
        """Have nothing else to offer."""
        return False


class FileKey(SharedCredentials):
    """A key in a file that may be exchanged; each request takes one version."""

    def __init__(self, key: Secret) -> None:
        """Send the newest version that the provider has not refused."""
        self._key = key
        self._refused = 0

    async def headers(self) -> Mapping[str, str]:
        """Return the key as it is by now."""
        if self._key.current.number == self._refused:
            await self._key.reload()
        versions = self._key.versions
        # The provider may not know the newest one yet.
        chosen = next((v for v in versions if v.number != self._refused), versions[0])
        return {AUTHORIZATION: f"Bearer {chosen.value}"}

    def refuse(self, headers: Mapping[str, str]) -> bool:
        """Try another version next, if there may be one."""
        for version in self._key.versions:
            if headers.get(AUTHORIZATION) == f"Bearer {version.value}":
                self._refused = version.number
        return True


@dataclass(frozen=True, slots=True)
class _Token:
    value: str = field(repr=False)
    good_until_s: float


class ProviderTokens(SharedCredentials):
    """Short-lived tokens, shared by all users: they name the service and no user."""

    def __init__(
        self,
        fetch: Fetch,
        *,
        clock: Callable[[], float] = time.monotonic,
        margin_s: float = MARGIN_S,
    ) -> None:
        """Renew a token ``margin_s`` before it ends; ``clock`` tells seconds."""
        self._fetch = fetch
        self._clock = clock
        self._margin_s = margin_s
        self._token: _Token | None = None
        self._flights: SingleFlight[str, _Token] = SingleFlight()

    async def headers(self) -> Mapping[str, str]:
        """Return a token that is good for now.

        Raises:
            ModelError: No token can be had.
        """
        token = self._token
        if token is None or self._clock() >= token.good_until_s - self._margin_s:
            token = await self._flights.join("token", self._renew)
        return {AUTHORIZATION: f"Bearer {token.value}"}

    def refuse(self, headers: Mapping[str, str]) -> bool:
        """Forget the token in ``headers``, unless a newer one took its place."""
        token = self._token
        if token and headers.get(AUTHORIZATION) == f"Bearer {token.value}":
            self._token = None
        return True

    async def aclose(self) -> None:
        """End a renewal that is under way."""
        await self._flights.aclose()

    async def _renew(self) -> _Token:
        # From before the request: its way there counts into the token's life.
        asked_at = self._clock()
        value, lifetime_s = await self._fetch()
        self._token = _Token(value, asked_at + lifetime_s)
        return self._token


def token_fetcher(pool: HttpPool, url: str, *, key: str) -> Fetch:
    """Return a function that exchanges ``key`` for a token at ``url``.

    The endpoint answers as one of OAuth 2.0 does: ``access_token``, ``expires_in``.
    """

    async def fetch() -> tuple[str, float]:
        answer = await pool.fetch(
            url,
            {"grant_type": "client_credentials"},
            headers={AUTHORIZATION: f"Bearer {key}"},
        )
        try:
            body = json.loads(answer)
            return str(body["access_token"]), float(body["expires_in"])
        except NONSENSE as exc:
            raise unusable(httpx.URL(url).host, type(exc).__name__, ModelError) from exc

    return fetch
