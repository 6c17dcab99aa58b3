"""What a scenario must not do under the explorer, noticed where it happens.

``time.sleep`` blocks the loop, a thread runs when it likes, and a step that never
ends would hang the search. In a job of an executor, where blocking is right,
``time.sleep`` takes no time: a job is one step. While an exploration runs, the first two are refused at
their line and a timer looks whether the loop still moves. Everything is put back
afterwards.
"""

import asyncio
import importlib
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

from test_framework.explore.endings import MisuseError
from test_framework.explore.loop import ExplorationLoop
from test_framework.explore.names import LOOPS
from test_framework.explore.waits import calling_frame, place, source

TICK_S = 0.5
_STILL_TICKS = 3


class Guards:
    """What was noticed during one exploration.

    Attributes:
        problem: The first misuse, as one sentence with line and cure; empty for none.
    """

    def __init__(self, loop: ExplorationLoop) -> None:
        self._loop = loop
        self._owner = threading.get_ident()
        self._last: tuple[int, int] = (0, 0)
        self._still = 0
        self.problem = ""

    def refuse(self, what: str, cure: str) -> NoReturn:
        """Keep the first misuse and stop the step that commits it.

        Raises:
            MisuseError: Always.
        """
        frame = calling_frame()
        if not self.problem:
            self.problem = f"{place(frame)} ({source(frame)}) {what}. {cure}"
        raise MisuseError(self.problem)

    def tick(self, frame: FrameType | None) -> None:
        """Look whether the loop has moved since the last tick.

        Raises:
            MisuseError: It has not for a while: the step is stopped.
        """
        # Also in a job, where no loop is running; and a search has several loops.
        loop: Any = LOOPS[-1] if LOOPS else None
        if loop is None or loop.is_waiting:
            # The search itself is at work, or a server is.
            self._still = 0
            return
        now = (id(loop.order), len(loop.order))
        self._still = self._still + 1 if now == self._last else 0
        self._last = now
        if self._still < _STILL_TICKS or not loop.tasks:
            return
        frame = calling_frame(frame)
        blocked_s = TICK_S * _STILL_TICKS
        if not self.problem:
            self.problem = (
                f"{place(frame)} ({source(frame)}) has not given up control for "
                f"{blocked_s:.1f} s. Await something in the loop, or move the work to "
                "asyncio.to_thread."
            )
        self._still = 0
        raise MisuseError(self.problem)


@contextmanager
def guarded(loop: ExplorationLoop) -> Iterator[Guards]:
    """Notice misuse of the loop meanwhile.

    The look at a step that does not end needs the main thread, where signals arrive.
    """
    guards = Guards(loop)
    sleep, start = time.sleep, threading.Thread.start  # noqa: TID251  # for other threads

    def refused_sleep(seconds: float, /) -> None:
        if threading.get_ident() != guards._owner:  # of this module
            sleep(seconds)
            return
        if asyncio._get_running_loop() is None:
            # A job is running, or nothing of the scenario.
            return
        guards.refuse(
            f"calls time.sleep({seconds!r}), which stops every user",
            "Await asyncio.sleep there; under the explorer its time is virtual.",
        )

    def refused_start(self: threading.Thread, *args: Any, **kwargs: Any) -> None:
        if threading.get_ident() != guards._owner:  # of this module
            start(self, *args, **kwargs)
            return
        guards.refuse(
            f"starts the thread {self.name!r}, whose order no scheduler decides",
            "Use asyncio.to_thread or run_in_executor, which the explorer runs as steps.",
        )

    patched: list[tuple[Any, str, Any]] = [
        (time, "sleep", refused_sleep),
        (threading.Thread, "start", refused_start),
    ]
    if loop.io == "sim":
        # By name: nothing here speaks to a network.
        socket: Any = importlib.import_module("socket").socket
        patched += [
            (socket, name, _refused_connect(guards, socket, name))
            for name in ("connect", "connect_ex")
        ]
    saved = [(owner, name, owner.__dict__.get(name)) for owner, name, _ in patched]
    for owner, name, refused in patched:
        setattr(owner, name, refused)
    is_main = threading.current_thread() is threading.main_thread()
    old_handler: Any = None
    if is_main:
        old_handler = signal.signal(
            signal.SIGALRM, lambda _signal, frame: guards.tick(frame)
        )
        signal.setitimer(signal.ITIMER_REAL, TICK_S, TICK_S)
    try:
        yield guards
    finally:
        if is_main:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old_handler)
        for owner, name, original in saved:
            if original is None:
                delattr(owner, name)
            else:
                setattr(owner, name, original)


def _refused_connect(guards: Guards, socket: Any, name: str) -> Any:
    original = getattr(socket, name)

    def refused(self: Any, address: Any) -> Any:
        if threading.get_ident() == guards._owner:
            guards.refuse(
                f"connects a socket to {address!r}, and no scheduler decides the answer",
                "Stand external() in for it, or explore with io='gate'.",
            )
        return original(self, address)

    return refused
