"""A loop over real sockets and real time, with seeded noise; nothing of it is repeated.

Each request leaves a little late, by a time drawn from a seed. That is what networks do,
so whatever is found can happen; but servers and clocks go on by themselves, and the same
seed makes other runs. For what the gate cannot hold, and for a second opinion.
"""

import contextvars
import random
import selectors
import time
from asyncio import selector_events
from collections import deque
from collections.abc import Callable
from typing import Any

from test_framework.core import TargetError
from test_framework.explore.gate.network import NO_ANSWER_S, Sockets
from test_framework.explore.loop.limits import MAX_STEPS
from test_framework.explore.stepped import SteppedLoop

NOISE_S = 0.002
"""Longest time by which most requests leave late, seconds."""

LULL_S = 0.02
LULLS = 0.1
"""Longest time of the others, seconds, and their share.

A whole handshake of another user fits into it.
"""

_CLEANUP_S = 0.5
_MAX_CLEANUP_TURNS = 1000

# The transport of asyncio has no type for its inside.
_Transport: Any = selector_events._SelectorSocketTransport  # type: ignore[attr-defined]  # private


class _Impatient(selectors.DefaultSelector):
    """A selector that does not wait for ever."""

    def select(self, timeout: float | None = None) -> list[Any]:
        """Wait for events.

        Raises:
            TargetError: None came for long, and no timer is armed.
        """
        found = super().select(NO_ANSWER_S if timeout is None else timeout)
        if timeout is None and not found:
            raise TargetError(
                f"Nothing happened for {NO_ANSWER_S:.0f} s: a server does not answer, "
                "or tasks wait for each other. With io='gate' it is told which."
            )
        return found


class NoisyTransport(_Transport):  # type: ignore[misc]  # see _Transport
    """A transport whose writes leave late, in their order."""

    _eof: bool
    _closing: bool

    def __init__(self, loop: "LiveLoop", *arguments: Any) -> None:
        self._late: deque[bytes] = deque()
        super().__init__(loop, *arguments)

    def write(self, data: Any) -> None:
        """Write after a while."""
        if self._conn_lost or self._eof or not isinstance(data, bytes | bytearray):
            super().write(data)
        elif data:
            self._late.append(bytes(data))
            self._loop.call_later(self._loop.draw(), self._leave)

    def writelines(self, list_of_data: Any) -> None:
        """Write after a while."""
        self.write(b"".join(list_of_data))

    def _leave(self) -> None:
        if self._late:
            super().write(self._late.popleft())

    def _flush(self) -> None:
        while self._late:
            self._leave()

    def write_eof(self) -> None:
        """Close the sending half, after what is late."""
        self._flush()
        super().write_eof()

    def close(self) -> None:
        """Close the connection, after what is late."""
        self._flush()
        super().close()


class LiveLoop(SteppedLoop, Sockets):  # type: ignore[misc]  # see Sockets
    """Runs scenarios on real sockets in real time.

    Args:
        rng: Where the noise is drawn from.
        max_steps: Steps of a run before it counts as endless.
    """

    io = "live"

    def __init__(self, rng: random.Random, *, max_steps: int = MAX_STEPS) -> None:
        self.max_steps = max_steps
        self._rng = rng
        super().__init__(_Impatient())
        self.close()

    def draw(self) -> float:
        """Return by how much something is late, seconds."""
        is_lull = self._rng.random() < LULLS
        return self._rng.random() * (LULL_S if is_lull else NOISE_S)

    def run(self, main: Any, begin: Any, **hooks: Any) -> Any:
        """Run a coroutine to its end; the scheduler decides nothing.

        Raises:
            TargetError: Nothing happens any more.
        """
        factory = self._own_factory
        super().__init__(_Impatient())
        self._own_factory = factory
        return super().run(main, begin, **hooks)

    def time(self) -> float:
        """Return the real time."""
        return time.monotonic()

    def _process_events(self, event_list: list[Any]) -> None:
        Sockets._process_events(self, event_list)

    def call_at(self, when: float, callback: Any, *args: Any, **options: Any) -> Any:
        """Queue a callback for an instant of real time."""
        return Sockets.call_at(self, when, callback, *args, **options)

    def _make_socket_transport(
        self,
        sock: Any,
        protocol: Any,
        waiter: Any = None,
        *,
        extra: Any = None,
        server: Any = None,
    ) -> NoisyTransport:
        return NoisyTransport(self, sock, protocol, waiter, extra, server)

    def _run_once(self) -> None:
        """Let what comes from outside arrive late, and make one turn."""
        for _, arrival in self._externals:
            self.call_later(self.draw(), arrival, context=contextvars.Context())
        self._externals.clear()
        self._turn()

    def _clean_up(self) -> None:
        self._over = None
        self._before = self._after = None
        for number, task in enumerate(self.tasks):
            if not task.done():
                self.left.append(number)
                task.cancel()
        self._drain(lambda: all(task.done() for task in self.tasks))
        for transport in list(self._transports.values()):
            transport.abort()
        self._drain(lambda: not self._ready)

    def _drain(self, is_over: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _CLEANUP_S
        for _ in range(_MAX_CLEANUP_TURNS):
            if is_over() or time.monotonic() >= deadline:
                return
            self.call_later(_CLEANUP_S / 10, int)
            self._run_once()
