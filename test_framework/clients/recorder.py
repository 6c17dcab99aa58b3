"""Turns what clients do into records: operations, canaries planted, canaries seen.

One recorder serves a whole run. It numbers operations, mints canaries, scans every
answer for canaries of anybody and writes the history. It keeps no bodies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from test_framework.canary import Mint, Recogniser
from test_framework.clients.endpoints import Endpoints
from test_framework.core import (
    CanaryRecord,
    Channel,
    Clock,
    History,
    Operation,
    Seen,
)

if TYPE_CHECKING:
    from test_framework.canary import Sighting

HEADERS = "headers"
"""Name of the part that holds all header lines; told apart only when one leaks."""

_BETWEEN = b"\n|\n"
"""Between two parts: no letter of any encoding, so no canary is read across it."""


@dataclass(frozen=True, slots=True)
class Part:
    """A named piece of something received: a body, a header, a column."""

    where: str
    data: bytes


class Recorder:
    """Writes the history of one run.

    Args:
        history: Where records go.
        seed: Seed of the run; canaries are derived from it.
        clock: Source of instants.
        is_tagging: Whether requests carry their operation number on the wire, so
            that the service's own processes can be asked when they ran it.
    """

    def __init__(
        self, history: History, *, seed: int, clock: Clock, is_tagging: bool
    ) -> None:
        self.history = history
        self.clock = clock
        self.is_tagging = is_tagging
        self.endpoints = Endpoints()
        self.shape = "login"
        self._mint = Mint(seed)
        self._recogniser = Recogniser(seed)
        self._minted: dict[int, int] = {}
        self._next_op = 0
        self._next_socket = 0

    def canary(self, user: int, purpose: str, *, public: bool = False) -> str:
        """Mint the next canary of ``user`` and record what it is for."""
        sequence = self._minted.get(user, 0)
        self._minted[user] = sequence + 1
        value = self._mint.mint(user, sequence)
        self.history.add(CanaryRecord(f"u{user}/{sequence}", user, purpose, public))
        return value

    def number(self) -> int:
        """Return the number of a new operation."""
        self._next_op += 1
        return self._next_op

    def socket_number(self) -> int:
        """Return the number of a new WebSocket."""
        self._next_socket += 1
        return self._next_socket

    def ids(self, data: bytes) -> tuple[str, ...]:
        """Return the ids of the canaries in something sent, each once."""
        return tuple(
            dict.fromkeys(str(found.canary) for found in self._recogniser.scan(data))
        )

    def seen(self, parts: Sequence[Part]) -> tuple[Seen, ...]:
        """Return every canary in the parts of something received."""
        # One scan for all parts: each call costs, most answers hold few canaries.
        joined = _BETWEEN.join(part.data for part in parts)
        sightings = self._recogniser.scan(joined)
        if not sightings:
            return ()
        return tuple(self._place(parts, sighting) for sighting in sightings)

    @staticmethod
    def _place(parts: Sequence[Part], sighting: "Sighting") -> Seen:
        offset = sighting.offset
        for part in parts:
            if offset < len(part.data):
                break
            offset -= len(part.data) + len(_BETWEEN)
        else:
            part, offset = parts[-1], 0
        offset = max(offset, 0)
        where = part.where
        if where == HEADERS:
            line = part.data[part.data.rfind(b"\r\n", 0, offset) + 1 :].lstrip()
            name = line.partition(b":")[0].decode("latin-1").lower()
            where = "cookie" if name == "set-cookie" else f"header {name}"
        return Seen(
            owner=sighting.canary.user,
            canary=str(sighting.canary),
            encoding=sighting.encoding,
            where=where,
            offset=offset,
        )

    def add(self, operation: Operation) -> None:
        """Write a completed operation."""
        self.history.add(operation)

    def event(  # one argument per fact of the frame
        self,
        *,
        user: int,
        channel: Channel,
        endpoint: str,
        data: bytes,
        socket: int | None,
        sequence: int | None,
        event: str | None,
    ) -> Operation:
        """Record something the service sent by itself."""
        now_ns = self.clock.now_ns()
        operation = Operation(
            index=self.number(),
            user=user,
            channel=channel,
            endpoint=endpoint,
            path=endpoint.partition(" ")[2],
            shape=self.shape,
            invoked_ns=now_ns,
            first_byte_ns=now_ns,
            completed_ns=now_ns,
            outcome="ok",
            received_bytes=len(data),
            seen=self.seen((Part("frame", data),)),
            socket=socket,
            sequence=sequence,
            event=event,
        )
        self.add(operation)
        return operation
