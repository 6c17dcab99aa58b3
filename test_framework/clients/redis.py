"""Reads a Redis or Valkey from end to end: every key of any type, every message.

For the owner sweep and for workloads that look at their own keys. Keys are found
with SCAN and read in pages, so the server is never blocked and memory does not grow
with a key. It writes nothing, hears no sharded channels and speaks to one server,
not to a cluster.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import redis.exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from test_framework.core import TargetError, UsageError

CONNECT_TIMEOUT_S = 5.0
LONGEST_STRING_BYTES = 4 * 1024 * 1024
"""Bytes of a string that are read; what is longer is cut."""
_PAGE = 500


@dataclass(frozen=True, slots=True)
class ClientState:
    """What a connection of somebody else holds.

    Attributes:
        name: As it called itself; mostly nothing.
        is_in_transaction: Whether it said MULTI and neither EXEC nor DISCARD.
        watched_keys: Keys that it watches; 0 where the server does not tell.
    """

    name: str
    is_in_transaction: bool
    watched_keys: int


class RedisReader:
    """Reads one server; an async context manager that owns its connections.

    Args:
        url: ``redis://``, ``rediss://``, ``valkey://``, ``valkeys://`` or ``unix://``.

    Raises:
        UsageError: ``url`` is not the URL of a Redis.
    """

    def __init__(self, url: str) -> None:
        self._where, url = _checked(url)
        self._client = self._connect(url, answer_timeout_s=CONNECT_TIMEOUT_S)
        # A subscriber waits for as long as nobody says anything.
        self._listener = self._connect(url, answer_timeout_s=None)

    def _connect(self, url: str, *, answer_timeout_s: float | None) -> "Redis":
        return Redis.from_url(
            url,
            decode_responses=False,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=answer_timeout_s,
            retry=Retry(NoBackoff(), 0),
        )

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            TargetError: Nobody listens, the login is refused, or no connection is
                left.
        """
        try:
            with self._explained():
                await self._client.ping()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections."""
        await self._close()

    async def _close(self) -> None:
        await self._client.aclose()
        await self._listener.aclose()

    async def keys(self, prefixes: Sequence[str] = ()) -> AsyncIterator[bytes]:
        """Yield every key that begins with one of ``prefixes``, each once.

        Args:
            prefixes: Beginnings of keys, taken literally; none means all keys.

        Raises:
            TargetError: Redis cannot be read.
        """
        async for page in self._key_pages(prefixes):
            for key in page:
                yield key

    async def entries(
        self, prefixes: Sequence[str] = ()
    ) -> AsyncIterator[tuple[bytes, bytes]]:
        """Yield ``(key, content)`` for all that is kept under ``prefixes``.

        A string is one entry; of a hash, list, set, sorted set or stream each
        element is one. Fields and values stand on lines of their own. A key that
        expires while it is read is left out.

        Args:
            prefixes: Beginnings of keys, taken literally; none means all keys.

        Raises:
            TargetError: Redis cannot be read.
        """
        async for page in self._key_pages(prefixes):
            with self._explained():
                async with self._client.pipeline(transaction=False) as pipe:
                    for key in page:
                        pipe.type(key)
                    kinds = await pipe.execute()
            strings = [
                key for key, kind in zip(page, kinds, strict=True) if kind == b"string"
            ]
            async for entry in self._strings(strings):
                yield entry
            for key, kind in zip(page, kinds, strict=True):
                if kind in {b"string", b"none"}:
                    continue
                async for content in self._elements(key, kind):
                    yield key, content

    async def channels(self) -> list[bytes]:
        """Return the channels that somebody subscribes to by name, sorted.

        Raises:
            TargetError: Redis cannot be read.
        """
        with self._explained():
            channels: Any = await self._client.pubsub_channels()
        return sorted(channels)

    async def keys_without_expiry(
        self, prefixes: Sequence[str] = ()
    ) -> AsyncIterator[bytes]:
        """Yield every key that stays until somebody deletes it, each once.

        Args:
            prefixes: Beginnings of keys, taken literally; none means all keys.

        Raises:
            TargetError: Redis cannot be read.
        """
        async for page in self._key_pages(prefixes):
            with self._explained():
                async with self._client.pipeline(transaction=False) as pipe:
                    for key in page:
                        pipe.pttl(key)
                    lifetimes = await pipe.execute()
            for key, lifetime in zip(page, lifetimes, strict=True):
                if lifetime == -1:
                    yield key

    async def clients(self) -> list[ClientState]:
        """Return the other connections, in the order in which they were made.

        Raises:
            TargetError: Redis cannot be read, or does not list its clients.
        """
        with self._explained():
            own = await self._client.client_id()
            listed: Any = await self._client.client_list()
        return [
            ClientState(
                name=one.get("name", ""),
                # Not "multi": Valkey 9 says 0 and not -1 after the first EXEC.
                is_in_transaction="x" in one["flags"],
                watched_keys=int(one.get("watch", 0)),
            )
            for one in listed
            if int(one["id"]) != own
        ]

    async def subscribe_all(self) -> AsyncGenerator[tuple[bytes, bytes]]:
        """Yield ``(channel, payload)`` of everything published, without end.

        Raises:
            TargetError: Redis cannot be reached, or has cut off the subscriber.
        """
        with self._explained():
            async with self._listener.pubsub() as pubsub:
                await pubsub.psubscribe("*")
                async for message in pubsub.listen():
                    if message["type"] == "pmessage":
                        yield message["channel"], message["data"]

    async def _key_pages(self, prefixes: Sequence[str]) -> AsyncIterator[list[bytes]]:
        # SCAN may return a key twice, and prefixes may contain one another.
        known: set[bytes] = set()
        for prefix in prefixes or ("",):
            cursor: Any = 0
            keys: Any  # the driver says bytes or str; it was told not to decode
            while True:
                with self._explained():
                    cursor, keys = await self._client.scan(
                        cursor, match=_literally(prefix.encode()) + b"*", count=_PAGE
                    )
                page = [key for key in dict.fromkeys(keys) if key not in known]
                known.update(page)
                if page:
                    yield page
                if int(cursor) == 0:
                    break

    async def _strings(
        self, keys: Sequence[bytes]
    ) -> AsyncIterator[tuple[bytes, bytes]]:
        for first in range(0, len(keys), _PAGE):
            some = keys[first : first + _PAGE]
            with self._explained():
                async with self._client.pipeline(transaction=False) as pipe:
                    for key in some:
                        pipe.getrange(key, 0, LONGEST_STRING_BYTES - 1)
                    values = await pipe.execute()
            for key, value in zip(some, values, strict=True):
                yield key, value

    async def _elements(self, key: bytes, kind: bytes) -> AsyncIterator[bytes]:
        client = self._client
        with self._explained():
            if kind == b"hash":
                async for field, value in client.hscan_iter(key, count=_PAGE):
                    yield field + b"\n" + value
            elif kind == b"set":
                async for member in client.sscan_iter(key, count=_PAGE):
                    yield member
            elif kind == b"zset":
                async for member, _ in client.zscan_iter(key, count=_PAGE):
                    yield member
            elif kind == b"list":
                async for item in self._list_items(key):
                    yield item
            elif kind == b"stream":
                async for item in self._stream_entries(key):
                    yield item
            else:
                # A type of a module: its serialised form is all that is common.
                yield await client.dump(key) or b""

    async def _list_items(self, key: bytes) -> AsyncIterator[bytes]:
        first = 0
        while True:
            items: Any = await self._client.lrange(key, first, first + _PAGE - 1)
            for item in items:
                yield item
            if len(items) < _PAGE:
                return
            first += _PAGE

    async def _stream_entries(self, key: bytes) -> AsyncIterator[bytes]:
        start = b"-"
        while True:
            entries: Any = await self._client.xrange(key, min=start, count=_PAGE)
            for entry, fields in entries:
                lines = [entry]
                for field, value in (fields or {}).items():
                    lines += (field, value)
                yield b"\n".join(lines)
            if len(entries) < _PAGE:
                return
            start = b"(" + entries[-1][0]

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what the driver raises into one sentence without the password."""
        try:
            yield
        except (
            redis.exceptions.AuthenticationError,
            redis.exceptions.NoPermissionError,
        ) as exc:
            message = (
                f"{self._where} refuses the login ({exc}). "
                "Correct user and password in REDIS_URL."
            )
            raise TargetError(message) from exc
        except redis.exceptions.ResponseError as exc:
            if "NOAUTH" in str(exc) or "WRONGPASS" in str(exc):
                cure = "Correct user and password in REDIS_URL."
            else:
                cure = "See its log; then run again."
            message = f"{self._where} refuses a command ({exc}). {cure}"
            raise TargetError(message) from exc
        except (redis.exceptions.RedisError, OSError) as exc:
            if "max number of clients" in str(exc):
                message = (
                    f"{self._where} has no connection left ({exc}). Raise its "
                    "maxclients, or let the service's pool take fewer."
                )
            else:
                message = (
                    f"{self._where} cannot be reached ({exc!s:.200}). "
                    "Start it, or correct REDIS_URL."
                )
            raise TargetError(message) from exc


def _checked(url: str) -> tuple[str, str]:
    """Return how messages call the server, and its URL as the driver takes it."""
    scheme, _, rest = url.partition("://")
    scheme = scheme.replace("valkey", "redis")
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        port = parts.port or 6379
    except ValueError:
        scheme, parts, port = "", urlsplit(""), 0
    if scheme not in {"redis", "rediss", "unix"} or not rest:
        # The value may hold a password, so only its scheme is shown.
        message = (
            f"REDIS_URL with scheme {scheme!r} is not the URL of a Redis. "
            "Pass redis://user:password@host:port/database."
        )
        raise UsageError(message)
    where = (
        parts.path if scheme == "unix" else f"{parts.hostname or 'localhost'}:{port}"
    )
    return f"Redis at {where}", f"{scheme}://{rest}"


def _literally(prefix: bytes) -> bytes:
    """Return the pattern that matches just ``prefix``."""
    return re.sub(rb"([\\*?\[\]^-])", rb"\\\1", prefix)
