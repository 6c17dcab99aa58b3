"""Parts of the controllers with one protection removed each."""

import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta

from sqlalchemy import func, text, update

from app.cache import Lease
from app.context import UserExecutionContext
from app.control import Desk
from app.storage import (
    Leadership,
    NodeSet,
    StaleLeaderError,
    find_node_set,
    release_lease,
)
from app.storage.tables import node_sets


class UnfencedDesk(Desk):
    """Lets whoever once was elected write."""

    @contextlib.asynccontextmanager
    async def writing(
        self, user_id: str, leadership: Leadership
    ) -> AsyncIterator[UserExecutionContext]:
        async with self.reading(user_id, leadership) as context:
            yield context


class GlancingDesk(Desk):
    """Looks at the epoch as the transaction begins, and does not hold it."""

    @contextlib.asynccontextmanager
    async def writing(
        self, user_id: str, leadership: Leadership
    ) -> AsyncIterator[UserExecutionContext]:
        async with self.reading(user_id, leadership) as context:
            epoch = await context.database.scalar(
                text("SELECT epoch FROM leaderships WHERE name = :name"),
                {"name": leadership.name},
            )
            if epoch != leadership.epoch:
                raise StaleLeaderError
            yield context


class CarelessLease(Lease):
    """Deletes whatever lease there is: ``DEL`` without looking whose."""

    async def release(self, holder: str) -> bool:
        del holder
        return bool(await self.redis.delete(f"{self.name}:holder"))


class RestartingLease(Lease):
    """Counts its tokens in Redis alone."""

    async def acquire(self, holder: str, *, above: int = 0) -> int | None:
        del above
        return await super().acquire(holder)


async def scale_by_reading(
    context: UserExecutionContext, name: str, *, by: int, token: int | None = None
) -> NodeSet | None:
    """Scale as many would write it: read, add, write, and nobody asks for the version."""
    del token
    seen = await find_node_set(context, name)
    if seen is None:
        return None
    return await set_without_version(
        context, name, seen=seen, replicas=seen.replicas + by
    )


async def set_without_version(
    context: UserExecutionContext, name: str, *, seen: NodeSet | None, replicas: int
) -> NodeSet:
    """Write what is wanted over whatever is wanted by now."""
    del seen
    await context.database.execute(
        update(node_sets)
        .where(node_sets.c.user_id == context.user_id, node_sets.c.name == name)
        .values(replicas=replicas)
    )
    written = await find_node_set(context, name)
    assert written is not None
    return written


async def lease_by_looking(
    context: UserExecutionContext, name: str, *, holder: str, ttl_s: float
) -> NodeSet | None:
    """Lease what was not leased when it was looked at."""
    seen = await find_node_set(context, name)
    if seen is None or seen.lease_holder is not None:
        return None
    await context.database.execute(
        update(node_sets)
        .where(node_sets.c.user_id == context.user_id, node_sets.c.name == name)
        .values(
            lease_holder=holder,
            lease_token=seen.lease_token + 1,
            lease_expires_at=func.clock_timestamp() + timedelta(seconds=ttl_s),
        )
    )
    return await find_node_set(context, name)


async def release_anyones(
    context: UserExecutionContext, name: str, *, token: int
) -> bool:
    """End whatever lease there is."""
    del token
    seen = await find_node_set(context, name)
    return seen is not None and await release_lease(
        context, name, token=seen.lease_token
    )
