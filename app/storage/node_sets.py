"""Node sets: how many workers a user wants, and the nodes that there are.

What is wanted (``replicas``, counted by ``generation``) is changed by users and
intents; what there is (``ready_replicas``, as of ``observed_generation``) is written by
the reconciler. Both count ``version``, and whoever writes what it computed from a row
asks for the version of that row. Scaling and leases need no reading: their one
statement computes on the row as it is when its turn comes.

The lease stands in the row it protects. In a table of its own, a statement that waited
for the row would go on with the lease it had seen before it waited.

Source: Kubernetes API conventions (``generation``, ``observedGeneration``,
``resourceVersion``).
"""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from app.context import UserExecutionContext
from app.storage.control_keys import open_key
from app.storage.intents import ConflictError
from app.storage.tables import node_sets, nodes

MAX_REPLICAS = 100


@dataclass(frozen=True, slots=True)
class NodeSet:
    """Workers of one user under one name.

    Attributes:
        name: What the user calls it.
        replicas: How many nodes are wanted.
        generation: Counts the changes of what is wanted.
        observed_generation: The generation that the reconciler has seen last.
        ready_replicas: How many nodes there were then.
        lease_holder: Who maintains it; None when nobody does.
        lease_token: The fencing token of the newest lease; 0 before the first.
        lease_expires_at: When that lease ends by itself.
        version: Counts all changes of the row.
    """

    name: str
    replicas: int
    generation: int
    observed_generation: int
    ready_replicas: int
    lease_holder: str | None
    lease_token: int
    lease_expires_at: datetime | None
    version: int


_COLUMNS = node_sets.c
_NODE_SET: tuple[ColumnElement[Any], ...] = (
    _COLUMNS.name,
    _COLUMNS.replicas,
    _COLUMNS.generation,
    _COLUMNS.observed_generation,
    _COLUMNS.ready_replicas,
    _COLUMNS.lease_holder,
    _COLUMNS.lease_token,
    _COLUMNS.lease_expires_at,
    _COLUMNS.version,
)
# Not now(): that is when the transaction began, and it may have waited for the row.
_IS_LEASED = _COLUMNS.lease_holder.is_not(None) & (
    _COLUMNS.lease_expires_at > func.clock_timestamp()
)


async def list_node_sets(context: UserExecutionContext, *, limit: int) -> list[NodeSet]:
    """Return the user's node sets by name."""
    rows = await context.database.execute(
        select(*_NODE_SET)
        .where(_COLUMNS.user_id == context.user_id)
        .order_by(_COLUMNS.name)
        .limit(limit)
    )
    return [NodeSet(*row) for row in rows]


async def find_node_set(context: UserExecutionContext, name: str) -> NodeSet | None:
    """Return a node set, None when the user has no such node set."""
    row = (
        await context.database.execute(
            select(*_NODE_SET).where(
                _COLUMNS.user_id == context.user_id, _COLUMNS.name == name
            )
        )
    ).first()
    return None if row is None else NodeSet(*row)


async def scale_node_set(
    context: UserExecutionContext, name: str, *, by: int, token: int | None = None
) -> NodeSet | None:
    """Want so many nodes more (or less) than now, and return what is wanted then.

    A node set that there is not yet begins with none.

    Args:
        context: Of the user.
        name: Of the node set.
        by: How many more; negative for less.
        token: Only while the lease with this token lasts; None whoever has a lease.

    Returns:
        The node set; None when there would be less than none or too many, or when the
        lease has ended. The caller rolls back then.
    """
    conditions: list[ColumnElement[bool]] = [
        (_COLUMNS.replicas + by).between(0, MAX_REPLICAS)
    ]
    if token is not None:
        conditions += [_COLUMNS.lease_token == token, _IS_LEASED]
    wanted = {"replicas": _COLUMNS.replicas + by}
    changed = await _want(context, name, conditions, wanted)
    if changed is None and token is None:
        # Absent, or somebody adds it at this moment: then there is one afterwards.
        await _add(context, name, replicas=0)
        changed = await _want(context, name, conditions, wanted)
    if changed is None:
        return None
    await context.audit.record("node_set.scaled", name)
    return changed


async def set_replicas(
    context: UserExecutionContext, name: str, *, seen: NodeSet | None, replicas: int
) -> NodeSet:
    """Want so many nodes, of a node set that is as it was read.

    Args:
        context: Of the user.
        name: Of the node set.
        seen: As it was read; None when there was none.
        replicas: How many nodes are wanted.

    Raises:
        ConflictError: It has changed since it was read.
    """
    if seen is not None and seen.replicas == replicas:
        return seen
    if seen is None:
        changed = await _add(context, name, replicas=replicas)
        if changed is not None:
            await open_key(context, "node-set", name)
    else:
        unchanged = [_COLUMNS.version == seen.version]
        changed = await _want(context, name, unchanged, {"replicas": replicas})
    if changed is None:
        raise _conflict(name, seen)
    return changed


async def report_nodes(
    context: UserExecutionContext, seen: NodeSet, *, ready: int
) -> None:
    """Write how many nodes there are, of a node set that is as it was read.

    Raises:
        ConflictError: It has changed since it was read.
    """
    written = (
        await context.database.execute(
            update(node_sets)
            .where(
                _COLUMNS.user_id == context.user_id,
                _COLUMNS.name == seen.name,
                _COLUMNS.version == seen.version,
            )
            .values(
                ready_replicas=ready,
                observed_generation=seen.generation,
                version=_COLUMNS.version + 1,
            )
            .returning(_COLUMNS.name)
        )
    ).first()
    if written is None:
        raise _conflict(seen.name, seen)


async def acquire_lease(
    context: UserExecutionContext, name: str, *, holder: str, ttl_s: float
) -> NodeSet | None:
    """Lease a node set for maintenance; None when it is leased, or there is none."""
    row = (
        await context.database.execute(
            update(node_sets)
            .where(
                _COLUMNS.user_id == context.user_id, _COLUMNS.name == name, ~_IS_LEASED
            )
            .values(
                lease_holder=holder,
                lease_token=_COLUMNS.lease_token + 1,
                lease_expires_at=func.clock_timestamp() + timedelta(seconds=ttl_s),
                version=_COLUMNS.version + 1,
            )
            .returning(*_NODE_SET)
        )
    ).first()
    if row is None:
        return None
    await context.audit.record("node_set.leased", name)
    return NodeSet(*row)


async def release_lease(
    context: UserExecutionContext, name: str, *, token: int
) -> bool:
    """End a lease; False when it is not the current one any more."""
    released = (
        await context.database.execute(
            update(node_sets)
            .where(
                _COLUMNS.user_id == context.user_id,
                _COLUMNS.name == name,
                _COLUMNS.lease_token == token,
                _IS_LEASED,
            )
            .values(lease_holder=None, version=_COLUMNS.version + 1)
            .returning(_COLUMNS.name)
        )
    ).first()
    if released is None:
        return False
    # What was wanted meanwhile is done now.
    await open_key(context, "node-set", name)
    await context.audit.record("node_set.released", name)
    return True


async def lease_left_s(context: UserExecutionContext, name: str) -> float:
    """Return how long a node set is still leased, seconds; 0 when it is not."""
    left = await context.database.scalar(
        select(
            func.extract("epoch", _COLUMNS.lease_expires_at - func.clock_timestamp())
        ).where(_COLUMNS.user_id == context.user_id, _COLUMNS.name == name, _IS_LEASED)
    )
    return max(0.0, float(left or 0))


async def list_nodes(context: UserExecutionContext, name: str) -> list[int]:
    """Return the ordinals of a node set's nodes, ascending."""
    found = await context.database.scalars(
        select(nodes.c.ordinal)
        .where(nodes.c.user_id == context.user_id, nodes.c.node_set == name)
        .order_by(nodes.c.ordinal)
    )
    return list(found)


async def add_nodes(
    context: UserExecutionContext, name: str, ordinals: Iterable[int], *, epoch: int
) -> None:
    """Start the workers of these ordinals."""
    rows = [
        {
            "user_id": context.user_id,
            "node_set": name,
            "ordinal": ordinal,
            "epoch": epoch,
        }
        for ordinal in ordinals
    ]
    if rows:
        await context.database.execute(insert(nodes), rows)


async def remove_nodes(
    context: UserExecutionContext, name: str, ordinals: AbstractSet[int]
) -> None:
    """End the workers of these ordinals."""
    if ordinals:
        await context.database.execute(
            delete(nodes).where(
                nodes.c.user_id == context.user_id,
                nodes.c.node_set == name,
                nodes.c.ordinal.in_(ordinals),
            )
        )


async def _want(
    context: UserExecutionContext,
    name: str,
    conditions: Iterable[ColumnElement[bool]],
    wanted: dict[str, Any],
) -> NodeSet | None:
    row = (
        await context.database.execute(
            update(node_sets)
            .where(
                _COLUMNS.user_id == context.user_id, _COLUMNS.name == name, *conditions
            )
            .values(
                generation=_COLUMNS.generation + 1,
                version=_COLUMNS.version + 1,
                updated_at=func.now(),
                **wanted,
            )
            .returning(*_NODE_SET)
        )
    ).first()
    if row is None:
        return None
    await open_key(context, "node-set", name)
    return NodeSet(*row)


async def _add(
    context: UserExecutionContext, name: str, *, replicas: int
) -> NodeSet | None:
    row = (
        await context.database.execute(
            insert(node_sets)
            .values(user_id=context.user_id, name=name, replicas=replicas)
            .on_conflict_do_nothing()
            .returning(*_NODE_SET)
        )
    ).first()
    return None if row is None else NodeSet(*row)


def _conflict(name: str, seen: NodeSet | None) -> ConflictError:
    since = "it was looked for" if seen is None else f"version {seen.version}"
    return ConflictError(f"Node set {name!r} has changed since {since}.")
