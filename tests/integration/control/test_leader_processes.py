"""Leaders that are killed, stopped and woken: one acts at a time, and no intent is lost.

Real processes on real Postgres and Redis. Intents are relative (``add 1 node``), so one
that is lost or applied twice shows in the number of nodes; all writes carry the epoch of
their leader, so one who writes after a later one shows in their order.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from app.settings import Settings
from tests.integration.control.world import (
    LIMIT_S,
    World,
    environment_of,
    opened,
    overtaken,
)

pytestmark = [pytest.mark.integration, pytest.mark.slow]

USERS = 10
LEASE_S = 1.5
ROOT = Path(__file__).parents[3]

Event = dict[str, Any]


@dataclass
class Candidates:
    """Processes that stand for election, and what they told."""

    process: asyncio.subprocess.Process
    told: list[Event] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def listen(self) -> None:
        """Take down what they tell."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.told.append(json.loads(line))
            self.changed.set()

    async def until(self, *names: str, after: Event | None = None) -> Event:
        """Wait for an event of these names; with ``after`` for a later one, told by it."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                since = self.told.index(after) + 1 if after is not None else 0
                for event in self.told[since:]:
                    is_its = after is None or event["pid"] == after["pid"]
                    if event["event"] in names and is_its:
                        return event
                self.changed.clear()
                await self.changed.wait()


@contextlib.asynccontextmanager
async def standing(
    settings: Settings, kind: str, folder: Path, *, count: int = 3
) -> AsyncIterator[Candidates]:
    """Run candidates; all of them are gone afterwards."""
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "tests.integration.control.candidates"],
        *[kind, f"test-{uuid4().hex}", str(LEASE_S), str(folder), str(count)],
        cwd=ROOT,
        env=environment_of(settings),
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    candidates = Candidates(process)
    listening = asyncio.create_task(candidates.listen())
    try:
        yield candidates
    except Exception as exc:
        told = "\n".join(map(json.dumps, candidates.told))
        exc.add_note(f"The candidates told, oldest first:\n{told}")
        raise
    finally:
        # All of the session: those that are stopped as well.
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        await listening


async def _submit_all(world: World, users: list[str], mishap: str = "") -> None:
    """Let everybody want one node more; the first one's leader has a mishap."""
    goals = [
        f"{mishap if not place else ''} add 1 node to web" for place in range(USERS)
    ]
    await asyncio.gather(
        *(
            world.submit(user_id, goal.strip())
            for user_id, goal in zip(users, goals, strict=True)
        )
    )


@pytest.mark.parametrize(
    "kind", ["postgres", pytest.param("redis", marks=pytest.mark.long)]
)
async def test_leaders_are_killed_and_stopped_and_nothing_is_lost(
    migrated: Settings, kind: str, tmp_path: Path
) -> None:
    """One leader kills itself in the middle of an intent, the next is stopped in one.

    The stopped one is woken when another leads: what it goes on to write is refused.
    """
    async with (
        opened(migrated) as world,
        standing(migrated, kind, tmp_path) as candidates,
    ):
        users = await world.add_users(USERS)
        await _submit_all(world, users, "[kill]")
        killed = await candidates.until("[kill]")
        await world.settled(users)
        await _submit_all(world, users, "[stop]")
        stopped = await candidates.until("[stop]")
        await _submit_all(world, users)
        # By the third: the first is dead, and the second is stopped.
        await world.settled(users)
        os.kill(stopped["pid"], signal.SIGCONT)
        await candidates.until(
            "control.term_lost", "control.term_failed", after=stopped
        )
        await _submit_all(world, users)
        await world.settled(users)
        ends = [await world.converged(user_id, "web") for user_id in users]
        phases = {
            intent.phase
            for user_id in users
            for intent in await world.intents_of(user_id)
        }
        written = [pair for user_id in users for pair in await world.epochs_of(user_id)]

    assert killed["pid"] != stopped["pid"]
    assert phases == {"applied"}
    assert [node_set.replicas for node_set, _ in ends] == [4] * USERS
    assert [nodes for _, nodes in ends] == [[0, 1, 2, 3]] * USERS
    assert overtaken(written) == []
    elected = [e["epoch"] for e in candidates.told if e["event"] == "control.elected"]
    # Told after they were drawn, so perhaps in another order; but none twice.
    assert len(elected) == len(set(elected)) >= 3
