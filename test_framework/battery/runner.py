"""Runs a function as many concurrent workers and tells everything that they did.

Workers wait for each other and begin at one instant. Every error is kept, every
operation is written down, and how much of it was really concurrent is measured. A run
that hangs is cut off and shows who waited for what.

It judges nothing: the conformance tests do, by the checkers of ``check``.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from test_framework.battery.config import RaceTestConfig
from test_framework.battery.journal import Journal
from test_framework.battery.overlap import Overlap, measure_overlap
from test_framework.battery.patience import Hang
from test_framework.battery.processes import PROCESS_DIED, run_processes
from test_framework.battery.tasks import run_tasks
from test_framework.battery.threads import run_threads
from test_framework.battery.worker import Connectable, Work, Worker, WorkerError
from test_framework.check.linear import Call
from test_framework.core import NS_PER_S, AlarmRecord, MonotonicClock
from test_framework.detect.locks import DeadlockWatcher

Shared = TypeVar("Shared")


@dataclass(frozen=True, slots=True)
class RaceRun:
    """What concurrent workers did.

    Attributes:
        config: How they were run.
        journals: What each of them did, by its number.
        errors: All that they met and did not expect, none left out.
        turns: How many turns were begun, of all workers together.
        overlap: How concurrent it was.
        hang: How it was cut off; None if it ended.
        alarms: What the deadlock watcher saw.
        elapsed_s: How long it took, with the start of the workers.
    """

    config: RaceTestConfig
    journals: tuple[Journal, ...]
    errors: tuple[WorkerError, ...]
    turns: int
    overlap: Overlap
    hang: Hang | None
    alarms: tuple[AlarmRecord, ...]
    elapsed_s: float

    @property
    def is_complete(self) -> bool:
        """Whether the history of no worker is lost."""
        return all(error.type != PROCESS_DIED for error in self.errors)

    def calls(self, *kinds: str) -> list[Call]:
        """Return the history, by the time of invocation.

        Args:
            *kinds: What is wanted of it; all if none is named.
        """
        calls = [
            call
            for journal in self.journals
            for call in journal.calls()
            if not kinds or call.kind in kinds
        ]
        calls.sort(key=lambda call: call.invoked)
        return [_at(index, call) for index, call in enumerate(calls)]


def _at(index: int, call: Call) -> Call:
    return Call(
        call.process,
        call.kind,
        call.argument,
        call.result,
        call.invoked,
        call.completed,
        call.key,
        index,
    )


class RaceTestRunner:
    """Runs a function as many concurrent workers.

    Args:
        config: How many, of which kind, how long; the defaults if none is given.
    """

    def __init__(self, config: RaceTestConfig | None = None) -> None:
        self.config = config or RaceTestConfig()

    async def run(
        self, work: Work[Shared], shared: Shared | Connectable[Shared] | None = None
    ) -> RaceRun:
        """Let each worker take its turns, all of them at once.

        A worker calls ``work`` with itself, once for each iteration. Operations done
        through ``worker.journal.call`` are in the history.

        What is shared is handed to each worker as it is, or, if it has a method
        ``connect`` that returns an asynchronous context manager, each worker enters
        one and has what it yields.

        Args:
            work: A turn; a function or a coroutine function. For processes it must
                be a function of a module.
            shared: What the workers share.

        Returns:
            What they did.

        Raises:
            UsageError: Work or what is shared cannot be sent to a process.
        """
        clock = MonotonicClock()
        began_ns = clock.now_ns()
        with _LockWatch(self.config) as watch:
            workers, hang = await self._run(work, shared, watch)
            alarms = watch.alarms() if hang is None else hang.alarms
        journals = tuple(worker.journal for worker in workers)
        return RaceRun(
            config=self.config,
            journals=journals,
            errors=tuple(error for worker in workers for error in worker.errors),
            turns=sum(worker.iteration + 1 for worker in workers),
            overlap=measure_overlap(journals),
            hang=hang,
            alarms=alarms,
            elapsed_s=(clock.now_ns() - began_ns) / NS_PER_S,
        )

    async def _run(
        self,
        work: Work[Any],
        shared: object,
        watch: "_LockWatch",
    ) -> tuple[list[Worker[Any]], Hang | None]:
        if self.config.kind == "process":
            return await run_processes(self.config, work, shared)
        if self.config.kind == "thread":
            return await run_threads(self.config, work, shared)
        return await run_tasks(self.config, work, shared, watch.stalled)


class _LockWatch:
    """What the deadlock watcher sees of one run.

    Only asyncio's locks are within its reach, and those only of this thread; a watcher
    that is on already, as in tests, is asked instead of a second one.
    """

    def __init__(self, config: RaceTestConfig) -> None:
        self._running: DeadlockWatcher | None = None
        self._own: DeadlockWatcher | None = None
        if config.detect_deadlocks and config.kind == "task":
            self._running = DeadlockWatcher.running()
            if self._running is None:
                self._running = self._own = DeadlockWatcher()
        self._before: set[tuple[str, str, str]] = set()

    def __enter__(self) -> Self:
        if self._own is not None:
            self._own.start()
        elif self._running is not None:
            self._before = {_key(alarm) for alarm in self._running.alarms()}
        return self

    def __exit__(self, *_: object) -> None:
        if self._own is not None:
            self._own.stop()

    def alarms(self) -> tuple[AlarmRecord, ...]:
        """Return what was seen since the run began."""
        return self._news(self._running.alarms() if self._running else ())

    def stalled(self) -> tuple[AlarmRecord, ...]:
        """Return the same for a run that hangs, before it is cut off."""
        return self._news(self._running.stalled() if self._running else ())

    def _news(self, alarms: Iterable[AlarmRecord]) -> tuple[AlarmRecord, ...]:
        return tuple(alarm for alarm in alarms if _key(alarm) not in self._before)


def _key(alarm: AlarmRecord) -> tuple[str, str, str]:
    return (alarm.rule, alarm.site, alarm.claim)
