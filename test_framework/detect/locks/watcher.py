"""The detector: starts the patches, answers for what was seen."""

import asyncio
import contextlib
import sys
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import thread as thread_pool
from types import FrameType
from typing import Any, ClassVar

from test_framework.core import AlarmRecord, InternalError, WatchRecord
from test_framework.detect.locks.claims import MODULE as CLAIM_MODULE
from test_framework.detect.locks.claims import Claims
from test_framework.detect.locks.imports import ImportWatch
from test_framework.detect.locks.leases import MODULE as LEASE_MODULE
from test_framework.detect.locks.leases import Leases
from test_framework.detect.locks.limits import Limits
from test_framework.detect.locks.patching import Patches
from test_framework.detect.locks.pools import Pools
from test_framework.detect.locks.primitives import patch_primitives
from test_framework.detect.locks.sessions import MODULE as SESSION_MODULE
from test_framework.detect.locks.sessions import DatabaseDeadlocks, sessions_of
from test_framework.detect.locks.stalls import Outside, is_idle
from test_framework.detect.locks.watch import Watch

Task = asyncio.Task[Any]

_UNWATCHED = (
    "anyio's Lock, Semaphore and CapacityLimiter keep books of their own.",
    "Locks of other processes: a circle over several workers is not seen.",
)
OWN_THREADS = "isolation-"
"""Begins the names of threads that watch."""

_IDLE_THREAD = "_worker"
"""The function of concurrent.futures.thread in which its idle threads wait."""

_BLIND = (
    "The loop of {} does not say whether it is idle: tasks that wait for what nobody "
    "does, such as the set of an Event, are listed and not called stuck."
)


class DeadlockWatcher:
    """Sees deadlocks of asyncio's locks, of pools and of tasks, and predicts them.

    A ``Detector``. In tests: ``start`` before the test, ``alarms`` after it, and
    ``stalled`` when it runs out of time and before anything is cancelled.

    Args:
        slow_hold_s: A lock that was held as long is a note; seconds.
        slow_wait_s: A wait as long for a lock whose holder awaited something else is
            a warning; seconds.
        sorted_classes: Lines that make locks of which several may be held at once,
            since the program takes them in one order: ``app/rooms.py:41``.

    Raises:
        UsageError: A duration is negative, or a class is not ``path:line``.
    """

    name = "locks"
    _started: ClassVar[list["DeadlockWatcher"]] = []

    def __init__(
        self,
        *,
        slow_hold_s: float = 1.0,
        slow_wait_s: float = 1.0,
        sorted_classes: Sequence[str] = (),
    ) -> None:
        self._limits = Limits(slow_hold_s, slow_wait_s, tuple(sorted_classes))
        self._watch = Watch(self._limits)
        self._blind: set[str] = set()
        self._patches: Patches | None = None
        self._imports = ImportWatch({})
        self._pools = Pools(self._watch, Patches())
        self._leases = Leases(self._watch, Patches())
        self._claims = Claims(self._watch, Patches())

    @classmethod
    def running(cls) -> "DeadlockWatcher | None":
        """Return the one that is on in this process; None if none is.

        There can be one at a time: each keeps its books at the locks themselves.
        """
        return cls._started[-1] if cls._started else None

    def start(self) -> None:
        """Patch asyncio; locks made from now on are known by their line.

        Raises:
            InternalError: It was started before.
        """
        if self._patches is not None:
            raise InternalError(
                "the deadlock watcher was started twice; stop it before"
            )
        self._watch = Watch(self._limits)
        self._patches = Patches()
        self._watch.ledger.is_open = True
        patch_primitives(self._watch, self._patches)
        self._pools = Pools(self._watch, self._patches)
        self._leases = Leases(self._watch, self._patches)
        self._claims = Claims(self._watch, self._patches)
        self._imports = ImportWatch(
            {
                **self._pools.modules,
                LEASE_MODULE: self._leases.patch,
                CLAIM_MODULE: self._claims.patch,
                SESSION_MODULE: DatabaseDeadlocks(
                    self._watch.alarms, self._watch.ledger, self._patches
                ).patch,
            }
        )
        self._imports.install()
        self._started.append(self)

    def alarms(self) -> list[AlarmRecord]:
        """Return what it saw so far, one alarm per cause; looks at all tasks once."""
        self._look(at_timeout=False)
        return self._watch.alarms.records()

    def _look(self, *, at_timeout: bool) -> None:
        tasks = self._tasks()
        self._claims.look(tasks)
        self._watch.look(tasks, self._outside(tasks), at_timeout=at_timeout)

    def _outside(self, tasks: Iterable[Task]) -> Outside:
        """Return which tasks wait in a server for which others; here for none."""
        del tasks
        return {}

    def _sessions(self, tasks: Iterable[Task]) -> dict[int, Task]:
        """Return the task of each session of Postgres, by its process id."""
        return sessions_of(self._watch.ledger, tasks)

    def stalled(self) -> list[AlarmRecord]:
        """Return the alarms of a test that runs out of time.

        Also tells where every task waits when no circle explains it. Call it before
        anything is cancelled, from a callback of the loop or from another thread.
        """
        self._look(at_timeout=True)
        found = self._watch.alarms.records()
        if all((it.rule, it.level) != ("deadlock", "error") for it in found):
            self._watch.tell_stall(self._tasks())
            found = self._watch.alarms.records()
        return found

    def is_stuck(self) -> bool:
        """Tell whether tasks wait for each other now; to be asked on their loop."""
        return self._watch.is_stuck(self._tasks())

    def is_hopeless(self) -> bool:
        """Tell whether nobody is left to go on; to be asked on the loop in question.

        Tasks wait for each other, or the loop has nothing to run, no timer and no
        socket, and no thread is left that could wake it.
        """
        if self.is_stuck():
            return True
        return bool(is_idle(asyncio.get_running_loop())) and not _busy_threads()

    def coverage(self) -> WatchRecord:
        """Return what it looked at, and what it could not look at."""
        return WatchRecord(
            self.name,
            (
                "asyncio Lock, Semaphore, Condition, Barrier, Queue",
                *self._pools.watched,
                *self._leases.watched,
                *self._claims.watched,
            ),
            (*_UNWATCHED, *self._blind),
            {
                "locks": self._watch.counts.locks,
                "pools": self._watch.counts.pools,
                "leases": self._watch.counts.leases,
                "waits": self._watch.counts.waits,
            },
        )

    def stop(self) -> None:
        """Take every patch back; alarms can still be asked for."""
        self._imports.remove()
        if self._patches is not None:
            self._patches.remove()
            self._patches = None
            self._started.remove(self)
        self._watch.ledger.is_open = False

    def _tasks(self) -> list[Task]:
        ledger = self._watch.ledger
        known = [*ledger.held_by, *ledger.waits]
        loops = {task.get_loop() for task in known if not task.done()}
        # Asked after the loop has ended, or from a thread, there is none.
        with contextlib.suppress(RuntimeError):
            loops.add(asyncio.get_running_loop())
        for loop in loops:
            if is_idle(loop) is None:
                self._blind.add(_BLIND.format(type(loop).__module__))
        return [task for loop in loops for task in asyncio.all_tasks(loop)]


def _busy_threads() -> list[threading.Thread]:
    """Return the threads that may still wake a loop.

    Those of an executor that have no work are none; what any other one does, nobody
    knows.
    """
    frames = sys._current_frames()
    ours = {threading.get_ident(), threading.main_thread().ident}
    return [
        thread
        for thread in threading.enumerate()
        if thread.ident not in ours
        and not thread.name.startswith(OWN_THREADS)
        and not _is_idle_worker(frames.get(thread.ident or 0))
    ]


def _is_idle_worker(frame: FrameType | None) -> bool:
    if frame is None:
        return True
    code = frame.f_code
    return code.co_name == _IDLE_THREAD and code.co_filename == thread_pool.__file__
