"""What the tests of controllers stand on: users in a real database, and their contexts.

Also for processes of their own, which know the URLs and nothing else.
"""

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from uuid import uuid4

from redis.asyncio import Redis
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from app.cache import Lease, UserKeyspace, connect
from app.context import UserExecutionContext
from app.control import Desk, Election, PhrasePlanner, PostgresElection, RedisElection
from app.realtime import EventLog, UserEmitter
from app.settings import Settings
from app.storage import (
    Account,
    ControlKey,
    Intent,
    NodeSet,
    SessionFactory,
    UserAuditTrail,
    add_account,
    create_intent,
    find_node_set,
    list_intents,
    list_nodes,
    list_open_keys,
    open_engine,
)
from app.storage.tables import intents

LIMIT_S = 60.0
"""How long anything may take before it counts as never."""


@dataclass(frozen=True)
class World:
    """The services, and whatever a part of the controllers is built from."""

    engine: AsyncEngine
    elections: AsyncEngine
    redis: Redis
    sessions: SessionFactory

    @property
    def desk(self) -> Desk:
        """What reconcilers work with."""
        return Desk(self.sessions, self.context, PhrasePlanner())

    def context(self, user_id: str, request_id: str = "test") -> UserExecutionContext:
        """Return a context without a session."""
        return UserExecutionContext(
            user_id=user_id,
            request_id=request_id,
            keyspace=UserKeyspace(self.redis, user_id),
            emitter=UserEmitter(EventLog(self.redis), user_id),
            audit=UserAuditTrail(user_id, request_id),
        )

    @contextlib.asynccontextmanager
    async def work(self, user_id: str) -> AsyncIterator[UserExecutionContext]:
        """Open a context with a session, as a request does."""
        async with self.sessions.for_user(user_id) as session:
            yield self.context(user_id).child(session=session)

    def election(self, kind: str, name: str, lease_s: float) -> Election:
        """Return an election of a kind."""
        if kind == "postgres":
            return PostgresElection(self.elections, name, lease_s)
        return RedisElection(self.elections, Lease(self.redis, name, lease_s))

    async def add_users(self, count: int) -> list[str]:
        """Add users, and return their ids."""
        users = [str(uuid4()) for _ in range(count)]
        async with self.sessions.for_auth() as session:
            for user_id in users:
                await add_account(session, Account(user_id, user_id, "none"))
        return users

    async def submit(self, user_id: str, goal: str) -> Intent:
        """Submit an intent."""
        async with self.work(user_id) as context:
            return await create_intent(context, intent_id=str(uuid4()), goal=goal)

    async def intents_of(self, user_id: str) -> list[Intent]:
        """Return the intents of a user."""
        async with self.work(user_id) as context:
            return await list_intents(context, limit=200)

    async def epochs_of(self, user_id: str) -> list[tuple[float, int]]:
        """Return when each intent was settled, and under which epoch."""
        columns = intents.c
        async with self.work(user_id) as context:
            rows = await context.database.execute(
                select(columns.settled_at, columns.epoch).where(
                    columns.user_id == user_id, columns.settled_at.is_not(None)
                )
            )
            return [(at.timestamp(), epoch) for at, epoch in rows]

    async def settled(self, users: list[str]) -> None:
        """Wait until nothing of these users is to be done any more."""
        async with asyncio.timeout(LIMIT_S):
            while await self._open_of(users):  # noqa: ASYNC110  # others settle them
                await asyncio.sleep(0.05)

    async def _open_of(self, users: list[str]) -> list[ControlKey]:
        async with self.sessions.for_control() as session:
            found = await list_open_keys(session, limit=100_000)
        return [key for key in found if key.user_id in users]

    async def converged(self, user_id: str, name: str) -> tuple[NodeSet, list[int]]:
        """Wait until a node set is as it shall be; return it with its nodes."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                async with self.work(user_id) as context:
                    node_set = await find_node_set(context, name)
                    nodes = await list_nodes(context, name)
                if node_set is not None and (
                    node_set.observed_generation,
                    node_set.ready_replicas,
                ) == (node_set.generation, node_set.replicas):
                    return node_set, nodes
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def opened(settings: Settings, *, connections: int = 8) -> AsyncIterator[World]:
    """Connect to the services; the tables are there."""
    async with connected(
        settings.service_database_url,
        settings.redis_url.get_secret_value(),
        connections=connections,
    ) as world:
        yield world


@contextlib.asynccontextmanager
async def connected(
    database_url: str, redis_url: str, *, connections: int = 8
) -> AsyncIterator[World]:
    """Connect to services whose tables are there."""
    engine = open_engine(database_url, pool_size=connections, pool_timeout_s=30)
    elections = open_engine(database_url, pool_size=connections, pool_timeout_s=30)
    redis = connect(redis_url, connections=connections)
    try:
        yield World(engine, elections, redis, SessionFactory(engine))
    finally:
        await redis.aclose()
        await elections.dispose()
        await engine.dispose()


def environment_of(settings: Settings) -> dict[str, str]:
    """Return the environment of a process that reaches the same services."""
    return os.environ | {
        "DATABASE_URL": settings.service_database_url,
        "REDIS_URL": settings.redis_url.get_secret_value(),
    }


async def until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so that nobody tells of."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            if is_so():
                return
            await asyncio.sleep(0.01)


def overtaken(written: list[tuple[float, int]]) -> list[tuple[int, int]]:
    """Return pairs of epochs whose later one wrote before the earlier one.

    Args:
        written: When something was written, and under which epoch.
    """
    epochs = [epoch for _, epoch in sorted(written)]
    return [(first, then) for first, then in itertools.pairwise(epochs) if then < first]
