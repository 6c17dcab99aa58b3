"""A TCP proxy in this process whose network can be made bad while it is used.

It listens on a free port of loopback in front of one server and passes bytes on as they
are, TLS too. It runs in a thread and a loop of its own, so that a service can use it
before and after the loop of an audit runs, and every method may be called from any
thread. Nothing of it is left when the block ends: no thread, task or socket.

What it cannot do: its own kernel accepts connections and acknowledges bytes, so in a
black hole a connect succeeds and then hears nothing, where on a real network it would
not return. Keepalive probes of TCP are answered for the same reason.
"""

import asyncio
import concurrent.futures
import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar
from urllib.parse import SplitResult, urlsplit

from test_framework.core import InternalError, TargetError, UsageError
from test_framework.faults.link import CLEAR, Link
from test_framework.faults.relay import Relay

_HOST = "127.0.0.1"
_BACKLOG = 4096
_PORTS = {
    "http": 80,
    "https": 443,
    "postgres": 5432,
    "postgresql": 5432,
    "redis": 6379,
    "rediss": 6379,
}
_CONNECT_LIMIT_S = 60.0
"""How long to wait is the client's to say."""
_ANSWER_LIMIT_S = 30.0

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Connection:
    """An open connection, as it was a moment ago.

    Attributes:
        head: The first bytes that the client sent (at most 1,024).
        age_s: Seconds since it was accepted.
        server_port: The proxy's own port on its way to the server, by which the server
            knows the connection; 0 while not connected.
        bytes_up: Bytes passed to the server.
        bytes_down: Bytes passed to the client.
    """

    head: bytes
    age_s: float
    server_port: int
    bytes_up: int
    bytes_down: int

    @property
    def is_websocket(self) -> bool:
        """Whether it began with the handshake of a WebSocket."""
        return b"upgrade: websocket" in self.head.lower()


@dataclass(frozen=True, slots=True)
class Counts:
    """What went through a proxy so far.

    Attributes:
        accepted: Connections, the closed ones too.
        open: Connections that are open now.
        bytes_up: Bytes passed to the server.
        bytes_down: Bytes passed to clients.
    """

    accepted: int
    open: int
    bytes_up: int
    bytes_down: int


class Proxy:
    """A proxy that runs; made by ``proxying``.

    Attributes:
        url: Where clients find the server through it: the server's URL with the
            proxy's host and port.
        port: Its port on loopback.
    """

    def __init__(self, url: str, rng: random.Random) -> None:
        parts, self._server = _parsed(url)
        self.rng = rng
        # Holds the port while nobody listens.
        self._place = socket.socket()
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._place.bind((_HOST, 0))
        self.port: int = self._place.getsockname()[1]
        login, at, _ = parts.netloc.rpartition("@")
        self.url = parts._replace(netloc=f"{login}{at}{_HOST}:{self.port}").geturl()
        self._up = self._down = CLEAR
        self._relays: set[Relay] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepted = self._bytes_up = self._bytes_down = 0
        self._listener: asyncio.Server | None = None

    # What any thread may call.

    def set(self, *, up: Link | None = None, down: Link | None = None) -> None:
        """Make the links such, for open connections and for those to come.

        Args:
            up: From clients to the server; None leaves it as it is.
            down: From the server to clients; None leaves it as it is.
        """
        self._call(lambda: self._set(up, down))

    def alter(
        self,
        *,
        up: Mapping[str, Any] | None = None,
        down: Mapping[str, Any] | None = None,
    ) -> None:
        """Change some fields of the links and leave the others as they are.

        Args:
            up: Fields of ``Link`` by name, for what goes to the server.
            down: The same for what goes to clients.
        """
        self._call(
            lambda: self._set(
                replace(self._up, **up or {}), replace(self._down, **down or {})
            )
        )

    def clear(self) -> None:
        """Pass everything on at once again."""
        self.set(up=CLEAR, down=CLEAR)

    def refuse(self) -> None:
        """Refuse connections from now on; those that are open stay."""
        self._call(self._refuse)

    def accept(self) -> None:
        """Accept connections again."""
        self._run(self._accept)

    def reset(self, where: Callable[[Connection], bool] | None = None) -> int:
        """Cut open connections with a reset on both sides.

        Args:
            where: Which of them; None cuts all.

        Returns:
            How many were cut (count).
        """
        return self._call(lambda: self._each(Relay.reset, where))

    def close(self, where: Callable[[Connection], bool] | None = None) -> int:
        """Close open connections on both sides, without a word of their protocol.

        Args:
            where: Which of them; None closes all.

        Returns:
            How many were closed (count).
        """
        return self._call(lambda: self._each(Relay.close, where))

    def strand(self, *, gone: Literal["client", "server"]) -> int:
        """Leave every open connection half open: one peer is gone without a word.

        The other peer's socket stays open and hears nothing, until ``release``.

        Args:
            gone: Who is gone.

        Returns:
            How many were stranded (count).
        """

        def strand(relay: Relay) -> None:
            relay.strand(gone=relay.client if gone == "client" else relay.server)

        return self._call(lambda: self._each(strand, None))

    def release(self) -> int:
        """Reset what was stranded, as a host does that comes back and knows nothing.

        Returns:
            How many connections that were (count).
        """

        def release() -> int:
            stranded = [relay for relay in self._relays if relay.is_stranded]
            for relay in stranded:
                relay.reset()
            return len(stranded)

        return self._call(release)

    def connections(self) -> list[Connection]:
        """Return the connections that are open now."""
        return self._call(lambda: [_seen(relay) for relay in self._relays])

    def counts(self) -> Counts:
        """Return what went through so far."""

        def count() -> Counts:
            return Counts(
                self._accepted,
                len(self._relays),
                self._bytes_up + sum(relay.up.bytes for relay in self._relays),
                self._bytes_down + sum(relay.down.bytes for relay in self._relays),
            )

        return self._call(count)

    # What relays call.

    def opened(self, relay: Relay) -> None:
        """Take note of a connection that was accepted."""
        self._accepted += 1
        self._relays.add(relay)
        self._emptied.clear()
        relay.up.change(self._up)
        relay.down.change(self._down)
        task = self._loop.create_task(self._connect(relay))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def closed(self, relay: Relay) -> None:
        """Take note that both of its sockets are gone."""
        if relay not in self._relays:
            return
        self._relays.remove(relay)
        self._bytes_up += relay.up.bytes
        self._bytes_down += relay.down.bytes
        if not self._relays:
            self._emptied.set()

    # Its thread.

    async def serve(self, ready: "concurrent.futures.Future[None]") -> None:
        """Run until ``end``; for ``proxying``."""
        self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()
        self._passing = asyncio.Event()
        self._passing.set()
        self._emptied = asyncio.Event()
        self._emptied.set()
        try:
            await self._accept()
            ready.set_result(None)
            await self._ending.wait()
        except OSError as exc:
            ready.set_exception(exc)
        finally:
            self._refuse()
            self._place.close()
            for relay in list(self._relays):
                relay.reset()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._emptied.wait()

    def end(self) -> None:
        """Close everything; for ``proxying``."""
        self._loop.call_soon_threadsafe(self._ending.set)

    def _set(self, up: Link | None, down: Link | None) -> None:
        self._up = self._up if up is None else up
        self._down = self._down if down is None else down
        if self._up.is_black_hole:
            self._passing.clear()
        else:
            self._passing.set()
        for relay in list(self._relays):
            if up is not None:
                relay.up.change(up)
            if down is not None:
                relay.down.change(down)

    async def _accept(self) -> None:
        if self._listener is not None:
            return
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            listener.bind((_HOST, self.port))
            self._listener = await self._loop.create_server(
                lambda: Relay(self).client, sock=listener, backlog=_BACKLOG
            )
        except OSError:
            listener.close()
            raise

    def _refuse(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _connect(self, relay: Relay) -> None:
        """Reach the server for a client; one that cannot be reached resets it."""
        try:
            await self._passing.wait()
            async with asyncio.timeout(_CONNECT_LIMIT_S):
                await self._loop.create_connection(lambda: relay.server, *self._server)
        except OSError:
            relay.reset()
            return
        if relay.client.transport is None or relay.is_stranded:
            relay.server.reset()

    def _each(
        self, do: Callable[[Relay], None], where: Callable[[Connection], bool] | None
    ) -> int:
        chosen = [
            relay
            for relay in self._relays
            if not relay.is_stranded and (where is None or where(_seen(relay)))
        ]
        for relay in chosen:
            do(relay)
        return len(chosen)

    def _call(self, function: Callable[[], _Answer]) -> _Answer:
        async def call() -> _Answer:
            return function()

        return self._run(call)

    def _run(self, function: Callable[[], Coroutine[Any, Any, _Answer]]) -> _Answer:
        work = function()
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError as exc:
            work.close()
            message = (
                f"The proxy on port {self.port} has ended. Use it inside its block."
            )
            raise UsageError(message) from exc
        try:
            return future.result(_ANSWER_LIMIT_S)
        except TimeoutError as exc:
            message = f"The proxy on port {self.port} does not answer."
            raise InternalError(message) from exc


@contextlib.contextmanager
def proxying(url: str, *, rng: random.Random | None = None) -> Iterator[Proxy]:
    """Yield a proxy in front of a server; close it and what it carries afterwards.

    Args:
        url: Where the server is, such as ``postgresql://user@host:5432/database``.
        rng: Draws jitter and where connections are cut; None is one that is seeded
            with 0.

    Raises:
        TargetError: No port can be listened on.
        UsageError: The URL names no host and port.
    """
    proxy = Proxy(url, rng or random.Random(0))
    ready: concurrent.futures.Future[None] = concurrent.futures.Future()
    thread = threading.Thread(
        target=lambda: asyncio.run(proxy.serve(ready)),
        name=f"fault-proxy-{proxy.port}",
        daemon=True,
    )
    thread.start()
    try:
        ready.result(_ANSWER_LIMIT_S)
    except OSError as exc:
        message = f"The proxy cannot listen on {_HOST}:{proxy.port}: {exc.strerror}. Run again."
        raise TargetError(message) from exc
    try:
        yield proxy
    finally:
        proxy.end()
        thread.join()


def _parsed(url: str) -> tuple[SplitResult, tuple[str, int]]:
    # The URL is not quoted: it may hold a password.
    message = (
        "A proxy stands in front of a server that is reached by TCP, and its URL names "
        "no host and port. Write it as postgresql://user@host:5432/database."
    )
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        raise UsageError(message) from None
    if not parts.hostname or port is None:
        raise UsageError(message)
    return parts, (parts.hostname, port)


def _seen(relay: Relay) -> Connection:
    return Connection(
        relay.head,
        time.monotonic() - relay.opened_s,
        relay.server_port,
        relay.up.bytes,
        relay.down.bytes,
    )
