"""Agent runs: start, watch, cancel."""

import contextlib
from collections.abc import AsyncIterator
from uuid import UUID

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse

from app.api.dependencies import PartsOf, Plain, Work
from app.api.openapi import text_answer
from app.api.parts import Parts
from app.api.problems import not_found
from app.api.schemas import Limit, NewRun
from app.context import UserExecutionContext
from app.realtime import follow
from app.storage import (
    Run,
    create_run,
    find_run,
    find_thread,
    list_runs,
    request_cancel,
    transaction,
)

router = APIRouter(tags=["runs"])


@router.post("/threads/{thread_id}/runs", status_code=202)
async def post_run(
    thread_id: UUID, new: NewRun, context: Plain, parts: PartsOf, response: Response
) -> Run:
    """Let the agent work in a thread; its events come over /ws."""
    work = context.child(thread_id=str(thread_id), run_id=str(parts.new_id()))
    events_after = await parts.events.end(work.user_id)

    async def create(context: UserExecutionContext) -> Run:
        async with transaction(parts.sessions, context) as writing:
            if await find_thread(writing, str(thread_id), is_kept=True) is None:
                raise not_found("thread")
            return await create_run(
                writing,
                goal=new.goal,
                events_after=events_after,
                timeout_s=parts.settings.run_timeout_s,
            )

    # Before a session is opened: making an engine takes a connection of its own, and
    # as many requests as the pool has connections, each holding one and waiting for a
    # second, would wait for one another until the pool's time limit.
    engine = await parts.engines.engine_for(work, parts.workshop)
    # Nothing is awaited in between, so the run is one of an engine in the registry.
    run = await engine.start(work, create)
    response.headers["location"] = f"/runs/{run.run_id}"
    return run


@router.get("/runs")
async def get_runs(context: Work, limit: Limit = 100) -> list[Run]:
    """List the newest runs."""
    return await list_runs(context, limit=limit)


@router.get("/runs/{run_id}")
async def get_run(run_id: UUID, context: Work) -> Run:
    """Show a run."""
    run = await find_run(context, str(run_id))
    if run is None:
        raise not_found("run")
    return run


@router.post("/runs/{run_id}/cancel", status_code=202)
async def cancel_run(run_id: UUID, context: Work, parts: PartsOf) -> Run:
    """Ask a run to stop, whichever process works on it."""
    run = await request_cancel(context, str(run_id))
    if run is None:
        raise not_found("run")
    if run.status == "running":
        # Committed before it is announced: the flag is what counts.
        await context.database.commit()
        await parts.hub.announce_cancel(parts.redis, run.run_id)
    return run


@router.get(
    "/runs/{run_id}/events",
    response_class=StreamingResponse,
    responses=text_answer("application/x-ndjson"),
)
async def get_events(run_id: UUID, context: Plain, parts: PartsOf) -> StreamingResponse:
    """Stream a run's events, one JSON object a line, until the run has ended."""
    run = await _find(parts, context, str(run_id))
    if run is None:
        raise not_found("run")
    return StreamingResponse(
        _lines(parts, context, run), media_type="application/x-ndjson"
    )


async def _lines(
    parts: Parts, context: UserExecutionContext, run: Run
) -> AsyncIterator[bytes]:
    events = follow(parts.hub, parts.events, context.user_id, after=run.events_after)
    is_last_look = run.status != "running"
    async with contextlib.aclosing(events):
        async for batch in events:
            for event in batch:
                if event.run_id == run.run_id:
                    yield event.frame.encode() + b"\n"
                    if event.ends_run:
                        return
            if batch:
                continue
            if is_last_look:
                return  # it ended, and its last event is not kept any more
            current = await _find(parts, context, run.run_id)
            is_last_look = current is None or current.status != "running"


async def _find(parts: Parts, context: UserExecutionContext, run_id: str) -> Run | None:
    async with transaction(parts.sessions, context) as reading:
        return await find_run(reading, run_id)
