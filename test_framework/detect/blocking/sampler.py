"""Steps that hold an event loop without a call that is known to block: computing.

A thread looks at what the loops of its process are doing, every so often. A step that
is still the same one at the next look has held its loop in between. Whether it is the
same is certain and not guessed by the line: the loop of asyncio runs each step from a
frame of its own, and a plain function, unlike a coroutine, stays on the stack until it
is done (which serves for loops written in C, such as uvloop's).

Not seen: a step that holds the interpreter's lock all the time (a large document, a
regular expression), since nobody can look meanwhile; and, on loops written in C, what
a coroutine computes by itself.

Source: statistical profilers; asyncio's own ``slow_callback_duration`` sees the length
of a step when it is over, but not what it did.
"""

import asyncio.base_events
import asyncio.events
import asyncio.runners
import inspect
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

from test_framework.core import AlarmRecord
from test_framework.detect.blocking.frames import (
    blame,
    file,
    is_harmless,
    line,
    outwards,
    short_path,
)

RULE = "held-loop"

_LOOKS = 4
"""Looks in the time of the shortest hold that is told."""
_FEWEST_LOOKS = 3
"""A process that did not run at all for a while has not looked either."""
_MOST_FRAMES = 12
_SUSPENDABLE = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


@dataclass(frozen=True, slots=True)
class _Step:
    """A step of a loop that has been looked at."""

    frame: FrameType
    since_s: float
    looks: int = 1


@dataclass(slots=True)
class _Held:
    """A function of the service that held a loop."""

    longest_s: float = 0.0
    count: int = 0
    stack: tuple[str, ...] = ()
    latest_s: float = -1.0


class LoopSampler:
    """Looks at the loops of a process from a thread.

    Args:
        held_s: A step that held its loop for at least as long is told, in seconds.
        allowed: File and function names that may hold it.
    """

    def __init__(self, held_s: float, allowed: Sequence[tuple[str, Any]] = ()) -> None:
        self._held_s = held_s
        self._interval_s = held_s / _LOOKS
        self._allowed = allowed
        self._steps: dict[int, _Step] = {}
        self._causes: dict[str, _Held] = {}
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look."""
        self._ended.clear()
        self._thread = threading.Thread(
            target=self._watch, name="isolation-sampler", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        self._steps.clear()

    def _watch(self) -> None:
        while not self._ended.wait(self._interval_s):
            self._look()

    def _look(self) -> None:
        now_s = time.monotonic()
        before, self._steps = self._steps, {}
        for thread, frame in sys._current_frames().items():  # noqa: SLF001  # the documented way
            lasting = _lasting_frame(frame)
            if lasting is None:
                continue
            step = before.get(thread)
            if step is None or step.frame is not lasting:
                self._steps[thread] = _Step(lasting, now_s)
                continue
            step = self._steps[thread] = replace(step, looks=step.looks + 1)
            if step.looks >= _FEWEST_LOOKS and now_s - step.since_s >= self._held_s:
                self._note(frame, step, now_s - step.since_s)

    def _note(self, frame: FrameType, step: _Step, held_s: float) -> None:
        # A call that is known to block is timed by our own frame, and told by ``calls``.
        if is_harmless(frame, self._allowed):
            return
        site, way = blame(frame)
        # The line changes from look to look; the function is the cause.
        key = f"{short_path(site)}:{site.f_code.co_firstlineno}"
        cause = self._causes.setdefault(key, _Held())
        if cause.latest_s != step.since_s:
            cause.latest_s = step.since_s
            cause.count += 1
        if held_s >= cause.longest_s:
            cause.longest_s = held_s
            cause.stack = tuple(line(one) for one in reversed(way[:_MOST_FRAMES]))

    def alarms(self) -> list[AlarmRecord]:
        """Return one alarm per function, the longest hold first."""
        causes = sorted(self._causes.items(), key=lambda item: -item[1].longest_s)
        return [
            AlarmRecord(
                rule=RULE,
                level="warning",
                claim=f"one step held the event loop for {cause.longest_s * 1000:.0f} "
                "ms or more: all other users of this process waited",
                site=site,
                evidence=(f"Times  {cause.count}.", *cause.stack),
                count=cause.count,
            )
            for site, cause in causes
        ]


_HANDLE = asyncio.events.__file__
_LOOP = asyncio.base_events.__file__
_RUNNER = asyncio.runners.__file__


def _lasting_frame(frame: FrameType) -> FrameType | None:
    """Return a frame that lives as long as the step that a loop runs now.

    None when the thread runs no loop, or one that runs nothing.
    """
    lasting = None
    for one in outwards(frame):
        path = file(one)
        if path == _HANDLE and one.f_code.co_name == "_run":
            return one
        if path == _LOOP and one.f_code.co_name == "_run_once":
            return None
        if path == _RUNNER:
            return lasting
        if not one.f_code.co_flags & _SUSPENDABLE:
            lasting = one
    return None
