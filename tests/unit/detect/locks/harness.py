"""Runs a small program under the watch until nothing moves any more."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from test_framework.core import AlarmRecord
from test_framework.detect.locks import DeadlockWatcher

Program = Callable[[], Awaitable[Any]]

STEPS = 60
"""Turns of the loop; every program here has ended or is stuck long before."""


async def settle(steps: int = STEPS) -> None:
    """Let every other task run until it has ended or is stuck."""
    for _ in range(steps):
        await asyncio.sleep(0)


async def put_away(tasks: set[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they are gone."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def alarms_of(
    program: Program,
    watcher: DeadlockWatcher | None = None,
    *,
    at_timeout: bool = False,
    seconds: float = 0.0,
) -> list[AlarmRecord]:
    """Return what the watcher tells of a program.

    Args:
        program: It; whatever it leaves behind is cancelled afterwards.
        watcher: Who watches; one without options when it is left out.
        at_timeout: Ask as at the timeout of a test, not as at its end.
        seconds: How long its timers take.
    """
    watcher = watcher or DeadlockWatcher()
    watcher.start()
    before = asyncio.all_tasks()
    try:
        asyncio.create_task(ended(program), name="main")  # noqa: RUF006  # put away below
        await settle()
        await asyncio.sleep(seconds)
        await settle()
        found = watcher.stalled() if at_timeout else watcher.alarms()
        await put_away(asyncio.all_tasks() - before)
    finally:
        watcher.stop()
    return found


async def ended(program: Program) -> None:
    """Run a program to its end."""
    await program()
