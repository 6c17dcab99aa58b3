"""Intents: what a user wants in words, and what became of it.

An intent is settled once: the ``UPDATE`` asks for the version that was read, in the
transaction that changes the node set.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from app.context import UserExecutionContext
from app.storage.control_keys import forget_key, open_key
from app.storage.tables import intents

IntentPhase = Literal["pending", "applied", "refused"]


class ConflictError(RuntimeError):
    """Raised when a thing was changed since it was read: read it again and retry."""


class IdempotencyError(ValueError):
    """Raised when an idempotency key comes again with other words: the client's fault."""


@dataclass(frozen=True, slots=True)
class Intent:
    """What a user wants.

    Attributes:
        intent_id: Its id (UUID text).
        goal: In the user's words.
        phase: Where it stands.
        node_set: The node set that it changed, once applied.
        replicas: The replicas wanted of it since then.
        problem: Why it was refused.
        version: Counts its changes.
        created_at: When it was submitted.
        settled_at: When it was applied or refused.
    """

    intent_id: str
    goal: str
    phase: IntentPhase
    node_set: str | None
    replicas: int | None
    problem: str | None
    version: int
    created_at: datetime
    settled_at: datetime | None


_INTENT: tuple[ColumnElement[Any], ...] = (
    intents.c.id,
    intents.c.goal,
    intents.c.phase,
    intents.c.node_set,
    intents.c.replicas,
    intents.c.problem,
    intents.c.version,
    intents.c.created_at,
    intents.c.settled_at,
)


async def create_intent(
    context: UserExecutionContext,
    *,
    intent_id: str,
    goal: str,
    idempotency_key: str | None = None,
) -> Intent:
    """Add an intent, or return the one that was added under the same key before.

    Raises:
        IdempotencyError: That one has other words.
    """
    added = insert(intents).values(
        id=intent_id,
        user_id=context.user_id,
        goal=goal,
        idempotency_key=idempotency_key,
        phase="pending",
    )
    # Waits for a transaction that adds the same key at this moment, so the next
    # statement sees what that one has committed.
    row = (
        await context.database.execute(
            added.on_conflict_do_nothing(
                index_elements=["user_id", "idempotency_key"]
            ).returning(*_INTENT)
        )
    ).first()
    if row is not None:
        await open_key(context, "intent", intent_id)
        await context.audit.record("intent.submitted", intent_id)
        return Intent(*row)
    earlier = (
        await context.database.execute(
            select(*_INTENT).where(
                intents.c.user_id == context.user_id,
                intents.c.idempotency_key == idempotency_key,
            )
        )
    ).first()
    if earlier is None:
        message = "The intent of this idempotency key was deleted at this moment."
        raise ConflictError(message)
    if earlier.goal != goal:
        message = "The idempotency key was sent before, with another goal."
        raise IdempotencyError(message)
    return Intent(*earlier)


async def list_intents(context: UserExecutionContext, *, limit: int) -> list[Intent]:
    """Return the user's newest intents, newest first."""
    rows = await context.database.execute(
        select(*_INTENT)
        .where(intents.c.user_id == context.user_id)
        .order_by(intents.c.created_at.desc(), intents.c.id)
        .limit(limit)
    )
    return [Intent(*row) for row in rows]


async def find_intent(context: UserExecutionContext, intent_id: str) -> Intent | None:
    """Return an intent, None when the user has no such intent."""
    row = (
        await context.database.execute(
            select(*_INTENT).where(
                intents.c.id == intent_id, intents.c.user_id == context.user_id
            )
        )
    ).first()
    return None if row is None else Intent(*row)


async def settle_intent(
    context: UserExecutionContext,
    seen: Intent,
    *,
    epoch: int,
    node_set: str | None = None,
    replicas: int | None = None,
    problem: str | None = None,
) -> None:
    """Say what became of a pending intent: applied, or refused for a problem.

    Args:
        context: Of the intent's user.
        seen: The intent as it was read.
        epoch: Of the leader that settles it.
        node_set: What it changed.
        replicas: To how many.
        problem: Why it was refused; None when it was applied.

    Raises:
        ConflictError: It is not as it was read, or gone.
    """
    phase = "applied" if problem is None else "refused"
    settled = (
        await context.database.execute(
            update(intents)
            .where(
                intents.c.id == seen.intent_id,
                intents.c.user_id == context.user_id,
                intents.c.version == seen.version,
                intents.c.phase == "pending",
            )
            .values(
                phase=phase,
                node_set=node_set,
                replicas=replicas,
                problem=problem,
                version=intents.c.version + 1,
                epoch=epoch,
                settled_at=func.clock_timestamp(),
            )
            .returning(intents.c.id)
        )
    ).first()
    if settled is None:
        message = f"Intent {seen.intent_id} has changed since version {seen.version}."
        raise ConflictError(message)


async def delete_intent(context: UserExecutionContext, intent_id: str) -> bool:
    """Forget an intent, which takes a pending one back; False when there is none."""
    deleted = (
        await context.database.execute(
            delete(intents)
            .where(intents.c.id == intent_id, intents.c.user_id == context.user_id)
            .returning(intents.c.id)
        )
    ).first()
    if deleted is None:
        return False
    await forget_key(context, "intent", intent_id)
    await context.audit.record("intent.deleted", intent_id)
    return True
