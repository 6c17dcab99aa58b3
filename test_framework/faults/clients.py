"""What users do to a service in the middle of a request: hang up, or vanish."""

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, get_args
from urllib.parse import urlsplit

from test_framework.core import TargetError, UsageError

if TYPE_CHECKING:
    from test_framework.faults.field import Field
    from test_framework.faults.proxy import Proxy

Point = Literal["connected", "line", "headers", "body", "sent", "answer"]
"""Where a client hangs up: before a word, within the request line, after the headers,
within the body, before the answer, within the answer."""

POINTS: tuple[Point, ...] = get_args(Point)

_UP_BYTES = (0, 16_384)
_DOWN_BYTES = (0, 65_536)
_PAUSE_S = 0.02
_ANSWER_LIMIT_S = 5.0
_RESET = struct.pack("ii", 1, 0)


class CancelledRequests:
    """Clients hang up in the middle of requests, at many points.

    Its own clients hang up at each point in turn, with a reset or in good order, which
    is drawn, until it heals. Through a proxy before the service, every connection of
    its users is reset as well, after a drawn count of bytes up or down.

    Attributes:
        hung_up: How often its own clients hung up, by point (count).
    """

    name: ClassVar[str] = "cancelled-requests"
    promise: ClassVar[str] = (
        "A request that is hung up is done or not done, never by half, and holds "
        "nothing afterwards."
    )

    def __init__(
        self,
        paths: Sequence[str] = ("/",),
        *,
        headers: Mapping[str, str] | None = None,
        clients: int = 4,
    ) -> None:
        """Hang up requests to these paths.

        Args:
            paths: Where the clients' requests go, in turn.
            headers: What they send along, such as an authorization.
            clients: How many hang up at a time (count, >= 1).
        """
        self.paths = tuple(paths)
        self.headers = dict(headers or {})
        self.clients = clients
        self.hung_up: Counter[Point] = Counter()
        self._task: asyncio.Task[None] | None = None

    def lacks(self, field: "Field") -> str | None:
        """Return why it cannot strike: nobody said where the service is."""
        if _service_url(field) is None:
            return "nobody said where the service is; name it in the field."
        return None

    async def strike(self, field: "Field") -> None:
        """Hang up once at each point, and go on; cut what passes the proxy."""
        if field.service_proxy is not None:
            field.service_proxy.alter(
                up={"cut_after_bytes": _UP_BYTES}, down={"cut_after_bytes": _DOWN_BYTES}
            )
        url = _service_url(field) or ""
        await self._hang_up_everywhere(url, field.rng)
        self._task = asyncio.create_task(self._go_on(url, field.rng))

    async def heal(self, field: "Field") -> None:
        """Leave requests alone."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if field.service_proxy is not None:
            whole = {"cut_after_bytes": None}
            field.service_proxy.alter(up=whole, down=whole)

    async def _go_on(self, url: str, rng: random.Random) -> None:
        while True:
            await asyncio.sleep(_PAUSE_S)
            # A service that is busy with another fault is tried again.
            with contextlib.suppress(TargetError):
                await self._hang_up_everywhere(url, rng)

    async def _hang_up_everywhere(self, url: str, rng: random.Random) -> None:
        for path in self.paths:
            for start in range(0, len(POINTS), self.clients):
                points = POINTS[start : start + self.clients]
                await asyncio.gather(
                    *(
                        self._hang_up(url, path, at, rng.random() < 0.5)
                        for at in points
                    )  # evenly
                )

    async def _hang_up(self, url: str, path: str, at: Point, is_reset: bool) -> None:  # noqa: FBT001  # drawn
        parts = urlsplit(url)
        try:
            async with asyncio.timeout(_ANSWER_LIMIT_S):
                reader, writer = await asyncio.open_connection(
                    parts.hostname, parts.port or 80
                )
        except OSError as exc:
            message = f"The service does not accept connections: {exc}. Start it."
            raise TargetError(message) from exc
        try:
            writer.write(self._request(path, parts.netloc, at))
            with contextlib.suppress(OSError):
                await writer.drain()
                if at == "answer":
                    async with asyncio.timeout(_ANSWER_LIMIT_S):
                        await reader.read(1)
            if is_reset:
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.hung_up[at] += 1
        finally:
            writer.transport.abort()

    def _request(self, path: str, netloc: str, at: Point) -> bytes:
        """Return a request up to where the client hangs up."""
        line = f"POST {path} HTTP/1.1\r\n".encode()
        body = b'{"text": "a client that hangs up"}'
        headers = {
            "host": netloc.rpartition("@")[2],
            "content-type": "application/json",
            "content-length": str(len(body)),
            **self.headers,
        }
        head = line + "".join(f"{k}: {v}\r\n" for k, v in headers.items()).encode()
        head += b"\r\n"
        until: dict[Point, int] = {
            "connected": 0,
            "line": len(line) // 2,
            "headers": len(head),
            "body": len(head) + len(body) // 2,
        }
        return (head + body)[: until.get(at)]


class DroppedSockets:
    """All WebSockets are cut at one instant, and again and again, without a close frame.

    Some are reset and some are closed, which is drawn: a phone without a network and a
    process that ended.

    Attributes:
        dropped: How many sockets were cut since the last strike (count).
    """

    name: ClassVar[str] = "dropped-sockets"
    promise: ClassVar[str] = (
        "Users who come back get every event once and in order, and nobody else's; the "
        "dead sockets hold nothing."
    )

    def __init__(self, *, every_s: float = 1.0) -> None:
        """Cut all that are open each ``every_s`` seconds until it heals.

        Raises:
            UsageError: ``every_s`` is not positive.
        """
        if not every_s > 0:
            message = (
                f"every_s={every_s!r}: sockets are cut every so many seconds, > 0."
            )
            raise UsageError(message)
        self.every_s = every_s
        self.dropped = 0
        self._task: asyncio.Task[None] | None = None

    def lacks(self, field: "Field") -> str | None:
        """Return why it cannot strike: no proxy carries the sockets."""
        if field.service_proxy is None:
            return (
                "no proxy stands before the service, so its WebSockets cannot be cut; "
                "lead users through one."
            )
        return None

    async def strike(self, field: "Field") -> None:
        """Cut every WebSocket that is open, and go on."""
        self.dropped = 0
        if field.service_proxy is not None:
            self._cut(field.service_proxy, field.rng)
            self._task = asyncio.create_task(self._go_on(field))

    async def heal(self, field: "Field") -> None:  # noqa: ARG002  # of Fault
        """Leave sockets alone."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _go_on(self, field: "Field") -> None:
        while field.service_proxy is not None:
            await asyncio.sleep(self.every_s)
            self._cut(field.service_proxy, field.rng)

    def _cut(self, proxy: "Proxy", rng: random.Random) -> None:
        ports = sorted(
            seen.server_port for seen in proxy.connections() if seen.is_websocket
        )
        reset = {port for port in ports if rng.random() < 0.5}  # evenly
        self.dropped += proxy.reset(
            lambda seen: seen.is_websocket and seen.server_port in reset
        )
        self.dropped += proxy.close(
            lambda seen: seen.is_websocket and seen.server_port in ports
        )


def _service_url(field: "Field") -> str | None:
    if field.service_url is not None:
        return field.service_url
    if field.host is not None:
        return field.host.url
    return None if field.service_proxy is None else field.service_proxy.url
