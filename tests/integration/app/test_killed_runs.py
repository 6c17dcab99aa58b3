"""What users see of a run whose process was killed at each moment at which it matters.

Real processes that kill themselves between a commit and what is told of it. Others sweep
up after them, as every process of the service does.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from app.agents import RunLeases, sweep_orphans
from app.api.dependencies import build_context
from app.settings import Settings
from tests.integration.app.dying import MOMENTS
from tests.integration.app.service import Member, Service, running
from tests.integration.control.world import environment_of

pytestmark = [pytest.mark.integration, pytest.mark.slow]
LEASE_S = 0.5
LIMIT_S = 60.0
ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Seen:
    """What a user sees of a run.

    Attributes:
        status: How it stands; empty when there is none.
        told: Its first event and those that end it.
        is_whole: Whether its result is there just when it is completed, in the answer
            and in the last event alike.
    """

    status: str
    told: tuple[str, ...]
    is_whole: bool = True


FAILED = Seen("failed", ("run.started", "run.failed"))
COMPLETED = Seen("completed", ("run.started", "run.completed"))
EXPECTED = dict(
    zip(
        MOMENTS,
        (
            Seen("", ()),
            Seen("failed", ("run.failed",)),
            FAILED,
            FAILED,
            COMPLETED,
            COMPLETED,
        ),
        strict=True,
    )
)


async def _kill(
    settings: Settings, member: Member, moments: Sequence[str], key: str
) -> dict[str, str]:
    """Let a process die at each moment of a run; return the runs by moment."""
    thread = await member.new("/threads", title="t")
    runs = {moment: str(uuid4()) for moment in moments}
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "tests.integration.app.dying", key, str(LEASE_S)],
        *["/".join((at, member.user_id, thread, run)) for at, run in runs.items()],
        cwd=ROOT,
        env=environment_of(settings),
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(LIMIT_S):
            told, _ = await process.communicate()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    assert told.split() == [str(-signal.SIGKILL).encode()] * len(moments)
    return runs


async def _sweep(service: Service, key: str) -> None:
    """Do what all processes do, until nothing is left to do."""
    leases = RunLeases(service.parts.redis, lease_s=LEASE_S, key=key)
    async with asyncio.timeout(LIMIT_S):
        while await service.parts.redis.zcard(key):
            await sweep_orphans(
                leases,
                service.parts.sessions,
                lambda user_id: build_context(
                    service.parts, user_id=user_id, request_id="test"
                ),
            )
            await asyncio.sleep(LEASE_S / 4)


async def _look(service: Service, member: Member, run: str) -> Seen:
    events = [
        event
        for event in await service.parts.events.read(
            member.user_id, after=0, limit=1_000
        )
        if event.run_id == run
    ]
    told = tuple(e.kind for e in events if e.ends_run or e is events[0])
    answer = await member.http.get(f"/runs/{run}")
    if answer.status_code == 404:
        return Seen("", told)
    fields = answer.json()
    is_completed = fields["status"] == "completed"
    results = {fields["result"] is not None, '"result":' in events[-1].frame}
    return Seen(fields["status"], told, results == {is_completed})


async def test_run_of_a_killed_process_ends_and_is_told_once(
    settings: Settings,
) -> None:
    """Whatever was committed when the process died is what the user is told, once."""
    key = f"leases of {uuid4()}"
    async with running(settings) as service, service.member() as member:
        runs = await _kill(settings, member, MOMENTS, key)
        await _sweep(service, key)

        seen = {at: await _look(service, member, run) for at, run in runs.items()}

    assert seen == EXPECTED


@pytest.mark.power
@pytest.mark.long
async def test_end_that_a_killed_process_committed_is_lost_without_leases(
    settings: Settings,
) -> None:
    """Before runs had leases, one that was killed between commit and event told nobody."""
    async with running(settings) as service, service.member() as member:
        runs = await _kill(settings, member, ["before run.completed"], "none")
        await _sweep(service, "none")

        seen = await _look(service, member, runs["before run.completed"])

    assert (seen.status, seen.told) == ("completed", ("run.started",))
