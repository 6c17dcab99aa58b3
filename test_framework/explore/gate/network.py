"""A loop over real sockets that knows what it is owed, and waits for all of it.

What a server answers is kept until every answer under way is complete, and is then handed
over in the order of age of the connections. So the order in which a machine happens to
deliver decides nothing. Where an end cannot be recognised, silence ends an answer, and
the report says so.
"""

import asyncio
import itertools
import selectors
import threading
import time
from asyncio import events, sslproto
from collections.abc import Iterator
from typing import Any

from test_framework.core import TargetError
from test_framework.explore.endings import RunAgainError
from test_framework.explore.gate.probing import Probe, set_aside
from test_framework.explore.gate.transport import GatedTransport
from test_framework.explore.stepped import SteppedLoop

PROBE_AFTER_S = 0.003
"""Silence after which it is asked whether a request is blocked, seconds; then doubled."""

PROBE_AT_MOST_EVERY_S = 0.05

SETTLE_S = 0.002
"""Silence after a request that ends what has no end of its own, seconds."""

QUIET_S = 0.05
"""Silence after which what has no end counts as unanswered, seconds."""

NO_ANSWER_S = 5.0
"""Silence after which a server counts as dead, seconds."""

DEADLOCK_MARGIN = 1.5
"""How many times its deadlock timeout a server may take to look for a cycle."""

# With which the loop itself watches sockets.
_OWN_CALLBACKS = {"_read_from_self", "_accept_connection", "_sock_connect_cb"}


class _Selector(selectors.DefaultSelector):
    """Looks at the network when the gate does, and never by itself."""

    def select(self, timeout: float | None = None) -> list[Any]:  # noqa: ARG002  # the signature of the base
        return []

    def poll(self, timeout: float) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(timeout)


# Its queue, timers and sockets have no type: they are private.
Sockets: Any = asyncio.SelectorEventLoop


class NetworkLoop(SteppedLoop, Sockets):  # type: ignore[misc]  # see Sockets
    """Keeps account of connections; its subclass decides what leaves on them.

    Args:
        patience_s: Silence after which a server counts as dead, seconds.

    Attributes:
        probes: Who tells which requests are blocked; see ``watch_waits``.
        connections: Those that are open, oldest first.
        notes: What silence decided in any run so far, in words.
        refused: Addresses at which nobody listened, of this run.
        is_patient: Whether a server has broken a deadlock in any run so far. From then
            on a wait is old enough for that before its holder goes on.
    """

    def __init__(self, *, patience_s: float = NO_ANSWER_S) -> None:
        self.patience_s = patience_s
        self.notes: dict[str, None] = {}
        self.is_patient = False
        super().__init__(_Selector())

    def _renew(self) -> None:
        """Begin a run on a new selector, without anything of an earlier one."""
        factory = self._own_factory
        super().__init__(_Selector())
        self._own_factory = factory

    def _forget_run(self) -> None:
        super()._forget_run()
        self._thread = threading.get_ident()
        self.probes: list[Probe] = []
        self.connections: list[GatedTransport] = []
        self.refused: list[Any] = []
        self.is_waiting = False
        # Blocked requests and what they wait for; since when; those that others must
        # release.
        self._waits: dict[Any, frozenset[Any]] = {}
        self._since: dict[Any, float] = {}
        self._aside: frozenset[Any] = frozenset()
        self._listeners: dict[Any, Any] = {}
        self._connecting = 0
        self._connection_count = itertools.count()
        # Whether what the last request may have caused elsewhere has had its time.
        self._is_settled = True

    # -- connections ------------------------------------------------------------------

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
        was_waiting, self.is_waiting = self.is_waiting, True
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
                    pause = min(2 * pause, PROBE_AT_MOST_EVERY_S)
        finally:
            self.is_waiting = was_waiting

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
        if silence >= self.patience_s:
            raise TargetError(
                f"No answer for {silence:.1f} s: {self._describe_remote()}. Look whether "
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
                if self._poll(min(left, PROBE_AT_MOST_EVERY_S)):
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
        waits = self._waits = {}
        if self.probes and any(t.is_due for t in self.connections):
            # A probe has a connection, and so a loop, of its own.
            events._set_running_loop(None)
            try:
                for probe in self.probes:
                    waits.update(probe.waits(self.connections))
            finally:
                events._set_running_loop(self)
        now = time.monotonic()
        self._since = {blocked: self._since.get(blocked, now) for blocked in waits}
        self._aside = frozenset(t for t in set_aside(waits) if t.is_due)
        if len(self._aside) < len(waits) and not self.is_patient:
            self.is_patient = True
            raise RunAgainError

    def _let_server_look(self, holder: GatedTransport) -> None:
        """Wait until the server has looked whether those behind ``holder`` wait in vain.

        If two waits began shortly one after the other, it would be luck which of them
        the server looks at first, and so whom it chooses.
        """
        if not self.is_patient:
            return
        timeout = max(probe.deadlock_timeout_s for probe in self.probes)
        since = [
            self._since[blocked]
            for blocked in self._aside
            if holder in self._waits[blocked]
        ]
        until = max(since, default=0.0) + DEADLOCK_MARGIN * timeout
        self.is_waiting = True
        while (left := until - time.monotonic()) > 0:
            self._poll(left)
        self.is_waiting = False
