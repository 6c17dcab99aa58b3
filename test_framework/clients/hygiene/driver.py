"""Stands in for two methods of asyncpg's own pool, which has no events."""

import weakref
from collections.abc import Callable
from typing import Any

import asyncpg
import asyncpg.pool

from test_framework.clients.hygiene.places import Place
from test_framework.clients.hygiene.state import (
    Kind,
    Leftover,
    session_state,
    undisturbed,
)
from test_framework.clients.hygiene.watcher import Watcher


def watch_pools(watcher: Watcher) -> Callable[[], None]:
    """Watch all pools of asyncpg, and return what ends that."""
    pool_class, connection_class = asyncpg.pool.Pool, asyncpg.connection.Connection
    connect = pool_class._get_new_connection  # noqa: SLF001  # there is no event for it
    reset = connection_class.reset
    states: weakref.WeakKeyDictionary[Any, frozenset[Leftover]] = (
        weakref.WeakKeyDictionary()
    )

    async def connect_watched(pool: Any) -> Any:  # noqa: ANN401  # asyncpg ships no types
        connection = await connect(pool)
        state = await undisturbed(look(connection))
        states[connection] = state or frozenset()
        return connection

    async def reset_watched(connection: Any, *, timeout: Any = None) -> None:  # noqa: ANN401, ASYNC109  # asyncpg's own
        await reset(connection, timeout=timeout)
        if connection in states:
            state = await undisturbed(look(connection))
            if state is not None:
                watcher.returned(states[connection], state, _nowhere)
                states[connection] = state

    async def look(connection: Any) -> frozenset[Leftover] | None:  # noqa: ANN401  # as above
        try:
            return await session_state(connection, watcher.settings)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as exc:
            watcher.missed(f"Postgres did not say what a session keeps ({exc})")
            return None

    pool_class._get_new_connection = connect_watched  # noqa: SLF001  # as above
    connection_class.reset = reset_watched

    def stop() -> None:
        pool_class._get_new_connection = connect  # noqa: SLF001  # as above
        connection_class.reset = reset

    return stop


def _nowhere(_kind: Kind) -> Place:
    # The pool resets in a task of its own; who had the connection is not on its stack.
    return Place("asyncpg.Pool")
