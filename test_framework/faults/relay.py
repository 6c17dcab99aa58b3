"""One connection through the proxy: two sockets, and a lane in each direction.

As long as a link is clear and nothing waits, what was read from one socket is written
to the other within the same callback. Whoever reads slowly slows the sender down: a
full sink pauses its source. The end of a stream goes through the lane as the bytes do,
so a half-closed connection stays half open, and a reset on one side is one on the
other.
"""

import asyncio
import contextlib
import random
import socket
import struct
import time
from collections import deque
from typing import Protocol, cast

from test_framework.faults.link import CLEAR, Link

_WINDOW_BYTES = 256 * 1024
"""As much may be under way on a lane that delays; beyond it the sender waits."""
_PIECES_PER_S = 50
"""Into how many pieces the bytes of a second are parted where a rate is given."""
_HEAD_BYTES = 1024

_END = None
"""Stands in a lane for the end of the stream."""

_RESET = struct.pack("ii", 1, 0)


class Hub(Protocol):
    """What a relay needs of its proxy."""

    rng: random.Random

    def opened(self, relay: "Relay") -> None:
        """Take note of a connection that was accepted."""

    def closed(self, relay: "Relay") -> None:
        """Take note that both of its sockets are gone."""


class Relay:
    """One connection: the client's socket, the server's, and a lane each way.

    Attributes:
        up: What goes from client to server.
        down: What goes from server to client.
        head: The first bytes that the client sent (at most 1,024).
        opened_s: When it was accepted (monotonic seconds).
        server_port: Our port at the server; 0 while not connected.
    """

    def __init__(self, hub: Hub) -> None:
        self.up = Lane(self)
        self.down = Lane(self)
        self.client = _Side(self, inward=self.up, outward=self.down)
        self.server = _Side(self, inward=self.down, outward=self.up)
        self.head = b""
        self.opened_s = time.monotonic()
        self.server_port = 0
        self.hub = hub
        self._is_stranded = False

    @property
    def is_stranded(self) -> bool:
        """Whether one of its sockets is held although the other is gone."""
        return self._is_stranded

    def made(self, side: "_Side") -> None:
        """Let bytes flow once both sockets are there."""
        transport = side.transport
        side.inward.source = transport
        side.outward.sink = transport
        if side is self.client:
            self.hub.opened(self)
        elif transport is not None:
            self.server_port = transport.get_extra_info("sockname")[1]
        self.up.drain()
        self.down.drain()

    def heard(self, side: "_Side", data: bytes) -> None:
        """Keep the beginning of what the client says."""
        if side is self.client and len(self.head) < _HEAD_BYTES:
            self.head += data[: _HEAD_BYTES - len(self.head)]

    def ended(self) -> None:
        """Close both sockets once both directions have ended."""
        if self.up.is_ended and self.down.is_ended:
            self.close()

    def lost(self, side: "_Side", exc: Exception | None) -> None:
        """Do to the other side what was done to this one."""
        other = self.server if side is self.client else self.client
        if exc is not None and not self._is_stranded:
            other.reset()
        if other.transport is None:
            self.up.stop()
            self.down.stop()
            self.hub.closed(self)

    def close(self) -> None:
        """Close both sockets in good order."""
        self.client.close()
        self.server.close()

    def reset(self) -> None:
        """Cut both sides with a reset."""
        self._is_stranded = False
        self.up.stop()
        self.down.stop()
        self.client.reset()
        self.server.reset()

    def strand(self, *, gone: "_Side") -> None:
        """End one side; hold the other, which hears nothing and is told nothing."""
        self._is_stranded = True
        self.up.stop()
        self.down.stop()
        held = self.server if gone is self.client else self.client
        held.pause()
        gone.reset()


class Lane:
    """One direction of a connection."""

    __slots__ = (
        "_cut_left",
        "_free_at",
        "_has_ended",
        "_is_full",
        "_link",
        "_queue",
        "_queued_bytes",
        "_relay",
        "_timer",
        "bytes",
        "is_ended",
        "sink",
        "source",
    )

    def __init__(self, relay: Relay) -> None:
        self.source: asyncio.Transport | None = None
        self.sink: asyncio.Transport | None = None
        self.bytes = 0
        self.is_ended = False
        self._relay = relay
        self._cut_left: int | None = None
        self._link = CLEAR
        self._queue: deque[tuple[float, bytes | None]] = deque()
        self._queued_bytes = 0
        self._free_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._is_full = False
        self._has_ended = False

    def change(self, link: Link) -> None:
        """Follow another link from now on; what waits goes on as that one lets it."""
        cut, before = link.cut_after_bytes, self._link.cut_after_bytes
        self._link = link
        if cut != before:
            draw = self._relay.hub.rng.randint
            self._cut_left = None if cut is None else draw(*cut)
        if not link.delays:
            self._queue = deque((0.0, piece) for _, piece in self._queue)
        self.drain()

    def feed(self, data: bytes) -> None:
        """Take bytes that were read from the source."""
        if self._cut_left is not None:
            if len(data) >= self._cut_left:
                self._pass(data[: self._cut_left])
                self._relay.reset()
                return
            self._cut_left -= len(data)
        if not self._queue and not self._link.delays:
            self._pass(data)
            return
        now = time.monotonic()
        rate = self._link.bytes_per_s
        size = len(data) if rate is None else max(1, int(rate / _PIECES_PER_S))
        for start in range(0, len(data), size):
            self._enqueue(data[start : start + size], now)
        self.drain()

    def end(self) -> None:
        """Take the end of the stream."""
        self._has_ended = True
        self._enqueue(_END, time.monotonic() + self._link.slow_close_s)
        self.drain()

    def set_full(self, *, is_full: bool) -> None:
        """Hear whether the sink takes no more."""
        self._is_full = is_full
        self.drain()

    def drain(self) -> None:
        """Pass on what is due, and come again for the rest."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        queue = self._queue
        while queue and self._is_open:
            due, piece = queue[0]
            wait_s = due - time.monotonic()
            if wait_s > 0:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(wait_s, self.drain)
                break
            queue.popleft()
            self._queued_bytes -= 0 if piece is None else len(piece)
            self._pass(piece)
        self._listen()

    def stop(self) -> None:
        """Forget what waits, and pass nothing more."""
        self._queue.clear()
        self._queued_bytes = 0
        self.source = self.sink = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def _is_open(self) -> bool:
        return (
            self.sink is not None and not self._is_full and not self._link.is_black_hole
        )

    def _pass(self, piece: bytes | None) -> None:
        sink = self.sink
        if sink is None or sink.is_closing():
            return
        if piece is not None:
            self.bytes += len(piece)
            sink.write(piece)
            return
        # The socket may be gone already, which its own callback tells.
        with contextlib.suppress(OSError):
            sink.write_eof()
        self.is_ended = True
        self._relay.ended()

    def _enqueue(self, piece: bytes | None, now: float) -> None:
        link = self._link
        due = now
        size = 0 if piece is None else len(piece)
        if link.bytes_per_s is not None:
            begun = max(self._free_at, now)
            due = self._free_at = begun + size / link.bytes_per_s
        due += link.latency_s
        if link.jitter_s:
            # A stream keeps its order: who draws less waits behind who drew more.
            due += self._relay.hub.rng.uniform(0, link.jitter_s)
        self._queue.append((due, piece))
        self._queued_bytes += size

    def _listen(self) -> None:
        """Read from the source exactly while its bytes can go somewhere."""
        source = self.source
        # A transport that is resumed after the end of its stream tells it once more.
        if source is None or source.is_closing() or self._has_ended:
            return
        if self._is_open and self._queued_bytes < _WINDOW_BYTES:
            source.resume_reading()
        else:
            source.pause_reading()


class _Side(asyncio.Protocol):
    """One of the two sockets: feeds a lane, and is the end of the other one."""

    def __init__(self, relay: Relay, *, inward: Lane, outward: Lane) -> None:
        self.inward = inward
        self.outward = outward
        self.transport: asyncio.Transport | None = None
        self._relay = relay

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._relay.made(self)

    def data_received(self, data: bytes) -> None:
        self._relay.heard(self, data)
        self.inward.feed(data)

    def eof_received(self) -> bool:
        self.inward.end()
        # The other direction goes on.
        return True

    def pause_writing(self) -> None:
        self.outward.set_full(is_full=True)

    def resume_writing(self) -> None:
        self.outward.set_full(is_full=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._relay.lost(self, exc)

    def pause(self) -> None:
        """Read nothing more."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def close(self) -> None:
        """Close once all is written."""
        if self.transport is not None:
            self.transport.close()

    def reset(self) -> None:
        """Cut with a reset: what was not delivered yet is lost."""
        if self.transport is None:
            return
        # The kernel answers the close of a lingering socket with a reset.
        socket_ = self.transport.get_extra_info("socket")
        socket_.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()
