"""Workers that are threads, each with an event loop of its own."""

import asyncio
import contextlib
import dataclasses
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from test_framework.battery.config import RaceTestConfig
from test_framework.battery.patience import (
    GRACE_S,
    POLL_S,
    Hang,
    Patience,
    stacks_of_threads,
)
from test_framework.battery.worker import Work, Worker, live


@dataclass(slots=True)
class _Seat:
    """A worker and the thread that it runs in."""

    worker: Worker[Any]
    thread: threading.Thread | None = None
    loop: asyncio.AbstractEventLoop | None = None
    task: "asyncio.Task[Any] | None" = None

    def is_running(self) -> bool:
        """Whether its thread has not ended."""
        return self.thread is not None and self.thread.is_alive()

    def cancel(self) -> None:
        """Cancel its task, if its loop still runs."""
        if self.loop is not None and self.task is not None:
            with contextlib.suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self.task.cancel)


async def run_threads(
    config: RaceTestConfig,
    work: Work[Any],
    shared: object,
) -> tuple[list[Worker[Any]], Hang | None]:
    """Run the workers, and cut them off when they hang.

    A thread that waits for a lock outside of its loop cannot be stopped: it is left
    behind, as a daemon, and named.

    Args:
        config: How many, how long.
        work: A turn.
        shared: What they share.

    Returns:
        The workers, and how they hung if they did.
    """
    barrier = threading.Barrier(config.workers, timeout=config.timeout_s)
    seats = [_Seat(Worker(index, config, shared)) for index in range(config.workers)]
    for seat in seats:
        seat.thread = threading.Thread(
            target=_thread_main,
            args=(seat, work, barrier),
            name=f"worker-{seat.worker.index}",
            daemon=True,
        )
        seat.thread.start()
    try:
        hang = await _supervise(config, seats)
    finally:
        barrier.abort()
        await _stop(seats)
    if hang is not None:
        lost = tuple(seat.worker.index for seat in seats if seat.is_running())
        hang = dataclasses.replace(hang, abandoned=lost)
    return [seat.worker for seat in seats], hang


def _thread_main(seat: _Seat, work: Work[Any], barrier: threading.Barrier) -> None:
    worker = seat.worker
    worker.barrier = barrier.wait
    cpus = worker.config.cpus
    if cpus:
        # On Linux 0 is the calling thread, not the process.
        os.sched_setaffinity(0, {cpus[worker.index % len(cpus)]})

    async def main() -> None:
        seat.loop, seat.task = asyncio.get_running_loop(), asyncio.current_task()
        await live(worker, work, barrier.abort)

    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(main())


async def _supervise(
    config: RaceTestConfig,
    seats: Sequence[_Seat],
) -> Hang | None:
    patience = Patience(config)
    while any(seat.is_running() for seat in seats):
        await asyncio.sleep(POLL_S)
        hang = patience.is_over(sum(seat.worker.progress for seat in seats))
        if hang is not None:
            running = [seat for seat in seats if seat.is_running()]
            pending = [seat.worker.journal.pending for seat in running]
            for seat in seats:
                seat.worker.journal = seat.worker.journal.stop()
            return dataclasses.replace(
                hang,
                pending=tuple(one for one in pending if one is not None),
                stacks=stacks_of_threads(
                    {
                        seat.worker.index: seat.thread.ident
                        for seat in running
                        if seat.thread is not None
                    }
                ),
            )
    return None


async def _stop(seats: Sequence[_Seat]) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + GRACE_S
    while any(seat.is_running() for seat in seats) and loop.time() < deadline:
        # Again, since a cancellation may fall into the clean-up after another one.
        for seat in seats:
            seat.cancel()
        await asyncio.sleep(POLL_S)
