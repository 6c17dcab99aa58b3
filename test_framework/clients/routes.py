"""The ways a request can travel to the service: directly, or shared with others.

Measured on 38 released isolation bugs, the shape of the traffic finds what more
users do not: a defect that is invisible while every user has an own connection
shows at once when a load balancer carries several users over one. The proxies here
are in process and speak to the service over real connections; the users hand them
their requests by a call, which is all that a reverse proxy's other side would add.
"""

import asyncio
import os
import random
import ssl
from dataclasses import dataclass
from urllib.parse import SplitResult

from test_framework.clients.caching import CachingRoute
from test_framework.clients.passage import Passage, Route, WireRequest
from test_framework.clients.wire import SERVER_ERROR, Exchange, Wire
from test_framework.core import TargetError

__all__ = [
    "Address",
    "CachingRoute",
    "DirectRoute",
    "Passage",
    "Route",
    "SharedRoute",
    "WireRequest",
]


@dataclass(frozen=True, slots=True)
class Address:
    """Where the service listens.

    Attributes:
        host: Name or address.
        port: TCP port.
        tls: Shared context for https, None for http; one context serves all users,
            because loading the certificate store costs 20 ms each time.
        prefix: Path in front of every request path, without a final slash.
        behind: How the caller knows the service, when a proxy of ours stands before it.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None
    prefix: str
    behind: str | None = None

    @classmethod
    def of(
        cls,
        url: SplitResult,
        tls: ssl.SSLContext | None,
        *,
        behind: str | None = None,
    ) -> "Address":
        """Return the address of a split http or https URL.

        Raises:
            ValueError: The port is no TCP port.
        """
        port = url.port or (443 if url.scheme == "https" else 80)
        return cls(url.hostname or "", port, tls, url.path.rstrip("/"), behind)

    @property
    def _shown(self) -> str:
        return self.behind or f"{self.host}:{self.port}"

    async def connect(self) -> Wire:
        """Open a connection.

        Raises:
            TargetError: Nobody answers there.
        """
        try:
            return await Wire.open(self.host, self.port, tls=self.tls)
        except ssl.SSLCertVerificationError as exc:
            message = (
                f"The certificate of {self._shown} is not trusted "
                f"({exc.verify_message}). Name its authority in SSL_CERT_FILE, or "
                "point --target at http."
            )
            raise TargetError(message) from exc
        except (OSError, UnicodeError) as exc:  # a name that cannot be one: the latter
            reason = _reason(exc)
            message = (
                f"The service at {self._shown} does not accept connections "
                f"({reason}). Start it, or correct --target."
            )
            raise TargetError(message) from exc


def _reason(exc: OSError | UnicodeError) -> str:
    if isinstance(exc, ConnectionError) and exc.errno:
        # asyncio's own words name the address it tried, which may be a proxy's.
        return os.strerror(exc.errno)
    return getattr(exc, "strerror", None) or str(exc) or "no answer in time"


class DirectRoute:
    """Own connections: one user's requests never share a connection with another's."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._idle: list[Wire] = []
        self._open: set[Wire] = set()

    async def start(self, request: WireRequest) -> Passage:
        """Send over an idle own connection, or a new one."""
        wire = await self._take()
        exchange = wire.send(request.head, request.body, hold=request.hold)

        def give_back(exchange: Exchange) -> None:
            if (
                exchange.is_complete
                and not wire.is_closed
                and exchange.status < SERVER_ERROR
            ):
                self._idle.append(wire)
            else:
                wire.abort()
                self._open.discard(wire)

        return Passage(exchange, give_back)

    async def warm(self) -> None:
        """Open a connection ahead of a burst, unless an idle one is fresh."""
        self._idle.append(await self._take())

    async def _take(self) -> Wire:
        while self._idle:
            wire = self._idle.pop()
            if wire.is_fresh:
                return wire
            wire.close()
            self._open.discard(wire)
        wire = await self._address.connect()
        # Those that the service has closed since are not kept in memory.
        self._open = {other for other in self._open if not other.is_closed}
        self._open.add(wire)
        return wire

    def close(self) -> None:
        """Close every own connection."""
        for wire in self._open:
            wire.close()
        self._open.clear()
        self._idle.clear()


class SharedRoute:
    """A reverse proxy: all users' requests over a few kept-alive connections.

    Some requests are pipelined behind another user's, as proxies and HTTP
    libraries that predate HTTP/2 do.

    Args:
        address: Where the service listens.
        size: Upstream connections (count, >= 1).
        rng: Decides which requests are pipelined.
        pipelining: Probability in [0, 1] of joining a busy connection.
    """

    def __init__(
        self,
        address: Address,
        *,
        size: int,
        rng: random.Random,
        pipelining: float = 0.15,
    ) -> None:
        self._address = address
        self._rng = rng
        self._pipelining = pipelining
        # Last in, first out, like nginx: the warmest connection is used again.
        self._slots: asyncio.LifoQueue[Wire | None] = asyncio.LifoQueue()
        for _ in range(size):
            self._slots.put_nowait(None)
        # How many passages travel on each; the last one gives the slot back.
        self._busy: dict[Wire, int] = {}
        self.pipelined = 0
        self.requests = 0

    async def start(self, request: WireRequest) -> Passage:
        """Send over a shared connection; may wait for a free one."""
        self.requests += 1
        wire = self._behind_another() if not request.hold else None
        if wire is None:
            wire = await self._take()
        else:
            self.pipelined += 1
        try:
            exchange = wire.send(request.head, request.body, hold=request.hold)
        except BaseException:
            if wire not in self._busy:
                self._slots.put_nowait(None)
            raise
        self._busy[wire] = self._busy.get(wire, 0) + 1

        def give_back(exchange: Exchange) -> None:
            if not exchange.is_complete:
                exchange.abort()
            self._busy[wire] -= 1
            if self._busy[wire] == 0:
                del self._busy[wire]
                is_spent = wire.is_closed or exchange.status >= SERVER_ERROR
                if is_spent:
                    wire.close()
                self._slots.put_nowait(None if is_spent else wire)

        return Passage(exchange, give_back)

    def _behind_another(self) -> Wire | None:
        """Return a busy connection to pipeline on, or None when the dice say no."""
        if not self._busy or self._rng.random() >= self._pipelining:
            return None
        wire = self._rng.choice(list(self._busy))
        return wire if wire.can_pipeline else None

    async def _take(self) -> Wire:
        """Wait for a slot and return its connection, a new one if it has none."""
        wire = await self._slots.get()
        if wire is not None:
            if wire.is_fresh:
                return wire
            wire.close()
        try:
            return await self._address.connect()
        except BaseException:
            self._slots.put_nowait(None)
            raise

    def close(self) -> None:
        """Close the idle upstream connections and cut the busy ones."""
        while not self._slots.empty():
            wire = self._slots.get_nowait()
            if wire is not None:
                wire.close()
        for wire in self._busy:
            wire.abort()
