"""Virtual time: what the clock says, which timers are armed, and when they may fire.

Time jumps to the next deadline when nothing else can go. A short sleep may also elapse
while tasks are ready, since a slow await of one user is a long time for another; a
timeout may not, or every timeout of every program would fire. Deadlines keep their order
in all fidelities.
"""

import asyncio
import bisect
import collections
import contextvars
import heapq
import math
import operator
import sys
from types import FrameType
from typing import Any

from test_framework.explore.decisions import CLOCK, CONTINUE
from test_framework.explore.endings import StalledError
from test_framework.explore.handles import Entry
from test_framework.explore.loop.queues import Queues, answer

ELAPSE_S = 0.5
"""Longest sleep that may elapse while tasks are ready, seconds, in ``await``.

A short sleep stands for I/O, and a slow step of one user may outlast it; a long one is
meant as time, and its relation to timeouts is part of the program.
"""

LAG_S = 0.05
"""Seconds that a loop may lag behind its timers in one run, in ``fifo``.

A busy machine delays a loop that much; a program whose result depends on two timers
this close to each other races.
"""

START_S = 100_000.0
"""Time at which a run begins, seconds; zero often means "never" in programs."""

READING_S = 1e-9
"""Seconds by which the clock goes on at each reading, as real ones do.

So no two timers are due at the same instant unless the program says so, and whoever
asked first comes first.
"""

READINGS_S = 1e-4
"""How much of a bound in time the readings of the clock may use up."""

LAPSE_S = 86_400.0
"""How long an answer may take where no timer bounds it, seconds: a day, longer than leases.

Offered only where it can be seen: to a program that has read the clock.
"""

sleep_is_over = asyncio.futures._set_result_unless_cancelled  # type: ignore[attr-defined]  # how a sleep is told from a timeout


def is_read_by_program(frame: FrameType) -> bool:
    """Tell whether a reading of the clock is one by the program itself.

    asyncio and anyio read it to arm timers, which a schedule rules anyway.

    Args:
        frame: Of who reads.
    """
    module: str = frame.f_globals.get("__name__", "")
    return not module.startswith(_OWN_READERS)


_OWN_READERS = ("asyncio.", "anyio.", "test_framework.explore.")


def give_up(future: "asyncio.Future[None]") -> None:
    """End a wait whose timer fires only when nothing else can go, in every fidelity."""
    answer(future)


def _deadline(entry: Entry) -> float:
    return entry.deadline


class VirtualTime(Queues):
    """The part of ``ExplorationLoop`` that keeps the clock and the timers."""

    def _reset(self) -> None:
        super()._reset()
        self._timers: list[tuple[float, int, Entry]] = []
        self._timer_count = 0
        # Timers for which time need not pass.
        self._due: list[Entry] = []
        self._now = START_S
        self._readings = 0
        self._is_clock_read = False
        self._lag_left = LAG_S
        self._open_until = 0.0
        self._open_readings = 0

    def time(self) -> float:
        """Return the virtual time, seconds since the run began."""
        if not self._is_clock_read:
            self._is_clock_read = is_read_by_program(
                sys._getframe(1)
            )  # the documented way to a caller
        self._readings += 1
        return self._now + self._readings * READING_S

    def call_later(
        self,
        delay: float,
        callback: Any,
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Entry:
        """Queue a callback for ``delay`` seconds of virtual time from now."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Any,
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Entry:
        """Queue a callback for an instant of virtual time."""
        if context is None:
            context = contextvars.copy_context()
        entry = Entry(callback, args, context, self.current)
        entry.deadline = when
        if when == math.inf:
            return entry
        if when <= self._now + self._readings * READING_S:
            # No clock is needed: it is due in the next turn of any loop.
            if self._is_any:
                self._ready.append((context, entry.run, ()))
                self._options.append(self.current)
            else:
                bisect.insort(self._due, entry, key=_deadline)
            return entry
        # Ties by age: the heap of asyncio leaves them open, and so a program that
        # depends on them would depend on luck.
        self._timer_count += 1
        heapq.heappush(self._timers, (when, self._timer_count, entry))
        return entry

    def expire(self, task: asyncio.Task[Any]) -> bool:
        """Let time pass until a timeout armed by ``task`` fires; False if there is none.

        Everything due before it fires too, as on a loop that was blocked that long.
        """
        wanted = self._timeout_of(task)
        if wanted is None:
            return False
        # In fifo they come after what this turn has queued and after what arrives.
        queue = self._due if self._is_fifo else self._callbacks
        while wanted not in queue:
            self._fire(queue)
        return True

    def has_timeout(self, task: asyncio.Task[Any]) -> bool:
        """Tell whether a timeout is armed by ``task``."""
        return self._timeout_of(task) is not None

    def _timeout_of(self, task: asyncio.Task[Any]) -> Entry | None:
        if not self._timers:
            return None
        waiter = getattr(task, "_fut_waiter", None)
        for timer in sorted(self._timers, key=operator.itemgetter(0, 1)):
            entry = timer[2]
            owner = getattr(entry.callback, "__self__", None)
            is_timeout = (
                isinstance(owner, asyncio.Timeout)
                and getattr(owner, "_task", None) is task
            )
            # wait_for of 3.11 arms a plain timer that releases the waiter.
            is_wait = entry.callback is not sleep_is_over and waiter in entry.args
            if not entry.is_cancelled and (is_timeout or is_wait):
                return entry
        return None

    def _may_elapse_early(self, *, is_idle: bool = False) -> bool:
        """Tell whether the next timer may fire although tasks are ready."""
        self._drop_cancelled_timers()
        timers = self._timers
        if not timers:
            return False
        if timers[0][2].callback is give_up:
            return is_idle and not self._externals
        if self._is_fifo:
            lag = timers[0][0] - self._now
            return is_idle or lag <= self._lag_left + READINGS_S or self._is_open()
        if self._is_any or (
            timers[0][2].callback is sleep_is_over
            and timers[0][0] - self._now <= ELAPSE_S + READINGS_S
        ):
            return True
        # Only the world outside can go on, and no timeout outlasts it for sure.
        return max(self._options, default=CONTINUE) < CLOCK

    def _is_open(self) -> bool:
        """Tell whether it may be as late as the next deadline by now."""
        return (
            self._timers[0][0] <= self._open_until
            and self._readings == self._open_readings
        )

    def _may_lapse(self) -> bool:
        """Tell whether time may pass while answers are on their way.

        Only where the program has read the clock: of time that passes before that, or
        again before its next reading, nobody knows.
        """
        is_waiting = (
            not (self._callbacks or self._due)
            and bool(self._externals or self._options)
            and max(self._options, default=CLOCK - 1) < CLOCK
        )
        return is_waiting and self._lapse_end() > self._now

    def _lapse(self) -> bool:
        """Let time pass as while an answer is on its way; False where it may not."""
        if not self._may_lapse():
            return False
        self._now = self._lapse_end()
        self._is_clock_read = False
        return True

    def _lapse_end(self) -> float:
        """Return until when awaited answers may take: the next deadline, or a day."""
        self._drop_cancelled_timers()
        if self._timers:
            return self._timers[0][0] - READINGS_S
        return self._now + LAPSE_S

    def _wait_for_clock(self) -> None:
        """Nothing is ready: let time pass until a timer fires."""
        self._drop_cancelled_timers()
        if not self._timers:
            raise StalledError
        self._fire(self._callbacks)

    def _fire(self, queue: collections.deque[Entry] | list[Entry]) -> float:
        """Let time pass to the next deadline and queue what is due at that instant.

        Returns:
            How long that was, seconds.
        """
        timers, before = self._timers, self._now
        while timers:
            when, _, entry = heapq.heappop(timers)
            if entry.is_cancelled:
                continue
            self._now = max(self._now, when)
            queue.append(entry)
            if not (timers and timers[0][0] == when):
                break
        return self._now - before

    def _drop_cancelled_timers(self) -> None:
        timers = self._timers
        while timers and timers[0][2].is_cancelled:
            heapq.heappop(timers)
