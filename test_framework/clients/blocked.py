"""Which requests wait inside of Postgres or Redis for another connection.

Two probes for the gate of the explorer. Each has a connection of its own, made when it
is first asked and kept until ``close``; it only reads, and only what any role may see.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import asyncpg
import redis

from test_framework.core import TargetError
from test_framework.explore.gate import Connection, Waits

TIMEOUT_S = 5.0
"""How long a server may take to answer a probe, seconds."""

_DEADLOCK_TIMEOUT = """
SELECT setting::int FROM pg_settings WHERE name = 'deadlock_timeout'
"""

_BLOCKERS = """
SELECT pid, pg_blocking_pids(pid) AS blockers
FROM unnest($1::int[]) AS pid
"""


class PostgresProbe:
    """Tells which sessions wait for the lock of another session, by ``pg_blocking_pids``.

    Args:
        url: ``postgresql://USER:PASSWORD@HOST:PORT/DATABASE`` of the server.

    Attributes:
        deadlock_timeout_s: As the server says; 0 before it was asked first.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: Any = None
        self.deadlock_timeout_s = 0.0

    def waits(self, connections: Sequence[Connection]) -> Waits:
        """Return the sessions that wait for sessions of the scenario.

        One that waits for a session of somebody else is not among them: no order of
        this scenario releases it.

        Raises:
            TargetError: Postgres does not answer.
        """
        sessions = {
            connection.session: connection
            for connection in connections
            if connection.kind == "postgres" and connection.session is not None
        }
        if not sessions:
            return {}
        found: dict[Connection, frozenset[Connection]] = {}
        for pid, blockers in self._ask(list(sessions)).items():
            if blockers and blockers <= sessions.keys():
                found[sessions[pid]] = frozenset(sessions[b] for b in blockers)
        return found

    def _ask(self, pids: list[int]) -> Mapping[int, set[int]]:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        try:
            return self._loop.run_until_complete(self._fetch(pids))
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
            raise TargetError(
                f"Postgres does not tell who waits for whom: {type(exc).__name__}: "
                f"{exc}. Look whether the server is alive and the URL is right."
            ) from exc

    async def _fetch(self, pids: list[int]) -> Mapping[int, set[int]]:
        if self._connection is None:
            self._connection = await asyncpg.connect(self._url, timeout=TIMEOUT_S)
            milliseconds = await self._connection.fetchval(_DEADLOCK_TIMEOUT)
            self.deadlock_timeout_s = milliseconds / 1000
        rows = await self._connection.fetch(_BLOCKERS, pids, timeout=TIMEOUT_S)
        return {row["pid"]: set(row["blockers"]) for row in rows}

    def close(self) -> None:
        """Close the connection."""
        loop, self._loop = self._loop, None
        connection, self._connection = self._connection, None
        if loop is None:
            return
        try:
            if connection is not None:
                loop.run_until_complete(connection.close(timeout=TIMEOUT_S))
        finally:
            loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class RedisProbe:
    """Tells which clients wait in a blocking command, by the flags of ``CLIENT LIST``.

    Args:
        url: ``redis://:PASSWORD@HOST:PORT/NUMBER`` of the server.
    """

    deadlock_timeout_s = 0.0

    def __init__(self, url: str) -> None:
        self._port = urlsplit(url).port or 6379
        self._client = redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
        )

    def waits(self, connections: Sequence[Connection]) -> Waits:
        """Return the clients that wait in BLPOP and its kin, for whoever comes.

        Raises:
            TargetError: Redis does not answer.
        """
        ours = {
            f"{connection.address[0]}:{connection.address[1]}": connection
            for connection in connections
            if connection.kind == "redis"
            and connection.address is not None
            and connection.peer_address is not None
            and connection.peer_address[1] == self._port
        }
        if not ours:
            return {}
        try:
            clients = self._client.client_list()
        except redis.RedisError as exc:
            raise TargetError(
                f"Redis does not tell which clients are blocked: {exc}. Look whether "
                "the server is alive and the URL is right."
            ) from exc
        return {
            ours[client["addr"]]: frozenset()
            for client in clients
            if "b" in client["flags"] and client["addr"] in ours
        }

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(redis.RedisError):
            self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
