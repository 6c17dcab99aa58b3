"""Processes that work on a run and kill themselves; ``python -m tests.integration.app.dying``.

Each is a process of its own, forked when everything is imported. The moment at which it
sends itself SIGKILL is one between two steps that only together are what a user is owed:
a commit, and what is told of it.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace

from redis.asyncio import Redis

from app.agents import STANDARD_TOOLS, ExecutionEngine, Leases, RunLeases, Workshop
from app.agents.leases import NoLeases
from app.context import UserExecutionContext
from app.llm import LocalModel
from app.realtime import EventLog, UserEmitter
from app.storage import Run, create_run, transaction
from tests.integration.control.world import World, connected

MOMENTS = (
    "leased",
    "before run.started",
    "after run.started",
    "before tool.completed",
    "before run.completed",
    "after run.completed",
)
"""After the lease was taken; after the row was committed; after it was told; after a
tool's work was committed; after the run's end was; and after that was told."""


class _Leases(RunLeases):
    """Kills the process that has taken its first lease."""

    async def hold(self, user_id: str, run_id: str) -> None:
        await super().hold(user_id, run_id)
        _die()


class _Log(EventLog):
    """Kills the process before or after it tells of something."""

    def __init__(self, redis: Redis, moment: str) -> None:
        super().__init__(redis)
        self._moment = moment

    async def append(
        self,
        user_id: str,
        kind: str,
        *,
        run_id: str,
        thread_id: str,
        data: Mapping[str, object],
        event_id: str | None = None,
    ) -> int:
        if self._moment == f"before {kind}":
            _die()
        number = await super().append(
            user_id,
            kind,
            run_id=run_id,
            thread_id=thread_id,
            data=data,
            event_id=event_id,
        )
        if self._moment == f"after {kind}":
            _die()
        return number


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _leases(world: World, key: str, lease_s: float, moment: str) -> Leases:
    if key == "none":
        return NoLeases()
    kind = _Leases if moment == "leased" else RunLeases
    return kind(world.redis, key=key, lease_s=lease_s)


async def _work(key: str, lease_s: float, moment: str, *ids: str) -> None:
    user_id, thread_id, run_id = ids
    async with connected(os.environ["DATABASE_URL"], os.environ["REDIS_URL"]) as world:

        async def create(context: UserExecutionContext) -> Run:
            async with transaction(world.sessions, context) as writing:
                return await create_run(
                    writing, goal="what is new", events_after=0, timeout_s=3_600
                )

        engine = ExecutionEngine(
            user_id,
            Workshop(
                world.sessions,
                LocalModel(),
                STANDARD_TOOLS,
                run_timeout_s=3_600,
                leases=_leases(world, key, lease_s, moment),
            ),
        )
        context = world.context(user_id).child(thread_id=thread_id, run_id=run_id)
        emitter = UserEmitter(_Log(world.redis, moment), user_id)
        await engine.start(replace(context, emitter=emitter), create)
        async with asyncio.timeout(60):
            await asyncio.Event().wait()


def _main() -> None:
    key, lease_s, *doomed = sys.argv[1:]
    for words in doomed:
        moment, *ids = words.split("/")
        if os.fork() == 0:
            asyncio.run(_work(key, float(lease_s), moment, *ids))
            os._exit(0)
    for _ in doomed:
        _, status = os.wait()
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")


if __name__ == "__main__":
    _main()
