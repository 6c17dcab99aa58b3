"""Tidies up after processes that were killed: their runs end, and their users hear of it.

Every process does so, and each lease is claimed by one. What is done for a lease may be
done again, by whoever claims it next if this process dies over it: the row ends once,
and the log takes a run's last event once.

Several are tidied up at one time, in small batches that the living processes share. A run
whose row is locked, by a process that was stopped in the middle of a transaction, is left
to a later sweep, so that nobody else's waits behind it.
"""

import asyncio
import logging
from collections.abc import Callable

from app.agents.leases import RunLeases
from app.context import UserExecutionContext
from app.monitoring import log_event
from app.storage import Run, SessionFactory, abandon_run

AT_ONCE = 4
"""Few of the connections of a pool: users need them most while a process is dead."""

_log = logging.getLogger("app.agents")

MakeContext = Callable[[str], UserExecutionContext]
"""Makes the context of a user, without a session."""


async def sweep_orphans(
    leases: RunLeases, sessions: SessionFactory, make_context: MakeContext
) -> int:
    """End the runs whose leases have expired; return how many leases were claimed.

    A lease that cannot be tidied up stays, and is claimed again once it has expired.
    """
    count = 0
    while True:
        claimed = await leases.claim(limit=AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for user_id, run_id in claimed:
                group.create_task(
                    _try_to_tidy_up(leases, sessions, make_context, user_id, run_id)
                )
        count += len(claimed)
        if len(claimed) < AT_ONCE:
            return count


async def _try_to_tidy_up(
    leases: RunLeases,
    sessions: SessionFactory,
    make_context: MakeContext,
    user_id: str,
    run_id: str,
) -> None:
    try:
        await _tidy_up(leases, sessions, make_context(user_id), run_id)
    except Exception as exc:  # noqa: BLE001  # one run must not keep the others
        log_event(
            _log,
            "orphan.not_swept",
            level=logging.WARNING,
            problem=type(exc).__name__,
            user_id=user_id,
            run_id=run_id,
        )


async def _tidy_up(
    leases: RunLeases,
    sessions: SessionFactory,
    context: UserExecutionContext,
    run_id: str,
) -> None:
    async with sessions.for_user(context.user_id) as session:
        run = await abandon_run(context.child(run_id=run_id, session=session))
    if run is not None:
        await tell_the_end(context, run)
    # Last: until the end is told, somebody has to do it.
    await leases.give_back(context.user_id, run_id)


async def tell_the_end(context: UserExecutionContext, run: Run) -> None:
    """Emit the last event of a run that has ended; once, however often it is told."""
    outcome = {"result": run.result, "error": run.error}
    await context.emitter.emit(
        f"run.{run.status}",
        run_id=run.run_id,
        thread_id=run.thread_id,
        data={name: text for name, text in outcome.items() if text is not None},
    )
