"""A loop over real sockets on which requests leave one at a time, as a scheduler says.

Two requests under way race inside of the server, where no order of replies helps. So a
write is held; when every task waits, the scheduler picks which held request leaves, and
nothing else is decided until its answer has come completely. Timers run in virtual time
and fire at such decisions too, so real time decides nothing. What is given up: answers
that overtake each other, and requests that a server works on at the same time.

A request that waits inside of its server for another user (a row lock, an empty list)
would hold the gate for ever; probes tell which those are, and the gate opens for the
others. A server that does not answer at all ends the exploration without a conclusion.

That the order of sending is enough for identical runs is tested with 1,000 runs of one
seed over Postgres, Redis and WebSocket (``tests/integration/explore``).
"""

import asyncio
import contextvars
import time
from asyncio import events
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from test_framework.core import TargetError
from test_framework.explore.decisions import CLOCK, Choose, Hook
from test_framework.explore.endings import StalledError
from test_framework.explore.faults import follows
from test_framework.explore.gate.hygiene import (
    is_understood,
    leftover_on,
    note_asker,
)
from test_framework.explore.gate.network import (
    NO_ANSWER_S,
    QUIET_S,
    NetworkLoop,
)
from test_framework.explore.gate.transport import GatedTransport, Held
from test_framework.explore.loop.cleanup import cancel_quietly
from test_framework.explore.loop.clock import ELAPSE_S, READINGS_S, sleep_is_over
from test_framework.explore.loop.limits import MAX_STEPS
from test_framework.explore.waits import Wait, waits_of

LOCK_PATIENCE_S = 0.3
"""How long a request may wait behind a lock that nobody can release, seconds."""

_MAX_CLEANUP_TURNS = 1000
_CLEANUP_LOOK_S = 0.05
_CLEANUP_S = 0.5
"""How long tasks that were cancelled at the end may talk to their servers, seconds."""


def _spelled(address: Any) -> str:
    """Return an address as one types it; that of a Unix socket is a path."""
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else str(address)


class GateLoop(NetworkLoop):
    """Runs one scenario after the other, each on sockets and servers of its own.

    Args:
        max_steps: Steps of a run before it counts as endless.
        patience_s: Silence after which a server counts as dead, seconds.

    Attributes:
        is_gated: Whether requests are held; not so while a run is cleaned up.
        requests: What each request of the run that has left asked for, by the number of
            its event.
    """

    io = "gate"

    def __init__(
        self, *, max_steps: int = MAX_STEPS, patience_s: float = NO_ANSWER_S
    ) -> None:
        self.max_steps = max_steps
        super().__init__(patience_s=patience_s)
        # A run begins with a new inside, so nothing of one is seen by the next.
        self.close()

    def _forget_run(self) -> None:
        super()._forget_run()
        self.is_gated = True
        self._held: list[Held] = []
        self.requests: dict[int, str] = {}

    def run(
        self,
        main: Coroutine[Any, Any, Any],
        begin: Callable[[Any], Choose],
        *,
        before: Hook | None = None,
        after: Hook | None = None,
    ) -> Any:
        """Run a coroutine to its end; see ``ExplorationLoop.run``.

        Raises:
            TargetError: A server cannot be reached or does not answer.
        """
        self._renew()
        try:
            return super().run(main, begin, before=before, after=after)
        except Exception as exc:
            # A client may tell of it by an exception of its own.
            if self.refused and follows(exc, (OSError,), by_context=True):
                raise TargetError(
                    f"The server at {_spelled(self.refused[0])} refused the connection "
                    f"({str(exc).partition(chr(10))[0]}). Start the server, or correct "
                    "the address."
                ) from exc
            raise

    # -- what transports tell -----------------------------------------------------------

    def hold(self, transport: GatedTransport, data: bytes) -> None:
        """Keep data back until the scheduler lets it go.

        What one task writes to one connection in a row is one request.
        """
        owner = max(self.current, 0)
        last = transport.held[-1] if transport.held else None
        if last is not None and last.owner == owner:
            last.data += data
            return
        label = transport.name_request(data)
        number = self._register_event(label)
        request = Held(number, owner, label, transport, bytearray(data))
        note_asker(self, request)
        if transport.last is not None and not transport.is_blamed:
            self._blame(transport, request)
        transport.last = request
        transport.held.append(request)
        self._held.append(request)

    def drop(self, transport: GatedTransport) -> None:
        """Forget what a connection holds: it is cut."""
        transport.held.clear()
        self._held = [held for held in self._held if held.transport is not transport]

    # -- what users leave ---------------------------------------------------------------

    def look_for_leftovers(self) -> None:
        """Look at connections and ask pools, once, when users are done."""
        if not self.has_looked:
            self._look_at_connections()
        super().look_for_leftovers()

    def is_dirty(self) -> bool:
        """Tell whether a connection is dirty now."""
        return any(leftover_on(self, transport) for transport in self.connections)

    def _look_at_connections(self) -> None:
        for transport in self.connections:
            if not transport.is_blamed:
                self._blame(transport)
            if transport.peer is None and not is_understood(transport):
                self.notes[
                    f"Whether users left a connection to {_spelled(transport.peer_address)} "
                    "clean cannot be seen: it is encrypted or of an unknown protocol."
                ] = None

    def _blame(self, transport: GatedTransport, taker: Held | None = None) -> None:
        leftover = leftover_on(self, transport, taker)
        if leftover is not None:
            transport.is_blamed = True
            self.leftovers.append(leftover)

    # -- faults ---------------------------------------------------------------------------

    def has_request(self, task: asyncio.Task[Any]) -> bool:
        """Tell whether a request of ``task``, or of one it started, is held."""
        return self._request_of(task) is not None

    def cut(self, task: asyncio.Task[Any], error: Exception) -> bool:
        """Let the connection fail on which ``task`` has a request; False for none."""
        held = self._request_of(task)
        if held is None:
            return False
        held.transport._force_close(error)
        return True

    def _request_of(self, task: asyncio.Task[Any]) -> Held | None:
        wanted = self._numbers[task]
        for held in reversed(self._held):
            number = held.owner
            # Clients send from tasks of their own, such as those of wait_for.
            while number > wanted:
                number = self.parents[number]
            if number == wanted:
                return held
        return None

    # -- running ------------------------------------------------------------------------

    def _run_once(self) -> None:
        """Let something arrive if nothing can go, then make one turn."""
        if self.is_gated and not self._ready and not self._is_due():
            self._settle()
            if not self._ready:
                self._decide()
        self._turn()

    def _is_due(self) -> bool:
        self._drop_cancelled_timers()
        return bool(self._scheduled) and self._scheduled[0]._when <= self._now

    def _decide(self) -> None:
        """Let one request leave, one event arrive or time pass."""
        heads = [held for held in self._held if held.transport.held[0] is held]
        arrivals: dict[int, Callable[[], object]] = dict(self._externals)
        options = sorted([*arrivals, *(held.number for held in heads)], reverse=True)
        deadline = self._next_deadline()
        if deadline is not None and (not options or self._may_elapse_early()):
            if not options:
                self._wait_for_pushes(QUIET_S)
                if self._ready:
                    return
            options.append(CLOCK)
        if not options:
            self._stall()
            return
        position = 0
        if len(options) > 1:
            self.choices += 1
            position = self._choose(options)
        number = options[position]
        self.order.append(number)
        if number == CLOCK:
            self._now = deadline or self._now
        elif number in arrivals:
            self._externals.remove((number, arrivals[number]))
            self.call_soon(arrivals[number], context=contextvars.Context())
        else:
            held = next(held for held in heads if held.number == number)
            self._held.remove(held)
            self._let_server_look(held.transport)
            held.described = held.transport.describe(bytes(held.data))
            self.requests[number] = held.described
            held.transport.leave(held)
            self._is_settled = False

    def _may_elapse_early(self) -> bool:
        """Tell whether a sleep may end while requests are held; see ``ELAPSE_S``."""
        self._drop_cancelled_timers()
        handle = self._scheduled[0]
        is_sleep = handle._callback is sleep_is_over
        return is_sleep and handle._when - self._now <= ELAPSE_S + READINGS_S

    def _stall(self) -> None:
        """Nothing can go: wait for what a server may still say.

        Raises:
            StalledError: Nothing will come.
            TargetError: Something might have, and did not.
        """
        is_locked = all(self._waits[blocked] for blocked in self._aside)
        if is_locked and not self._may_be_pushed():
            # A lock of one of ours; a server that limits the wait says so meanwhile.
            self._wait_for_pushes(LOCK_PATIENCE_S)
            if self._ready:
                return
            raise StalledError(self._describe_waits())
        self._wait_for_pushes(self.patience_s)
        if self._ready:
            return
        raise TargetError(
            f"Nothing can go on but by what a server says unasked, and for "
            f"{self.patience_s:.1f} s it said nothing: {self._describe_remote()}."
        )

    def _describe_waits(self) -> tuple[Wait, ...]:
        """Return what every task waits for, those behind a lock of a server by name."""
        described = {wait.task: wait for wait in waits_of(self)}
        for blocked in self._aside:
            name = self.name(blocked.owner)
            holders = sorted(self.name(holder.owner) for holder in self._waits[blocked])
            if name in described:
                described[name] = replace(
                    described[name],
                    what=f"for the answer to {blocked.asked}",
                    holders=tuple(holders),
                    blockers=tuple(holders),
                )
        return tuple(described.values())

    # -- the end of a run ---------------------------------------------------------------

    def _clean_up(self) -> None:
        self._over = None
        # What is done now is no part of the run.
        self._before = self._after = None
        self.is_gated = False
        events._set_running_loop(self)
        if not self.has_looked:
            self._look_at_connections()
        self._drain(0.0)
        for number, task in enumerate(self.tasks):
            if not task.done():
                self.left.append(number)
                cancel_quietly(task)
        if self.left:
            self._drain(_CLEANUP_S)
        for sock in list(self._listeners):
            self._stop_serving(sock)
        # A request that is still blocked is answered when its blocker is gone; before
        # that its server would carry it out in the middle of the next run.
        for transport in [t for t in self.connections if t not in self._aside]:
            transport.abort()
        self._drain(0.0)
        if self._aside:
            self._drain(_CLEANUP_S)
        for transport in list(self.connections):
            transport.abort()
        self._drain(0.0)
        for task in self.tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # no public switch

    def _drain(self, seconds: float) -> None:
        """Make turns while something is ready, and so long while tasks or answers are due."""
        deadline = time.monotonic() + seconds
        for _ in range(_MAX_CLEANUP_TURNS):
            if not self._ready:
                left = deadline - time.monotonic()
                is_unfinished = any(t.is_due for t in self.connections) or any(
                    not task.done() for task in self.tasks
                )
                if left <= 0 or not is_unfinished:
                    return
                self._poll(0.0 if self._externals else min(left, _CLEANUP_LOOK_S))
                self._hand_over()
                while self._externals:
                    self.call_soon(self._externals.pop(0)[1])
            self._turn()
