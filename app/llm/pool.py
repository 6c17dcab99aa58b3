"""The HTTP connections to the provider: one pool for all users, without any memory.

What is shared must not remember: the cookie jar refuses every cookie, proxies and
credentials of the environment are not read, no header is a default, redirects are not
followed (a redirect would repeat a user's conversation elsewhere).

A connection goes back into the pool only when the answer on it was read to its end.
One that was left earlier, by a cancellation, a timeout, a malformed or an endless
answer, is closed: whatever is still to come on it belongs to the request that was
left, and the next one would take it for its own. OpenAI lost track of this in March
2023: cancelled requests left their answers behind in connections to Redis, and ChatGPT
showed users the titles of other users' conversations
(https://openai.com/index/march-20-chatgpt-outage/).

Requests wait for their turn here and not within httpx. Its pool (httpcore 1.0) makes a
connection for a request that waits; when that request is cancelled at that moment, the
connection stays in the list unopened and is never used: a place is lost, for ever.
"""

import asyncio
import contextlib
import datetime as dt
import email.utils
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy

import certifi
import httpx

from app.llm.client import (
    ModelBusyError,
    ModelError,
    ModelRejectedError,
    ModelThrottledError,
    ModelUnauthorizedError,
    ModelUnavailableError,
)
from app.security import ResumingContext

CONNECTIONS = 50
TIMEOUT_S = 60.0
MAX_ANSWER_BYTES = 8 * 1024 * 1024
_UNAUTHORIZED, _TOO_MANY, _UNAVAILABLE = 401, 429, 503


class HttpPool:
    """Connections to a provider; the composition root closes it."""

    def __init__(
        self,
        *,
        connections: int = CONNECTIONS,
        timeout_s: float = TIMEOUT_S,
        transport: httpx.AsyncBaseTransport | None = None,
        tls: ResumingContext | None = None,
    ) -> None:
        """Open no connection yet.

        Args:
            connections: Largest number of connections; further requests wait.
            timeout_s: Longest wait to connect, and between two reads.
            transport: Takes the place of the network.
            tls: What TLS connections are made with; None trusts whom httpx trusts.
        """
        self._turns = asyncio.Semaphore(connections)
        self._http = httpx.AsyncClient(
            timeout=timeout_s,
            limits=httpx.Limits(
                max_connections=None, max_keepalive_connections=connections
            ),
            transport=transport,
            # Sessions of one provider and one client: ours.
            verify=tls or (_trusting() if transport is None else False),
            trust_env=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )

    @contextlib.asynccontextmanager
    async def exchange(
        self, url: str, body: object, *, headers: Mapping[str, str]
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Send JSON and yield the pieces of a good answer.

        Raises:
            ModelBusyError: The provider asks to come back later.
            ModelRejectedError: It refuses this request.
            ModelUnavailableError: It is down, too slow, or breaks off.
            ModelError: Its answer is larger than ``MAX_ANSWER_BYTES``.
        """
        host = httpx.URL(url).host
        try:
            async with (
                self._turns,
                self._http.stream(
                    "POST", url, json=body, headers=dict(headers)
                ) as answer,
            ):
                _refuse_bad_status(answer, host)
                async with contextlib.aclosing(_bounded(answer, host)) as pieces:
                    yield pieces
        except httpx.HTTPError as exc:
            raise unusable(host, type(exc).__name__, ModelUnavailableError) from exc

    async def fetch(
        self, url: str, body: object, *, headers: Mapping[str, str]
    ) -> bytes:
        """Send JSON and return a good answer; raises what ``exchange`` does."""
        async with self.exchange(url, body, headers=headers) as pieces:
            return b"".join([piece async for piece in pieces])

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def _trusting() -> ResumingContext:
    context = ResumingContext()
    context.load_verify_locations(certifi.where())
    return context


def unusable(host: str, reason: str, kind: type[ModelError] = ModelError) -> ModelError:
    """Return an error about an answer.

    The answer's text is not repeated: it may hold what users wrote.
    """
    return kind(
        f"The model at {host} did not give a usable answer ({reason}). "
        "Check MODEL_URL and MODEL_KEY."
    )


def _refuse_bad_status(answer: httpx.Response, host: str) -> None:
    if answer.is_success:
        return
    status, reason = answer.status_code, f"HTTP {answer.status_code}"
    wait_s = _retry_after_s(answer.headers.get("retry-after", ""))
    if status == _TOO_MANY or (status == _UNAVAILABLE and wait_s is not None):
        message = f"The model at {host} is busy ({reason}). Try again later."
        # A 503 is about the provider, a 429 about who asks.
        kind = ModelThrottledError if status == _TOO_MANY else ModelBusyError
        raise kind(message, retry_after_s=wait_s)
    if status == _UNAUTHORIZED:
        raise unusable(host, reason, ModelUnauthorizedError)
    if answer.is_client_error:
        raise unusable(host, reason, ModelRejectedError)
    raise unusable(host, reason, ModelUnavailableError)


def _retry_after_s(header: str) -> float | None:
    """Read Retry-After, which is seconds or a date (RFC 9110, section 10.2.3)."""
    if header.isdecimal():
        return float(header)
    try:
        at = email.utils.parsedate_to_datetime(header)
        wait = at - dt.datetime.now(dt.UTC)
    except (ValueError, TypeError):
        return None
    return max(0.0, wait.total_seconds())


async def _bounded(answer: httpx.Response, host: str) -> AsyncGenerator[bytes, None]:
    taken = 0
    async for piece in answer.aiter_bytes():
        taken += len(piece)
        if taken > MAX_ANSWER_BYTES:
            raise unusable(host, f"more than {MAX_ANSWER_BYTES} bytes")
        yield piece
