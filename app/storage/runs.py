"""Agent runs: their goal, their state and what came out.

A run ends once. Whoever ends it does so with an ``UPDATE`` that asks for the state
``running``, so a cancellation and a completion at one instant have one winner.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import ColumnElement, func, insert, select, text, update

from app.context import UserExecutionContext
from app.storage.tables import runs

RunStatus = Literal["running", "completed", "failed", "cancelled"]
FinalStatus = Literal["completed", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Run:
    """One agent run.

    Attributes:
        run_id: Its id (UUID text).
        thread_id: The thread it works in.
        goal: What the user asked for.
        status: Where it stands.
        result: The answer, once completed.
        error: Why it failed, once failed.
        cancel_requested: The user asked to stop it.
        events_after: Its events have larger sequence numbers than this.
        created_at: When it started.
        finished_at: When it ended, None while running.
    """

    run_id: str
    thread_id: str
    goal: str
    status: RunStatus
    result: str | None
    error: str | None
    cancel_requested: bool
    events_after: int
    created_at: datetime
    finished_at: datetime | None


_RUN: tuple[ColumnElement[Any], ...] = (
    runs.c.id,
    runs.c.thread_id,
    runs.c.goal,
    runs.c.status,
    runs.c.result,
    runs.c.error,
    runs.c.cancel_requested,
    runs.c.events_after,
    runs.c.created_at,
    runs.c.finished_at,
)

LOCK_TIMEOUT_MS = 1_000
"""How long a sweep waits for a row that somebody else works on."""
_WAIT_SHORTLY = text(f"SELECT set_config('lock_timeout', '{LOCK_TIMEOUT_MS}', true)")


async def create_run(
    context: UserExecutionContext, *, goal: str, events_after: int, timeout_s: float
) -> Run:
    """Add the context's run in its thread, which must exist."""
    row = (
        await context.database.execute(
            insert(runs)
            .values(
                id=context.run_id,
                user_id=context.user_id,
                thread_id=context.thread_id,
                request_id=context.request_id,
                goal=goal,
                status="running",
                events_after=events_after,
                deadline_at=func.now() + timedelta(seconds=timeout_s),
            )
            .returning(*_RUN)
        )
    ).one()
    await context.audit.record("run.started", str(context.run_id))
    return Run(*row)


async def list_runs(context: UserExecutionContext, *, limit: int) -> list[Run]:
    """Return the user's newest runs, newest first."""
    rows = await context.database.execute(
        select(*_RUN)
        .where(runs.c.user_id == context.user_id)
        .order_by(runs.c.created_at.desc(), runs.c.id)
        .limit(limit)
    )
    return [Run(*row) for row in rows]


async def find_run(context: UserExecutionContext, run_id: str) -> Run | None:
    """Return a run, None when the user has no such run."""
    row = (
        await context.database.execute(
            select(*_RUN).where(runs.c.id == run_id, runs.c.user_id == context.user_id)
        )
    ).first()
    return None if row is None else Run(*row)


async def request_cancel(context: UserExecutionContext, run_id: str) -> Run | None:
    """Ask a run to stop; None when the user has no such run.

    A run that has ended stays as it is and is returned.
    """
    row = (
        await context.database.execute(
            update(runs)
            .where(
                runs.c.id == run_id,
                runs.c.user_id == context.user_id,
                runs.c.status == "running",
            )
            .values(cancel_requested=True)
            .returning(*_RUN)
        )
    ).first()
    if row is None:
        return await find_run(context, run_id)
    await context.audit.record("run.cancel_requested", run_id)
    return Run(*row)


async def finish_run(
    context: UserExecutionContext,
    *,
    status: FinalStatus,
    result: str | None = None,
    error: str | None = None,
) -> bool:
    """End the context's run; False when it had ended already, or is gone."""
    ended = (
        await context.database.execute(
            update(runs)
            .where(
                runs.c.id == context.run_id,
                runs.c.user_id == context.user_id,
                runs.c.status == "running",
            )
            .values(status=status, result=result, error=error, finished_at=func.now())
            .returning(runs.c.id)
        )
    ).first()
    if ended is None:
        return False
    await context.audit.record(f"run.{status}", str(context.run_id))
    return True


async def abandon_run(context: UserExecutionContext) -> Run | None:
    """Fail the context's run if it still runs; None when there is no such run.

    A run that has ended stays as it is and is returned.

    Raises:
        sqlalchemy.exc.DBAPIError: Somebody else has the row, and does not let go of it.
    """
    # A living process lets go within milliseconds, one that was stopped does not.
    await context.database.execute(_WAIT_SHORTLY)
    row = (
        await context.database.execute(
            update(runs)
            .where(
                runs.c.id == context.run_id,
                runs.c.user_id == context.user_id,
                runs.c.status == "running",
            )
            .values(status="failed", error="abandoned", finished_at=func.now())
            .returning(*_RUN)
        )
    ).first()
    if row is None:
        return await find_run(context, str(context.run_id))
    await context.audit.record("run.failed", str(context.run_id))
    return Run(*row)


async def sweep_abandoned(context: UserExecutionContext) -> list[Run]:
    """Fail the user's runs whose process died, and return them.

    A living engine ends a run at its deadline, so one that is still running after it
    has nobody working on it.
    """
    rows = await context.database.execute(
        update(runs)
        .where(
            runs.c.user_id == context.user_id,
            runs.c.status == "running",
            runs.c.deadline_at < func.now() - timedelta(seconds=10),
        )
        .values(status="failed", error="abandoned", finished_at=func.now())
        .returning(*_RUN)
    )
    return [Run(*row) for row in rows]
