"""How a conformance test runs: how many workers of which kind, how long, how seeded."""

import os
import sys
from dataclasses import dataclass, field
from typing import Literal, get_args

from test_framework.core import UsageError, fresh_seed

WorkerKind = Literal["task", "thread", "process"]
"""A task of the running loop, a thread with a loop of its own, or a process."""


def _cpu_count() -> int:
    return os.cpu_count() or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RaceTestConfig:
    """One configuration of a run.

    Attributes:
        workers: How many run at once (>= 1); 4 for each CPU by default.
        iterations: How many turns each of them takes (>= 1).
        timeout_s: After as long a run is cut off, and what it proved is ``unknown``.
        quiet_s: After as long without any operation that ended, a run hangs and is
            cut off as well.
        detect_deadlocks: Whether asyncio's locks are watched for circles of waiting.
        check_ordering: Whether the order of operations in time is judged as well as
            their results.
        cpus: The CPUs that workers are bound to, in turns; none binds nothing. Tasks
            share one thread, which is bound to all of them. Linux only.
        seed: Decides every choice of every worker.
        kind: What a worker is.
        pauses: The chance that a worker lets others go on between two operations.
        cancellations: The chance that an operation is cancelled underway, in those
            tests that cancel.
        preemptions: The chance that an operation is interrupted between two of its
            instructions; of threads and processes, and of functions that do not await.

    Raises:
        UsageError: A value is out of its range, or a CPU is not ours to use.
    """

    workers: int = field(default_factory=lambda: 4 * _cpu_count())
    iterations: int = 1000
    timeout_s: float = 30.0
    quiet_s: float = 5.0
    detect_deadlocks: bool = True
    check_ordering: bool = True
    cpus: tuple[int, ...] = ()
    seed: int = field(default_factory=fresh_seed)
    kind: WorkerKind = "task"
    pauses: float = 0.5
    cancellations: float = 0.2
    preemptions: float = 0.25

    def __post_init__(self) -> None:
        for name in ("workers", "iterations"):
            self._demand_count(name)
        for name in ("timeout_s", "quiet_s"):
            self._demand_duration(name)
        for name in ("pauses", "cancellations", "preemptions"):
            chance = getattr(self, name)
            if not 0 <= chance <= 1:
                raise UsageError(
                    f"{name}={chance!r}: expected a chance from 0 to 1, such as 0.5."
                )
        if self.kind not in get_args(WorkerKind):
            raise UsageError(
                f"kind={self.kind!r}: expected one of {', '.join(get_args(WorkerKind))}."
            )
        self._demand_cpus()

    def _demand_count(self, name: str) -> None:
        count = getattr(self, name)
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise UsageError(
                f"{name}={count!r}: expected a whole number, 1 or more. Leave it out "
                "for the default."
            )

    def _demand_duration(self, name: str) -> None:
        duration = getattr(self, name)
        if not 0 < duration < float("inf"):
            raise UsageError(
                f"{name}={duration!r}: expected seconds, more than 0 and not without "
                "end. Leave it out for the default."
            )

    def _demand_cpus(self) -> None:
        if not self.cpus:
            return
        if sys.platform != "linux":
            raise UsageError(
                f"cpus={self.cpus!r}: workers can be bound to CPUs on Linux only, and "
                f"this is {sys.platform}. Leave it out."
            )
        ours = os.sched_getaffinity(0)
        strange = [cpu for cpu in self.cpus if cpu not in ours]
        if strange:
            raise UsageError(
                f"cpus={self.cpus!r}: this process may not run on CPU "
                f"{', '.join(map(str, strange))}; it has {sorted(ours)}."
            )
