"""Workers that are tasks of the running loop."""

import asyncio
import contextlib
import dataclasses
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from test_framework.battery.config import RaceTestConfig
from test_framework.battery.patience import (
    GRACE_S,
    POLL_S,
    Hang,
    Patience,
    lines_of,
)
from test_framework.battery.worker import Work, Worker, live
from test_framework.core import AlarmRecord

Task = asyncio.Task[None]


async def run_tasks(
    config: RaceTestConfig,
    work: Work[Any],
    shared: object,
    watch: Callable[[], tuple[AlarmRecord, ...]],
) -> tuple[list[Worker[Any]], Hang | None]:
    """Run the workers, and cut them off when they hang.

    Args:
        config: How many, how long.
        work: A turn.
        shared: What they share.
        watch: Tells who waits for whom.

    Returns:
        The workers, and how they hung if they did.
    """
    barrier = asyncio.Barrier(config.workers)
    workers = [Worker(index, config, shared) for index in range(config.workers)]
    for worker in workers:
        worker.barrier = barrier.wait
    with _bound_to(config.cpus):
        tasks = [
            asyncio.create_task(
                live(worker, work, barrier.abort),
                name=f"worker-{worker.index}",
            )
            for worker in workers
        ]
        try:
            hang = await _supervise(config, workers, tasks, watch)
        finally:
            # Cancelled from outside as well, none is left behind.
            for task in tasks:
                task.cancel()
            _, deaf = await asyncio.wait(tasks, timeout=GRACE_S)
    if hang is not None:
        lost = tuple(index for index, task in enumerate(tasks) if task in deaf)
        hang = dataclasses.replace(hang, abandoned=lost)
    return workers, hang


async def _supervise(
    config: RaceTestConfig,
    workers: Sequence[Worker[Any]],
    tasks: Sequence[Task],
    watch: Callable[[], tuple[AlarmRecord, ...]],
) -> Hang | None:
    patience = Patience(config)
    while True:
        _, running = await asyncio.wait(tasks, timeout=POLL_S)
        if not running:
            return None
        hang = patience.is_over(sum(worker.progress for worker in workers))
        if hang is not None:
            pending = [worker.journal.pending for worker in workers]
            for worker in workers:
                worker.journal = worker.journal.stop()
            return dataclasses.replace(
                hang,
                pending=tuple(one for one in pending if one is not None),
                stacks={
                    index: _stack_of(task)
                    for index, task in enumerate(tasks)
                    if not task.done()
                },
                alarms=watch(),
            )


def _stack_of(task: Task) -> str:
    return lines_of(
        traceback.StackSummary.extract(
            (frame, frame.f_lineno) for frame in task.get_stack()
        )
    )


@contextlib.contextmanager
def _bound_to(cpus: Sequence[int]) -> Iterator[None]:
    """Bind this thread, which runs all tasks, for the time of the block."""
    if not cpus:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
