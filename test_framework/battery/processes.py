"""Workers that are processes, each with an event loop of its own.

They are forked from a server that has no threads, so they share nothing but what is
handed to them: shared memory, locks of ``multiprocessing``, addresses. Each sends its
journal when it is done, or when it is told to stop, from a second thread: also one
that waits for a lock for ever says what it did before.
"""

import asyncio
import contextlib
import dataclasses
import multiprocessing
import os
import pickle
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

from test_framework.battery.config import RaceTestConfig
from test_framework.battery.journal import Journal, Pending
from test_framework.battery.patience import (
    GRACE_S,
    POLL_S,
    Hang,
    Patience,
    stacks_of_threads,
)
from test_framework.battery.worker import SETUP, Work, Worker, WorkerError, live
from test_framework.core import UsageError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

PROCESS_DIED = "ProcessDied"
"""The type of the error of a worker whose history is lost."""


@dataclass(frozen=True, slots=True)
class _Account:
    """What a process sends home."""

    journal: Journal
    errors: tuple[WorkerError, ...]
    iteration: int
    pending: Pending | None
    stack: str


@dataclass(slots=True)
class _Seat:
    """A worker and the process that it runs in."""

    worker: Worker[Any]
    process: BaseProcess
    pipe: "Connection[str, _Account]"
    account: _Account | None = None
    is_told_to_stop: bool = False

    def receive(self) -> None:
        """Take its account, if it has come."""
        with contextlib.suppress(EOFError, ConnectionError):
            if self.account is None and self.pipe.poll():
                self.account = self.pipe.recv()

    def is_running(self) -> bool:
        """Whether it lives and has not sent its account."""
        return self.account is None and self.process.is_alive()

    def settle(self) -> None:
        """Take over what the process did; one that died has lost it, and says so."""
        worker, account = self.worker, self.account
        if account is not None:
            worker.journal, worker.iteration = account.journal, account.iteration
            worker.errors.extend(account.errors)
            return
        code = self.process.exitcode
        worker.errors.append(
            WorkerError(
                worker=worker.index,
                iteration=SETUP,
                type=PROCESS_DIED,
                message=f"its process ended with exit code {code} and its history is "
                "lost; nothing is known of what it did",
                trace="",
                is_of_target=True,
            )
        )


async def run_processes(
    config: RaceTestConfig, work: Work[Any], shared: object
) -> tuple[list[Worker[Any]], Hang | None]:
    """Run the workers, and cut them off when they hang.

    Args:
        config: How many, how long.
        work: A turn; a function of a module.
        shared: What they share; sent to each of them.

    Returns:
        The workers, and how they hung if they did.

    Raises:
        UsageError: The work or what is shared cannot be sent to a process.
    """
    context = _context(work, shared)
    barrier = context.Barrier(config.workers, timeout=config.timeout_s)
    progress = context.RawArray("q", config.workers)
    seats: list[_Seat] = []
    try:
        for index in range(config.workers):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_process_main,
                args=(index, config, work, shared, barrier, progress, theirs),
                name=f"worker-{index}",
                daemon=True,
            )
            _start(process, work, shared)
            theirs.close()
            seats.append(_Seat(Worker(index, config, shared), process, ours))
        # Journals are long; reading them must not keep the loop from its other work.
        hang = await asyncio.to_thread(_supervise, config, seats, progress)
    finally:
        await asyncio.to_thread(_end, seats)
    for seat in seats:
        seat.settle()
    if hang is not None:
        accounts = [seat.account for seat in seats if seat.account is not None]
        pending = [account.pending for account in accounts]
        hang = dataclasses.replace(
            hang,
            pending=tuple(one for one in pending if one is not None),
            stacks={
                account.journal.worker: account.stack
                for account in accounts
                if account.stack
            },
        )
    return [seat.worker for seat in seats], hang


def _context(*needed: object) -> SpawnContext | ForkServerContext:
    methods = multiprocessing.get_all_start_methods()
    # Forking this process would copy its locks in whatever state its threads left them.
    if "forkserver" not in methods:
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # Imported once, when the first process is started, and not by each of them.
    modules = {__name__, *(_module_of(one) for one in needed)}
    context.set_forkserver_preload(["__main__", *sorted(modules)])
    return context


def _module_of(something: object) -> str:
    found: str = getattr(something, "__module__", None) or type(something).__module__
    return found


def _start(process: BaseProcess, work: object, shared: object) -> None:
    try:
        process.start()
    except (pickle.PicklingError, AttributeError, TypeError) as exc:
        raise UsageError(
            f"{work!r} with {shared!r} cannot be sent to a process: {exc}. Use "
            "functions and classes of modules, and objects that can be pickled; or "
            'run it with kind="thread".'
        ) from exc


def _supervise(
    config: RaceTestConfig, seats: Sequence[_Seat], progress: Sequence[int]
) -> Hang | None:
    patience, pause = Patience(config), threading.Event()
    while any(seat.is_running() for seat in seats):
        pause.wait(POLL_S)
        for seat in seats:
            seat.receive()
        hang = patience.is_over(sum(progress))
        if hang is not None:
            _tell_to_stop(seats)
            return hang
    for seat in seats:
        seat.receive()
    return None


def _tell_to_stop(seats: Sequence[_Seat]) -> None:
    for seat in seats:
        if seat.is_running():
            seat.is_told_to_stop = True
            with contextlib.suppress(OSError):
                seat.pipe.send("stop")
    for seat in seats:
        if seat.is_running() and seat.pipe.poll(GRACE_S):
            seat.receive()


def _end(seats: Sequence[_Seat]) -> None:
    for seat in seats:
        # One that sent its account unasked is about to end by itself.
        is_done = seat.account is not None and not seat.is_told_to_stop
        seat.process.join(GRACE_S if is_done else 0)
        if seat.process.is_alive():
            seat.process.terminate()
            seat.process.join(GRACE_S)
        if seat.process.is_alive():
            seat.process.kill()
            seat.process.join()
        seat.pipe.close()


def _process_main(
    index: int,
    config: RaceTestConfig,
    work: Work[Any],
    shared: object,
    barrier: threading.Barrier,
    progress: list[int],
    pipe: "Connection[_Account, str]",
) -> None:
    if config.cpus:
        os.sched_setaffinity(0, {config.cpus[index % len(config.cpus)]})
    worker = Worker(index, config, shared, barrier=barrier.wait)
    sending = threading.Lock()
    is_done = threading.Event()

    def send(stack: str = "") -> None:
        with sending:
            if is_done.is_set():
                return
            is_done.set()
            pending = worker.journal.pending
            journal = worker.journal.stop()
            with contextlib.suppress(OSError):
                pipe.send(
                    _Account(
                        journal,
                        tuple(worker.errors),
                        worker.iteration,
                        pending,
                        stack,
                    )
                )

    def attend() -> None:
        ident = threading.main_thread().ident
        while not is_done.is_set():
            progress[index] = worker.progress
            # Told to stop, or nobody is left to tell it.
            if pipe.poll(POLL_S):
                send(stacks_of_threads({index: ident}).get(index, ""))

    attendant = threading.Thread(target=attend, daemon=True)
    attendant.start()
    try:
        asyncio.run(live(worker, work, barrier.abort))
    finally:
        progress[index] = worker.progress
        send()
        attendant.join(GRACE_S)
