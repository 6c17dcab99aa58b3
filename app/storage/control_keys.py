"""What needs work: keys, each with a revision and the one up to which it is settled.

Whoever changes an intent or a node set raises the revision of its key in the same
transaction. Whoever has worked on it settles the revision that it had read before it
looked at the thing itself, so a change that came meanwhile keeps the key open. That a
key is open is all that has to be known: messages may be lost, processes may die.
"""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.context import UserExecutionContext
from app.storage.tables import control_keys

Kind = Literal["intent", "node-set"]


@dataclass(frozen=True, slots=True)
class ControlKey:
    """A thing of a user.

    Attributes:
        user_id: Whose it is.
        kind: What it is.
        name: The id of an intent, the name of a node set.
    """

    user_id: str
    kind: Kind
    name: str


async def list_open_keys(session: AsyncSession, *, limit: int) -> dict[ControlKey, int]:
    """Return keys that need work, of all users, in a session ``for_control``.

    Returns:
        Key to revision, the oldest key first.
    """
    key = control_keys.c
    rows = await session.execute(
        select(key.user_id, key.kind, key.name, key.revision)
        .where(control_keys.c.settled < control_keys.c.revision)
        .order_by(control_keys.c.created_at)
        .limit(limit)
    )
    return {ControlKey(*names): revision for *names, revision in rows}


async def open_key(context: UserExecutionContext, kind: Kind, name: str) -> None:
    """Say that a thing of the context's user has changed."""
    added = insert(control_keys).values(user_id=context.user_id, kind=kind, name=name)
    await context.database.execute(
        added.on_conflict_do_update(
            index_elements=["user_id", "kind", "name"],
            set_={"revision": control_keys.c.revision + 1},
        )
    )


async def read_revision(
    context: UserExecutionContext, kind: Kind, name: str
) -> int | None:
    """Return the revision of a key, None when there is no such thing."""
    return await context.database.scalar(
        select(control_keys.c.revision).where(*_is(context, kind, name))
    )


async def settle_key(
    context: UserExecutionContext, kind: Kind, name: str, revision: int
) -> None:
    """Say that a thing is as it shall be, as of a revision that was read before."""
    await context.database.execute(
        update(control_keys)
        .where(*_is(context, kind, name), control_keys.c.settled < revision)
        .values(settled=revision)
    )


async def forget_key(context: UserExecutionContext, kind: Kind, name: str) -> None:
    """Say that a thing is gone."""
    await context.database.execute(
        delete(control_keys).where(*_is(context, kind, name))
    )


def _is(
    context: UserExecutionContext, kind: Kind, name: str
) -> tuple[ColumnElement[bool], ...]:
    key = control_keys.c
    return (key.user_id == context.user_id, key.kind == kind, key.name == name)
