"""The fidelity ``fifo``: turns of the ready queue, as ``BaseEventLoop`` makes them.

The scheduler decides when events from outside arrive (answers between turns, results of
executor jobs in the middle of one as well) and when a timer fires early because the loop
lagged.
"""

import asyncio
from typing import Any

from test_framework.explore.decisions import CLOCK, CONTINUE, Choose, Hook
from test_framework.explore.endings import RunOverError, StalledError
from test_framework.explore.handles import Entry
from test_framework.explore.loop.clock import VirtualTime
from test_framework.explore.loop.limits import Limits


class TurnDriver(VirtualTime, Limits):
    """The part of ``ExplorationLoop`` that runs turns."""

    def _reset(self) -> None:
        super()._reset()
        self._steps = 0
        self._movers: set[int] = set()

    def _drive_turns(
        self,
        main: asyncio.Task[Any],
        choose: Choose,
        before: Hook | None,
        after: Hook | None,
    ) -> bool:
        """Run turns until main is done; False when the run got long: call again."""
        queue, movers, limit = self._callbacks, self._movers, self._limit
        steps = self._steps
        half = limit // 2
        try:
            while steps < limit:
                self._let_arrive(choose)
                for _ in range(len(queue)):
                    entry = queue.popleft()
                    if entry.is_cancelled:
                        continue
                    steps += 1
                    number = self.current = entry.owner
                    if steps > half:
                        movers.add(number)
                    task: Any = getattr(entry.callback, "__self__", None)
                    is_step = isinstance(task, asyncio.Task) and task in self._numbers
                    if is_step and before is not None:
                        before(number)
                    try:
                        entry.context.run(entry.callback, *entry.args)
                    except (SystemExit, KeyboardInterrupt, RunOverError):
                        raise
                    except Exception as exc:  # noqa: BLE001  # of a callback: stock asyncio tells the handler
                        # The turn goes on: nothing arrives in the middle of it.
                        self._tell(exc, entry)
                    if not is_step:
                        continue
                    if after is not None:
                        after(number)
                    if task.done():
                        if task is main:
                            return True
                        self._release(number, task)
        finally:
            self._steps = steps
        waiting = (*queue, *self._due, *self._externals)
        self._look_for_stuck(set(movers), [entry.owner for entry in waiting])
        movers.clear()
        return False

    def _let_arrive(self, choose: Choose) -> None:
        """Between two turns: let events arrive, in an order of the scheduler.

        As in ``BaseEventLoop._run_once``: first what the selector has, then the timers
        that are due. So after a timer nothing arrives before the next turn.
        """
        queue, externals, due = self._callbacks, self._externals, self._due
        if self._landings.after:
            self._let_land(choose)
        timers_came = False
        while True:
            is_busy = bool(queue or due)
            options = [CONTINUE] if is_busy else []
            if not timers_came:
                options += [entry.event for entry in externals]
            if (self._timers and self._may_elapse_early(is_idle=not is_busy)) or (
                self._is_clock_read and self._may_lapse()
            ):
                options.append(CLOCK)
            if not options:
                raise StalledError
            position = 0
            if len(options) > 1:
                self.choices += 1
                position = choose(options)
            number = options[position]
            if len(options) > 1 or number != CONTINUE:
                self.order.append(number)
            if number < CLOCK:
                if not is_busy and self._timers:
                    # It ended a wait, which may have lasted until just before the next
                    # deadline. As long as nobody looks at the clock, that is open.
                    self._open_until = self._timers[0][0]
                    self._open_readings = self._readings
                queue.append(externals.pop(position - (options[0] == CONTINUE)))
                self._landings.after.pop(number, None)
                continue
            queue.extend(due)
            due.clear()
            if number == CONTINUE:
                return
            if self._is_clock_read and self._lapse():
                continue
            timers_came = True
            is_lag = is_busy and not self._is_open()
            lag = self._fire(queue)
            if is_lag:
                self._lag_left -= lag

    def _let_land(self, choose: Choose) -> None:
        """Let jobs have ended in the middle of the turn that is over."""

        def decide(jobs: list[int]) -> int | None:
            options = [CONTINUE, *jobs]
            self.choices += 1
            number = options[choose(options)]
            self.order.append(number)
            return None if number == CONTINUE else number

        def take(event: int) -> Entry:
            job = next(entry for entry in self._externals if entry.event == event)
            self._externals.remove(job)
            return job

        self._landings.let_land(self._callbacks, decide, take)
