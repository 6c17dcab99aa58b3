"""What travels to the service, and how: a request, a route, a passage on it.

The routes themselves stand in ``routes`` and ``caching``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from test_framework.clients.wire import Exchange


@dataclass(frozen=True, slots=True)
class WireRequest:
    """A request as bytes, and what a proxy needs to know of it.

    Attributes:
        method: ``GET``, ``POST``, ...
        target: Path and query as sent.
        head: Request line and headers with the empty line.
        body: The body, empty for none.
        headers: Header pairs, names in lower case.
        hold: Keep the last byte back until the exchange is released.
    """

    method: str
    target: str
    head: bytes
    body: bytes
    headers: tuple[tuple[str, str], ...]
    hold: bool = False


class Route(Protocol):
    """A way to the service."""

    async def start(self, request: WireRequest) -> "Passage":
        """Send the request and return its passage.

        Raises:
            TargetError: The service does not accept connections.
        """
        ...

    def close(self) -> None:
        """Close every connection of the route."""
        ...


class Passage:
    """One request under way on a route; ``done`` gives its connection back."""

    __slots__ = ("_on_done", "exchange", "is_cached")

    def __init__(
        self,
        exchange: Exchange,
        on_done: Callable[[Exchange], None] | None = None,
        *,
        is_cached: bool = False,
    ) -> None:
        self.exchange = exchange
        self.is_cached = is_cached
        self._on_done = on_done

    def done(self) -> None:
        """Return the connection; one with an unread answer is cut instead."""
        on_done, self._on_done = self._on_done, None
        if on_done is not None:
            on_done(self.exchange)
