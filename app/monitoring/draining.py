"""Draining: a service that is told to stop says so before it stops.

A server closes its listeners as soon as SIGTERM comes, while load balancers still send
requests for as long as they believe the last readiness probe. So SIGTERM takes the
readiness down first, and the server is told some seconds later. A second SIGTERM is
passed on at once: whoever sends it does not want to wait.
"""

import asyncio
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_Handler = Callable[[int, FrameType | None], Any] | int | None


class Draining:
    """Stands before the server's handler of SIGTERM."""

    def __init__(self, begin: Callable[[], None], *, delay_s: float) -> None:
        """Stand before nothing yet.

        Args:
            begin: Takes the readiness down; called once, in the loop.
            delay_s: Seconds until the server is told; 0 leaves the signal alone.
        """
        self._begin = begin
        self._delay_s = delay_s
        self._previous: _Handler = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._has_begun = False

    def start(self) -> None:
        """Stand before the present handler, if there is one and it can be done.

        Only the main thread may set handlers, and a signal that nobody handles ends the
        process as it should.
        """
        if not self._delay_s or threading.current_thread() is not (
            threading.main_thread()
        ):
            return
        self._previous = signal.getsignal(signal.SIGTERM)
        if callable(self._previous):
            self._loop = asyncio.get_running_loop()
            signal.signal(signal.SIGTERM, self._receive)

    def close(self) -> None:
        """Give the signal back."""
        if self._timer is not None:
            self._timer.cancel()
        # The server may have taken it back already.
        if self._loop is not None and signal.getsignal(signal.SIGTERM) == self._receive:
            signal.signal(signal.SIGTERM, self._previous)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._loop is None or self._has_begun:
            self._pass_on(number, frame)
            return
        self._has_begun = True
        # Wakes the loop, which a handler alone does not.
        self._loop.call_soon_threadsafe(self._drain, self._loop, number)

    def _drain(self, loop: asyncio.AbstractEventLoop, number: int) -> None:
        self._begin()
        self._timer = loop.call_later(self._delay_s, self._pass_on, number, None)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        if callable(self._previous):
            self._previous(number, frame)
