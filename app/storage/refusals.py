"""Refusals in Postgres: one row for a minute, a reason and a source."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql

from app.context import UserExecutionContext
from app.security import Permission, Refusals
from app.storage.roles import Policies, read_authority
from app.storage.sessions import SessionFactory
from app.storage.tables import refusals as refusal_table


@dataclass(frozen=True, slots=True)
class RefusedInMinute:
    """How often something was refused to one source within one minute."""

    minute: datetime
    reason: str
    source: str
    refused: int
    last_at: datetime


async def write_refusals(sessions: SessionFactory, refusals: Refusals) -> None:
    """Write what was counted so far; what cannot be written stays counted."""
    taken = refusals.take()
    if not taken:
        return
    is_written = False
    try:
        async with sessions.for_auth() as session:
            added = postgresql.insert(refusal_table).values(
                [
                    {
                        "minute": func.date_trunc("minute", func.now()),
                        "reason": refusal.reason,
                        "source": refusal.source,
                        "refused": count,
                    }
                    # In one order, so that two workers cannot cross.
                    for refusal, count in sorted(
                        taken.items(), key=lambda one: (one[0].reason, one[0].source)
                    )
                ]
            )
            await session.execute(
                added.on_conflict_do_update(
                    index_elements=["minute", "reason", "source"],
                    set_={
                        "refused": refusal_table.c.refused + added.excluded.refused,
                        "last_at": func.now(),
                    },
                )
            )
        is_written = True
    finally:
        # Cancelled or refused: counted twice at worst, when only the answer was lost.
        if not is_written:
            refusals.put_back(taken)


async def list_refusals(
    context: UserExecutionContext, policies: Policies, *, limit: int
) -> list[RefusedInMinute]:
    """Return the newest refusals, newest first.

    Raises:
        PermissionDeniedError: The context's user may not read them.
    """
    authority = await read_authority(context, policies)
    authority.require(Permission.READ_REFUSALS)
    columns = refusal_table.c
    rows = await context.database.execute(
        select(
            columns.minute,
            columns.reason,
            columns.source,
            columns.refused,
            columns.last_at,
        )
        .order_by(columns.minute.desc(), columns.reason, columns.source)
        .limit(limit)
    )
    return [RefusedInMinute(*row) for row in rows]
