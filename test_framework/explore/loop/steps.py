"""The fidelities ``await`` and ``any``: the scheduler picks the step that goes next."""

import asyncio
from typing import Any

from test_framework.explore.decisions import CLOCK, Choose, Hook
from test_framework.explore.endings import RunOverError
from test_framework.explore.loop.clock import VirtualTime
from test_framework.explore.loop.limits import Limits

# Rounds of callbacks that only queue callbacks, after which time passes.
_MAX_ROUNDS = 100


class StepDriver(VirtualTime, Limits):
    """The part of ``ExplorationLoop`` that runs steps one by one."""

    def _drive_steps(
        self,
        main: asyncio.Task[Any],
        choose: Choose,
        before: Hook | None,
        after: Hook | None,
    ) -> bool:
        """Run steps until main is done; False when a callback raised: call again."""
        callbacks, ready, options, order = (
            self._callbacks,
            self._ready,
            self._options,
            self.order,
        )
        due, tasks = self._due, self.tasks
        timers, is_any, limit = self._timers, self._is_any, self._limit
        rounds = contested = 0
        entry = None
        # A run is tens of microseconds: what it needs at each step is asked once.
        try:
            while len(order) < limit:
                # Those queued now: anyio cancels a scope by a callback that queues itself
                # until the tasks are gone, so tasks must get their turn in between.
                if due:
                    callbacks.extend(due)
                    due.clear()
                if callbacks:
                    for _ in range(len(callbacks)):
                        entry = callbacks.popleft()
                        if not entry.is_cancelled:
                            self.current = entry.owner
                            entry.context.run(entry.callback, *entry.args)
                    if (callbacks or due) and not options:
                        rounds += 1
                        if rounds == _MAX_ROUNDS:
                            rounds = 0
                            if not timers:
                                break
                            self._wait_for_clock()
                        continue
                count = len(options)
                if (timers and self._may_elapse_early()) or (
                    self._is_clock_read and self._may_lapse()
                ):
                    options.append(CLOCK)
                    contested += count > 0
                    try:
                        position = choose(options) if count else 0
                    finally:
                        # Also when the scheduler cuts the run.
                        options.pop()
                    if position == count:
                        order.append(CLOCK)
                        if not (self._is_clock_read and self._lapse()):
                            self._fire(callbacks)
                        continue
                elif count > 1:
                    contested += 1
                    position = choose(options)
                elif count:
                    position = 0
                else:
                    self._wait_for_clock()
                    continue
                if is_any:
                    # Callbacks of one task stay in order among themselves.
                    position = options.index(options[position])
                number = options.pop(position)
                context, callback, args = ready.pop(position)
                order.append(number)
                if number < 0:
                    self.current = self.owner(number)
                    context.run(callback, *args)
                    continue
                self.current = number
                if before is not None:
                    before(number)
                context.run(callback, *args)
                if after is not None:
                    after(number)
                task = tasks[number]
                if task.done():
                    if task is main:
                        return True
                    self._release(number, task)
                    # Callbacks run before these are bound anew.
                    del context, callback, args, task
        except (SystemExit, KeyboardInterrupt, RunOverError):
            raise
        except Exception as exc:  # noqa: BLE001  # of a callback: stock asyncio tells the handler
            self._tell(exc, entry)
            return False
        finally:
            self.choices += contested
        late = order[limit // 2 :]
        movers = {self.owner(number) for number in late if number != CLOCK}
        self._look_for_stuck(movers, [self.owner(number) for number in options])
        return False
