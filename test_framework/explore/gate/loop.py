"""A loop over real sockets on which requests leave one at a time, as a scheduler says.

Two requests under way race inside of the server, where no order of replies helps. So a
write is held; when every task waits, the scheduler picks which held request leaves, and
nothing else is decided until its answer has come completely. Timers run in virtual time
and fire at such decisions too, so real time decides nothing. What is given up: answers
that overtake each other, and requests that a server works on at the same time.

A request that waits inside of its server for another user (a row lock, an empty list)
would hold the gate for ever; probes tell which those are, and the gate opens for the
others. A server that does not answer at all ends the exploration without a conclusion.

That orders of sending suffice for identical runs over TCP is measured in the benchmarks.
"""

import asyncio
import contextvars
import itertools
import selectors
import threading
import time
from asyncio import events, sslproto
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from test_framework.core import TargetError
from test_framework.explore.gate.probing import Probe, set_aside
from test_framework.explore.gate.transport import GatedTransport, Held
from test_framework.explore.loop import (
    CLOCK,
    ELAPSE_S,
    MAX_STEPS,
    READINGS_S,
    Choose,
    Hook,
    StalledError,
    sleep_is_over,
)
from test_framework.explore.stepped import SteppedLoop

PROBE_AFTER_S = 0.003
"""Silence after which it is asked whether a request is blocked, seconds; then doubled."""

_PROBE_AT_MOST_EVERY_S = 0.05

SETTLE_S = 0.002
"""Silence after a request that ends what has no end of its own, seconds."""

QUIET_S = 0.05
"""Silence after which what has no end counts as unanswered, seconds."""

NO_ANSWER_S = 5.0
"""Silence after which a server counts as dead, seconds."""

# With which the loop itself watches sockets.
_OWN_CALLBACKS = {"_read_from_self", "_accept_connection", "_sock_connect_cb"}

_MAX_CLEANUP_TURNS = 1000
_CLEANUP_S = 0.5
"""How long tasks that were cancelled at the end may talk to their servers, seconds."""


class _Selector(selectors.DefaultSelector):
    """Looks at the network when the gate does, and never by itself."""

    def select(self, timeout: float | None = None) -> list[Any]:  # noqa: ARG002  # the signature of the base
        return []

    def poll(self, timeout: float) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(timeout)


# Its queue, timers and sockets have no type: they are private.
_Sockets: Any = asyncio.SelectorEventLoop


class GateLoop(SteppedLoop, _Sockets):  # type: ignore[misc]  # see _Sockets
    """Runs one scenario after the other, each on sockets and servers of its own.

    Args:
        max_steps: Steps of a run before it counts as endless.

    Attributes:
        probes: Who tells which requests are blocked; see ``watch_waits``.
        connections: Those that are open, oldest first.
        is_gated: Whether requests are held; not so while a run is cleaned up.
        notes: What silence decided in any run so far, in words.
        refused: Addresses at which nobody listened, of this run.
    """

    io = "gate"

    def __init__(self, *, max_steps: int = MAX_STEPS) -> None:
        self.max_steps = max_steps
        self.notes: dict[str, None] = {}
        super().__init__(_Selector())
        # A run begins with a new inside, so nothing of one is seen by the next.
        self.close()

    def _forget_run(self) -> None:
        super()._forget_run()
        self._thread = threading.get_ident()
        self.probes: list[Probe] = []
        self.connections: list[GatedTransport] = []
        self.is_gated = True
        self.is_waiting = False
        self.refused: list[Any] = []
        self._held: list[Held] = []
        self._aside: frozenset[Any] = frozenset()
        self._listeners: dict[Any, Any] = {}
        self._connecting = 0
        # Whether what the last request may have caused elsewhere has had its time.
        self._is_settled = True
        self._connection_count = itertools.count()

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
        factory = self._own_factory
        super().__init__(_Selector())
        self._own_factory = factory
        try:
            return super().run(main, begin, before=before, after=after)
        except OSError as exc:
            if self.refused:
                raise TargetError(
                    f"Nobody listens at {self.refused[0]!r}: {exc}. Start the server, "
                    "or correct the address."
                ) from exc
            raise

    # -- what transports tell -----------------------------------------------------------

    def count_connection(self) -> int:
        """Return the number of a new connection."""
        return next(self._connection_count)

    def join(self, transport: GatedTransport) -> None:
        """Take a connection in, and find its other end if that is here too."""
        self.connections.append(transport)
        if transport.address is None or transport.peer_address is None:
            return
        for other in self.connections:
            if (other.address, other.peer_address) == (
                transport.peer_address,
                transport.address,
            ):
                transport.peer, other.peer = other, transport

    def leave(self, transport: GatedTransport) -> None:
        """Let a connection go."""
        self.drop(transport)
        if transport in self.connections:
            self.connections.remove(transport)

    def hold(self, transport: GatedTransport, data: bytes) -> None:
        """Keep data back until the scheduler lets it go.

        What one task writes to one connection in a row is one request.
        """
        owner = max(self.current, 0)
        last = transport.held[-1] if transport.held else None
        if last is None or last.owner != owner:
            number = self._register_event(transport.name_request(data))
            last = Held(number, owner, transport)
            transport.held.append(last)
            self._held.append(last)
        last.data += data

    def drop(self, transport: GatedTransport) -> None:
        """Forget what a connection holds: it is cut."""
        transport.held.clear()
        self._held = [held for held in self._held if held.transport is not transport]

    # -- what asyncio asks of a loop ------------------------------------------------------

    def _make_socket_transport(
        self,
        sock: Any,
        protocol: Any,
        waiter: Any = None,
        *,
        extra: Any = None,
        server: Any = None,
    ) -> GatedTransport:
        return GatedTransport(self, sock, protocol, waiter, extra, server)

    def _make_ssl_transport(
        self,
        rawsock: Any,
        protocol: Any,
        sslcontext: Any,
        waiter: Any = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: Any = None,
        server: Any = None,
        **timeouts: Any,
    ) -> Any:
        # As the base does it, above a transport of ours.
        ssl_protocol = sslproto.SSLProtocol(
            self,
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            **timeouts,
        )
        self._make_socket_transport(rawsock, ssl_protocol, extra=extra, server=server)
        return ssl_protocol._app_transport

    async def sock_connect(self, sock: Any, address: Any) -> None:
        """Connect when the scheduler says so."""
        await self.external_event("connect")
        self._connecting += 1
        try:
            await super().sock_connect(sock, address)
        except OSError:
            self.refused.append(address)
            raise
        finally:
            self._connecting -= 1

    def _start_serving(self, protocol_factory: Any, sock: Any, *options: Any) -> None:
        self._listeners[sock] = sock.getsockname()
        super()._start_serving(protocol_factory, sock, *options)

    def _stop_serving(self, sock: Any) -> None:
        self._listeners.pop(sock, None)
        super()._stop_serving(sock)

    def call_soon_threadsafe(self, callback: Any, *args: Any, **options: Any) -> Any:
        """Queue a callback; from another thread it is noted, for no order is ours."""
        if threading.get_ident() != self._thread:
            self.stranger = threading.current_thread().name
        return super().call_soon_threadsafe(callback, *args, **options)

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
        if not self._aside and not self._may_be_pushed():
            raise StalledError
        self._wait_for_pushes(NO_ANSWER_S)
        if self._ready:
            return
        raise TargetError(
            f"Nothing can go on but by what a server says unasked, and for "
            f"{NO_ANSWER_S:.0f} s it said nothing: {self._describe_remote()}."
        )

    # -- waiting for answers --------------------------------------------------------------

    def _settle(self) -> None:
        """Wait until every answer under way has come, then hand all of them over."""
        self._await_answers()
        if not self._ready:
            self._hand_over()

    def _hand_over(self) -> None:
        # In order of age and not of arrival, which is luck.
        for transport in self.connections:
            if transport.wants_to_close and not transport.held:
                self.call_soon(transport.finish_close, context=transport.context)
            elif transport.has_news and not transport.wants_to_close:
                self.call_soon(transport.hand_over, context=transport.context)

    def _await_answers(self) -> None:
        if self._aside:
            # The last answer may have released somebody.
            self._probe()
        last = time.monotonic()
        pause = PROBE_AFTER_S
        self.is_waiting = True
        try:
            while not self._ready:
                due = list(self._due())
                is_unfinished = bool(due) or self._is_connecting()
                silence = time.monotonic() - last
                if not is_unfinished:
                    if (
                        self._is_settled
                        or silence >= SETTLE_S
                        or not self._may_be_pushed()
                    ):
                        self._is_settled = True
                        return
                    pause = SETTLE_S - silence
                if self._poll(pause):
                    last, pause = time.monotonic(), PROBE_AFTER_S
                elif is_unfinished:
                    silence = time.monotonic() - last
                    self._judge_silence(due, silence)
                    self._probe()
                    pause = min(2 * pause, _PROBE_AT_MOST_EVERY_S)
        finally:
            self.is_waiting = False

    def _due(self) -> Iterator[GatedTransport]:
        return (
            transport
            for transport in self.connections
            if transport.is_due and transport not in self._aside
        )

    def _is_connecting(self) -> bool:
        return self._connecting > 0 or any(
            transport.peer is None and self._listens(transport.peer_address)
            for transport in self.connections
        )

    def _listens(self, address: Any) -> bool:
        return any(
            name[1] == address[1] and name[0] in {address[0], "0.0.0.0", "::"}  # noqa: S104  # compared, not bound
            for name in self._listeners.values()
            if address is not None and isinstance(name, tuple)
        )

    def _judge_silence(self, due: list[GatedTransport], silence: float) -> None:
        """Give up what has no end; refuse a server that is dead."""
        for transport in due:
            answers = transport.answers
            is_remote = transport.peer is None
            if (
                is_remote
                and silence >= QUIET_S
                and (answers.may_push or not answers.has_end or transport.is_partial)
            ):
                answers.give_up()
                self.notes[
                    f"An answer on a {answers.kind} connection had no end of its own: "
                    f"{QUIET_S * 1000:.0f} ms of silence ended it, so real time decided."
                ] = None
        if silence >= NO_ANSWER_S:
            raise TargetError(
                f"No answer for {silence:.0f} s: {self._describe_remote()}. Look whether "
                "the server is alive; if the request waits there for another user, "
                "call watch_waits() with a probe for it."
            )

    def _describe_remote(self) -> str:
        return ", ".join(
            f"{self.name(transport.owner)} waits for {transport.kind} at "
            f"{transport.peer_address}"
            for transport in self.connections
            if transport.is_due or transport.may_push
        )

    def _may_be_pushed(self) -> bool:
        return any(t.may_push for t in self.connections) or self._has_raw_readers()

    def _has_raw_readers(self) -> bool:
        """Tell whether the program reads sockets by itself, past every transport."""
        handles = [
            handle
            for key in self._selector.get_map().values()
            for handle in key.data
            if handle is not None and not handle._cancelled
        ]
        return any(
            not isinstance(getattr(h._callback, "__self__", None), GatedTransport)
            and getattr(h._callback, "__name__", "") not in _OWN_CALLBACKS
            for h in handles
        )

    def _wait_for_pushes(self, seconds: float) -> None:
        """Wait so long for what is not owed, if there is anybody who might speak."""
        if not self._aside and not self._may_be_pushed():
            return
        deadline = time.monotonic() + seconds
        self.is_waiting = True
        try:
            while not self._ready and (left := deadline - time.monotonic()) > 0:
                if self._poll(min(left, _PROBE_AT_MOST_EVERY_S)):
                    self._settle()
                elif self._aside:
                    self._probe()
                    self._settle()
        finally:
            self.is_waiting = False

    def _poll(self, timeout: float) -> bool:
        """Take in what the network has; False when it has nothing."""
        found = self._selector.poll(timeout)
        for key, mask in sorted(found, key=lambda event: event[0].fd):
            reader, writer = key.data
            for flag, handle in (
                (selectors.EVENT_READ, reader),
                (selectors.EVENT_WRITE, writer),
            ):
                if not mask & flag or handle is None or handle._cancelled:
                    continue
                owner = getattr(handle._callback, "__self__", None)
                if isinstance(owner, GatedTransport):
                    handle._run()
                else:
                    self._ready.append(handle)
        return bool(found)

    def _probe(self) -> None:
        """Ask which requests are blocked."""
        waits: dict[Any, frozenset[Any]] = {}
        if self.probes and any(t.is_due for t in self.connections):
            # A probe has a connection, and so a loop, of its own.
            events._set_running_loop(None)
            try:
                for probe in self.probes:
                    waits |= probe.waits(self.connections)
            finally:
                events._set_running_loop(self)
        self._aside = frozenset(t for t in set_aside(waits) if t.is_due)

    # -- the end of a run ---------------------------------------------------------------

    def _clean_up(self) -> None:
        self._over = None
        self.is_gated = False
        events._set_running_loop(self)
        self._drain(0.0)
        for number, task in enumerate(self.tasks):
            if not task.done():
                self.left.append(number)
                task.cancel()
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
                self._poll(min(left, _PROBE_AT_MOST_EVERY_S))
                self._hand_over()
            self._turn()
