"""A transport of asyncio whose requests wait for the gate and whose answers come whole.

Writes are held until the loop lets them go. What arrives is kept until the loop hands it
over, all at once: how the network cut it is no decision of a run, and a program that
behaves otherwise for two halves of an answer than for one would make runs differ.

A connection that is closed while a request is held, or its answer on the way, stays open
below until the answer has come. The program does not notice, and whether the server got
to see the request of a cancelled task is decided by the schedule and not by luck.
"""

import contextvars
from asyncio import constants, protocols, selector_events
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from test_framework.explore.gate.answers import Answers, Opaque
from test_framework.explore.gate.recognise import recognise


@dataclass(slots=True, eq=False)
class Held:
    """A request that waits for the gate.

    Attributes:
        number: Its event; see ``NamedTasks``.
        owner: Number of the task that wrote it.
        label: What it asks for, in words.
        transport: Where it goes.
        data: What it says.
        asker: Number of the task of the program that makes it.
        file: Where that task asks; empty for no line of the program.
        line: Line in ``file``.
        described: What it asks for, as a story tells it; empty until it has left.
    """

    number: int
    owner: int
    label: str
    transport: "GatedTransport"
    data: bytearray = field(default_factory=bytearray)
    asker: int = 0
    file: str = ""
    line: int = 0
    described: str = ""


# The transport of asyncio has no type for its inside.
_Base: Any = selector_events._SelectorSocketTransport  # type: ignore[attr-defined]  # private


class Gate(Protocol):
    """What a transport needs of the loop that holds its requests; see ``GateLoop``.

    Attributes:
        current: Number of the task that is running.
        is_gated: Requests are held.
        notes: What a reader of the report must know.
    """

    current: int
    is_gated: bool
    notes: dict[str, None]

    def count_connection(self) -> int:
        """Return the number of the next connection."""
        ...

    def join(self, transport: "GatedTransport") -> None:
        """Take a new connection."""
        ...

    def leave(self, transport: "GatedTransport") -> None:
        """Forget a connection that is closed."""
        ...

    def hold(self, transport: "GatedTransport", data: bytes) -> None:
        """Keep data back until the scheduler lets it go."""
        ...

    def drop(self, transport: "GatedTransport") -> None:
        """Forget what a connection holds."""
        ...


class GatedTransport(_Base):  # type: ignore[misc]  # see _Base
    """One end of a connection.

    Attributes:
        number: Count of connections of the run before it.
        answers: What the other side owes.
        held: Requests that wait, oldest first.
        owner: Number of the task whose request left last.
        asked: What that request asked for, in words.
        last: The request that was written last; None for none.
        began: The request that began what is unfinished on it; None for nothing.
        is_blamed: It was found dirty, so what follows on it is no news.
        peer: The other end, when it is in this loop as well.
        address: Its own address, as the server sees it; None for none.
        peer_address: Where it goes; None for none.
    """

    _eof: bool
    _closing: bool

    # A file that is sent by the system would pass the gate.
    _sendfile_compatible = constants._SendfileMode.FALLBACK

    def __init__(self, loop: Gate, sock: Any, *arguments: Any) -> None:
        self.number = loop.count_connection()
        self.answers: Answers = Opaque()
        self.held: deque[Held] = deque()
        self.owner = max(loop.current, 0)
        self.asked = ""
        self.last: Held | None = None
        self.began: Held | None = None
        self.is_blamed = False
        self._left: Held | None = None
        self.peer: GatedTransport | None = None
        self.sent_bytes = self.received_bytes = 0
        self.has_left = self.saw_eof = False
        self._told_eof = False
        self._broken: OSError | None = None
        self._arrived = bytearray()
        self.context = contextvars.copy_context()
        self._gate = loop
        super().__init__(loop, sock, *arguments)
        self.address = _address(self._extra["sockname"])
        self.peer_address = _address(self._extra["peername"])
        loop.join(self)

    # -- what the loop and probes ask ------------------------------------------------

    @property
    def kind(self) -> str:
        """Which protocol it speaks."""
        return self.answers.kind

    @property
    def session(self) -> int | None:
        """What the server calls it; None when unknown."""
        return self.answers.session

    @property
    def is_open(self) -> bool:
        """Whether the socket is open."""
        return self._sock is not None

    @property
    def is_usable(self) -> bool:
        """Whether somebody could still ask something on it."""
        is_ending = self._closing or self._eof or self.has_left or self.saw_eof
        return self.is_open and not is_ending and self._broken is None

    @property
    def is_due(self) -> bool:
        """Whether something is still to come, or to leave, before the next decision."""
        if not self.is_open or self._broken is not None:
            return False
        if self._buffer:
            return True
        peer = self.peer
        if peer is None:
            return self.answers.is_due and not self.saw_eof
        has_all = self.received_bytes >= peer.sent_bytes - len(peer._buffer)
        return not self.saw_eof and (not has_all or not peer.is_open or peer.has_left)

    @property
    def may_push(self) -> bool:
        """Whether the other side may speak without being asked."""
        is_remote = self.peer is None and self.is_open and not self.saw_eof
        return is_remote and (self.answers.may_push or not self.answers.has_end)

    @property
    def has_news(self) -> bool:
        """Whether something has come that the program does not know of."""
        if self._paused or self._conn_lost:
            return False
        has_eof = self.saw_eof and not self._told_eof
        return bool(self._arrived) or has_eof or self._broken is not None

    @property
    def is_partial(self) -> bool:
        """Whether a part of an answer has come."""
        return bool(self._arrived)

    @property
    def wants_to_close(self) -> bool:
        """Whether the program has closed it and it is only kept for an answer."""
        return self._closing and not self._conn_lost

    # -- out -------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        """Hold data until the gate lets it go."""
        if (
            self._conn_lost
            or self._eof
            or not isinstance(data, bytes | bytearray | memoryview)
            or not self._gate.is_gated
        ):
            super().write(data)
        elif data:
            self._gate.hold(self, bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        """Hold data until the gate lets it go."""
        self.write(b"".join(list_of_data))

    def name_request(self, data: bytes) -> str:
        """Return in words what ``data`` asks for."""
        if type(self.answers) is Opaque and not self.sent_bytes:
            self.answers = recognise(data)
        return self.answers.label(data)

    def describe(self, data: bytes) -> str:
        """Return what ``data`` asks for, for a reader; see ``Answers``."""
        try:
            return self.answers.describe(data)
        except (ValueError, IndexError):
            return self.answers.label(data)

    def leave(self, request: Held) -> None:
        """Send a held request."""
        self.held.remove(request)
        self.owner, self.asked = request.owner, request.label
        self._left = request
        self._count(self.answers.sent, bytes(request.data))
        self.sent_bytes += len(request.data)
        was_ended, self._eof = self._eof, False
        super().write(request.data)
        if was_ended:
            self.write_eof()

    def write_eof(self) -> None:
        """Close the sending half, after what is held."""
        if self.held:
            self._eof = True
        else:
            super().write_eof()
            self.has_left = True

    def close(self) -> None:
        """Close the connection, after what is held and its answer."""
        if self._closing:
            return
        if self.held or (self.is_due and self._gate.is_gated):
            self._closing = True
        else:
            super().close()

    def finish_close(self) -> None:
        """Close a connection that was only kept for an answer."""
        self._closing = False
        self._arrived.clear()
        super().close()

    def _force_close(self, exc: BaseException | None) -> None:
        self._gate.drop(self)
        super()._force_close(exc)
        if self._loop is not None:
            # It may have been kept for an answer, and so be closing already.
            self._loop._remove_reader(self._sock_fd)

    def _call_connection_lost(self, exc: BaseException | None) -> None:
        self._gate.leave(self)
        super()._call_connection_lost(exc)

    # -- in --------------------------------------------------------------------------

    def pause_reading(self) -> None:
        """Hand nothing over; what arrives is kept."""
        if self.is_reading():
            self._paused = True

    def resume_reading(self) -> None:
        """Hand over again, from the next decision on."""
        self._paused = False

    def _read_ready(self) -> None:
        if self._conn_lost:
            return
        try:
            data = self._sock.recv(self.max_size)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as exc:
            self._broken = exc
            data = b""
        if not data:
            self.saw_eof = True
            self._loop._remove_reader(self._sock_fd)
            return
        self._arrived += data
        self.received_bytes += len(data)
        self._count(self.answers.received, data)

    def _count(self, count: Callable[[bytes], None], data: bytes) -> None:
        """Let the recogniser see data; one that does not understand it is let go."""
        try:
            count(data)
        except (ValueError, IndexError):
            self._gate.notes[
                f"Bytes on a {self.kind} connection were no {self.kind}, so silence "
                "ended its answers."
            ] = None
            self.answers = Opaque()
        if not self.answers.unfinished:
            self.began = None
        elif self.began is None:
            self.began = self._left

    def hand_over(self) -> None:
        """Give the program what has come."""
        if self._conn_lost or self._paused:
            return
        self._gate.current = self.owner
        data = bytes(self._arrived)
        self._arrived.clear()
        if self._broken is not None:
            self._fatal_error(self._broken, "Fatal read error on socket transport")
            return
        try:
            if data and isinstance(self._protocol, protocols.BufferedProtocol):
                protocols._feed_data_to_buffered_proto(self._protocol, data)  # type: ignore[attr-defined]  # private
            elif data:
                self._protocol.data_received(data)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:  # noqa: BLE001  # as the transport of asyncio does it
            self._fatal_error(exc, "Fatal error: protocol.data_received() call failed.")
            return
        if self.saw_eof and self.has_news:
            self._told_eof = True
            self._read_ready__on_eof()


def _address(name: Any) -> tuple[str, int] | None:
    """Return host and port; None for sockets without, such as those of Unix."""
    return (name[0], name[1]) if isinstance(name, tuple) and len(name) >= 2 else None
