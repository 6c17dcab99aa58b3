"""Executor jobs as steps: each runs to its end when the scheduler says so.

The result of a job comes from a thread, which asks nobody: it queues its callback by
``call_soon_threadsafe`` while the loop is in the middle of a turn as well as between two.
:class:`Landings` says where in the queue that may be.
"""

import asyncio
import collections
import contextvars
from asyncio import events
from collections.abc import Callable, MutableSequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from test_framework.explore.endings import MisuseError
from test_framework.explore.waits import calling_frame, place, source


class Job:
    """An executor job, run as one step.

    Args:
        loop: Who awaits it.
        func: The job.
        args: Its arguments.

    Attributes:
        future: Its result; None once it was run. The traceback of its exception leads
            here, and must not keep it: then nobody would be told that it was lost.
    """

    __slots__ = ("_args", "_func", "_loop", "future")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, func: Callable[..., Any], args: Any
    ) -> None:
        self._loop = loop
        self._func = func
        self._args = args
        self.future: asyncio.Future[Any] | None = loop.create_future()

    def run(self, context: contextvars.Context) -> None:
        """Run it to its end as if in a thread: no loop is running there.

        Args:
            context: Of the thread.
        """
        future, self.future = self.future, None
        if future is None:
            return
        events._set_running_loop(None)
        try:
            result = context.run(self._func, *self._args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:  # noqa: BLE001  # it goes to whoever awaits the job
            if not future.cancelled():
                future.set_exception(exc)
        else:
            if not future.cancelled():
                future.set_result(result)
        finally:
            del future
            events._set_running_loop(self._loop)


def _why_not(executor: Any) -> str:
    """Say why jobs of an executor cannot be run as steps; empty where they can."""
    if executor is None:
        return ""
    kind = type(executor)
    if kind.__name__ == "ProcessPoolExecutor":
        return (
            "gives a job to other processes, of which no scheduler decides. Stand "
            "external() in for it."
        )
    if getattr(kind, "submit", None) is not ThreadPoolExecutor.submit:
        return (
            f"gives a job to a {kind.__name__}, whose own submit() would not be called. "
            "Pass a ThreadPoolExecutor, or stand external() in for the job."
        )
    if getattr(executor, "_initializer", None) is not None:
        return (
            "gives a job to threads with an initializer, which would not be called, for "
            "there are no threads. Let the job make what it needs."
        )
    return ""


class Workers:
    """Which jobs of executors have begun: no more than there are workers, in order.

    Attributes:
        are_used: Whether any has begun.
    """

    def __init__(self) -> None:
        self.are_used = False
        self._busy: dict[int, int] = {}
        self._waiting: dict[int, collections.deque[tuple[Job, Callable[[], None]]]] = {}

    def begin(self, executor: Any, job: Job, start: Callable[[], None]) -> None:
        """Start a job now or when a worker is free; asyncio's own pool always has one.

        Raises:
            MisuseError: The executor is another process, or does more than to run jobs.
            RuntimeError: It was shut down.
        """
        why_not = _why_not(executor)
        if why_not:
            frame = calling_frame()
            raise MisuseError(f"{place(frame)} ({source(frame)}) {why_not}")
        if getattr(executor, "_shutdown", False):
            raise RuntimeError("cannot schedule new futures after shutdown")
        self.are_used = True
        number = getattr(executor, "_max_workers", None)
        key = id(executor)
        if number is None or self._busy.get(key, 0) < number:
            self._busy[key] = self._busy.get(key, 0) + 1
            start()
        else:
            self._waiting.setdefault(key, collections.deque()).append((job, start))

    def end(self, executor: Any) -> None:
        """Let the worker of a job that is done begin the next one."""
        key = id(executor)
        waiting = self._waiting.get(key)
        while waiting:
            job, start = waiting.popleft()
            # What was cancelled in the queue never runs.
            if job.future is not None and not job.future.cancelled():
                start()
                return
        self._busy[key] -= 1


class Landings:
    """Which jobs may end in the middle of a turn, and before which of its callbacks.

    Whatever a turn has queued, it queued one after the other, and a thread may have
    called in before each of them. It cannot have called in before what was in the queue
    when its job began.

    Attributes:
        after: The last callback that was queued when a job began, by the event of the
            job; None when that callback has had its turn.
        place: Index of the callback before which jobs may land now; -1 at other times.
    """

    def __init__(self) -> None:
        self.after: dict[int, object] = {}
        self.place = -1

    def forget(self) -> None:
        """Begin a run without jobs."""
        self.after.clear()
        self.place = -1

    def begin(self, event: int, queue: MutableSequence[Any]) -> None:
        """Note a job that has begun, and what was queued before it."""
        self.after[event] = queue[-1] if queue else None

    def let_land(
        self,
        queue: MutableSequence[Any],
        decide: Callable[[list[int]], int | None],
        take: Callable[[int], object],
    ) -> None:
        """At the end of a turn: let jobs have ended in the middle of it.

        Args:
            queue: What the turn has queued.
            decide: Gets the events of jobs, returns which one lands; None for no one.
            take: Returns the callback of a job that ends.
        """
        after = self.after
        for event, last in after.items():
            if last not in queue:
                after[event] = None
        self.place = 0
        while self.place < len(queue):
            landing = [event for event, last in after.items() if last is None]
            lands = decide(landing) if landing else None
            if lands is not None:
                del after[lands]
                queue.insert(self.place, take(lands))
            else:
                passed = queue[self.place]
                for job, last in after.items():
                    if last is passed:
                        after[job] = None
            self.place += 1
        self.place = -1
