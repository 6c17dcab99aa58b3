"""Confirm a witness on the stock loop: CPython's own queue, turns and timers.

``StockLoop`` is ``asyncio.BaseEventLoop`` with nothing taken over but what stock
asyncio leaves to the world outside: when an answer arrives, when the thread of a job
calls in, and how fast the clock runs. A schedule of fidelity ``fifo`` says both, so a witness that the explorer found on
its own loop must fail here too, or the explorer's picture of asyncio is wrong.
That delays alone reach such failures is measured in Endo and Moller, ECOOP 2025.
"""

import contextvars
from asyncio import events
from typing import Any

from test_framework.explore.decisions import CLOCK, CONTINUE
from test_framework.explore.endings import StalledError
from test_framework.explore.loop.cleanup import cancel_quietly
from test_framework.explore.loop.clock import LAG_S, LAPSE_S, READINGS_S
from test_framework.explore.stepped import SteppedLoop

_MAX_CLEANUP_TURNS = 1000


class _NoSelector:
    """Stands where the selector would: nothing ever arrives by itself."""

    def select(self, timeout: float | None) -> list[Any]:  # noqa: ARG002  # the protocol
        return []


class StockLoop(SteppedLoop):
    """The loop of CPython with answers and clock under the rule of a scheduler.

    Made for one run.
    """

    def __init__(self) -> None:
        super().__init__()
        self._selector = _NoSelector()
        self._lag_left = LAG_S
        self._open_until = 0.0
        self._open_readings = 0

    def _write_to_self(self) -> None:
        """Nobody sleeps in a selector."""

    # -- running -------------------------------------------------------------------

    def _run_once(self) -> None:
        """Let events arrive, then make one turn of the stock loop."""
        self._let_arrive()
        self._turn()

    def _let_arrive(self) -> None:
        landings = self._landings
        if landings.after:
            landings.let_land(self._ready, self._which_lands, self._take)
        timers_came = False
        while True:
            self._drop_cancelled_timers()
            is_due = bool(self._scheduled) and self._scheduled[0]._when <= self._now
            is_busy = bool(self._ready) or is_due
            options = [CONTINUE] if is_busy or timers_came else []
            if not timers_came:
                options += [number for number, _ in self._externals]
            later = self._next_deadline(is_idle=not is_busy)
            may_lapse = not is_busy and self._may_lapse()
            if may_lapse or (
                later is not None
                and (
                    not is_busy
                    or later - self._now <= self._lag_left + READINGS_S
                    or self._is_open(later)
                )
            ):
                options.append(CLOCK)
            if not options:
                raise StalledError
            position = 0
            if len(options) > 1:
                self.choices += 1
                position = self._choose(options)
            number = options[position]
            if len(options) > 1 or number != CONTINUE:
                self.order.append(number)
            if number == CONTINUE:
                return
            if number == CLOCK and may_lapse:
                self._now, self._is_clock_read = self._lapse_end(), False
                continue
            if number == CLOCK:
                timers_came = True
                if later is not None:
                    if is_busy and not self._is_open(later):
                        self._lag_left -= later - self._now
                    self._now = later
                continue
            if not is_busy and later is not None:
                self._open_until = later
                self._open_readings = self._readings
            landings.after.pop(number, None)
            _, answer = self._externals.pop(position - (options[0] == CONTINUE))
            # As the selector does: what arrived is a callback of the coming turn.
            self.call_soon(answer, context=contextvars.Context())

    def _which_lands(self, jobs: list[int]) -> int | None:
        options = [CONTINUE, *jobs]
        self.choices += 1
        number = options[self._choose(options)]
        self.order.append(number)
        return None if number == CONTINUE else number

    def _take(self, event: int) -> events.Handle:
        """Return the callback that the thread of a job would have queued."""
        answer = next(answer for number, answer in self._externals if number == event)
        self.withdraw(event)
        return events.Handle(answer, (), self, contextvars.Context())

    def _lapse_end(self) -> float:
        if self._scheduled:
            return float(self._scheduled[0]._when) - READINGS_S
        return self._now + LAPSE_S

    def _may_lapse(self) -> bool:
        """Tell whether an answer may take long by now; see ``ExplorationLoop``."""
        is_seen = self._is_clock_read and bool(self._externals)
        return is_seen and self._lapse_end() > self._now

    def _is_open(self, deadline: float) -> bool:
        """Tell whether it may be that late by now; see ``ExplorationLoop``."""
        return deadline <= self._open_until and self._readings == self._open_readings

    def _clean_up(self) -> None:
        self._over = None
        events._set_running_loop(self)
        self._drain()
        for number, task in enumerate(self.tasks):
            if not task.done():
                self.left.append(number)
                cancel_quietly(task)
        self._drain(with_externals=True)
        for task in self.tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # no public switch

    def _drain(self, *, with_externals: bool = False) -> None:
        """Make turns while callbacks are ready, and while answers can arrive."""
        for _ in range(_MAX_CLEANUP_TURNS):
            if not self._ready:
                if not (with_externals and self._externals):
                    return
                # Who is cancelled may tell the outside, and waits for its answer.
                _, answer = self._externals.pop(0)
                self.call_soon(answer, context=contextvars.Context())
            super()._run_once()
