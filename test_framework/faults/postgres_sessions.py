"""Sessions that faults hold in Postgres, and those of the service that they find."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import asyncpg

from test_framework.core import TargetError

if TYPE_CHECKING:
    from test_framework.faults.field import Field

_CONNECT_LIMIT_S = 10.0

_OTHERS = """
SELECT pid FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> ALL ($1::int[])
  AND CASE WHEN $2::int[] IS NULL THEN datname = current_database()
      ELSE client_port = ANY ($2) END
"""
_HIDDEN = """
SELECT count(*) FROM pg_stat_activity
WHERE usesysid IS NOT NULL AND backend_type IS NULL AND datname = current_database()
"""


class Held:
    """Sessions that a fault holds, and what they are busy with."""

    def __init__(self) -> None:
        self.sessions: list[Any] = []
        self.tasks: list[asyncio.Task[None]] = []

    @property
    def pids(self) -> list[int]:
        """Their processes at the server."""
        return [held.get_server_pid() for held in self.sessions]

    async def connect(self, field: "Field") -> Any:  # noqa: ANN401  # asyncpg has no types
        """Open one more."""
        with telling():
            opened = await _connect(field)
        self.sessions.append(opened)
        return opened

    async def release(self, field: "Field") -> None:
        """Close them; one that waits for a lock is ended, or it would get it later."""
        sessions, self.sessions = self.sessions, []
        tasks, self.tasks = self.tasks, []
        try:
            if any(not task.done() for task in tasks):
                pids = [held.get_server_pid() for held in sessions]
                async with session(field) as ours:
                    await ours.execute(
                        "SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) pid",
                        pids,
                    )
        finally:
            for held in sessions:
                held.terminate()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def terminate(by: Any, field: "Field", *, spared: Sequence[int]) -> int:  # noqa: ANN401  # asyncpg has no types
    """End the service's sessions but the spared ones; return how many.

    Without a proxy, which tells them apart, they are all those of the database.

    Raises:
        TargetError: Postgres hides whose they are.
    """
    # Looking on would find none to end, and disturb nothing.
    if await by.fetchval(_HIDDEN):
        message = (
            "Postgres refuses a fault: permission denied to see sessions of other "
            "roles. Name it in the field as a superuser, and past any proxy."
        )
        raise TargetError(message)
    ports = None
    if field.database_proxy is not None:
        ports = [seen.server_port for seen in field.database_proxy.connections()]
    return int(
        await by.fetchval(
            f"SELECT count(pg_terminate_backend(pid)) FROM ({_OTHERS}) others",  # noqa: S608  # ours
            [by.get_server_pid(), *spared],
            ports,
        )
    )


@contextlib.asynccontextmanager
async def session(field: "Field") -> AsyncIterator[Any]:
    """Yield a session of our own, past any proxy.

    Raises:
        TargetError: Postgres refuses it, or what is asked of it.
    """
    with telling():
        opened = await _connect(field)
        try:
            yield opened
        finally:
            opened.terminate()


class FullError(TargetError):
    """Raised when Postgres takes no more connections."""


@contextlib.contextmanager
def telling() -> Iterator[None]:
    """Say who refuses, and what to do about it."""
    try:
        yield
    except asyncpg.TooManyConnectionsError as exc:
        message = "Postgres takes no more connections. Raise max_connections."
        raise FullError(message) from exc
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as exc:
        message = (
            f"Postgres refuses a fault: {exc}. Name it in the field as a superuser, and "
            "past any proxy."
        )
        raise TargetError(message) from exc


async def _connect(field: "Field") -> Any:  # noqa: ANN401  # asyncpg has no types
    connecting = asyncio.ensure_future(
        asyncpg.connect(field.database_url, timeout=_CONNECT_LIMIT_S)
    )
    try:
        return await asyncio.shield(connecting)
    except asyncio.CancelledError:
        # Cut short, asyncpg leaves a future with an error that nobody asks for.
        await asyncio.wait([connecting])
        if connecting.exception() is None:
            connecting.result().terminate()
        raise
