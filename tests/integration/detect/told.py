"""Runs a program on real servers until the watcher tells of it."""

import asyncio
from collections.abc import Awaitable
from typing import Any

from test_framework.core import AlarmRecord
from test_framework.detect.locks import DeadlockWatcher

PATIENCE_S = 15.0


async def until_told(
    watcher: DeadlockWatcher,
    program: Awaitable[Any],
    rule: str,
    *,
    ends_itself: bool = False,
) -> AlarmRecord:
    """Return the alarm of a rule as soon as there is one.

    Args:
        watcher: Who is asked.
        program: What it watches.
        rule: Of the alarm.
        ends_itself: The program is not cancelled: redis-py leaves a connection open
            when a command is.
    """
    # Tasks of the program may be there already: gather starts them when it is called.
    ours = {asyncio.current_task()}
    running = asyncio.ensure_future(program)
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for alarm in watcher.alarms():
                    if alarm.rule == rule:
                        return alarm
                await asyncio.sleep(0.02)
    finally:
        if not ends_itself:
            running.cancel()
        # Who is cancelled still gives back what it has, in tasks of their own at times.
        while left := asyncio.all_tasks() - ours:
            await asyncio.wait(left)
        await asyncio.gather(running, return_exceptions=True)
