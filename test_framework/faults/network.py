"""A bad network: what the proxies of a field can do to what passes through them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from test_framework.core import UsageError
from test_framework.faults.link import CLEAR, Link

if TYPE_CHECKING:
    from test_framework.faults.field import Field
    from test_framework.faults.proxy import Proxy

Place = Literal["database", "redis", "service"]
"""Where a proxy stands: before Postgres, before Redis, before the service."""

BEHIND: tuple[Place, ...] = ("database", "redis")
"""Between the service and what it uses."""

EVERYWHERE: tuple[Place, ...] = ("database", "redis", "service")


class NetworkFault(ABC):
    """A disturbance of connections through the proxies of the field."""

    name: ClassVar[str]
    promise: ClassVar[str]

    def __init__(self, places: Sequence[Place]) -> None:
        """Disturb what passes at these places, where the field has a proxy there.

        Raises:
            UsageError: A place is unknown, or none is given.
        """
        unknown = [place for place in places if place not in EVERYWHERE]
        if unknown or not places:
            message = f"places={places!r}: name one or more of {', '.join(EVERYWHERE)}."
            raise UsageError(message)
        self.places = tuple(places)

    def lacks(self, field: "Field") -> str | None:
        """Return why it cannot strike: there is no proxy."""
        if self._proxies(field):
            return None
        return (
            "no proxy stands before "
            f"{' or '.join(_NAMES[place] for place in self.places)}, so the network "
            "cannot be made bad; start the service with the proxies' addresses."
        )

    async def strike(self, field: "Field") -> None:
        """Disturb each of the proxies."""
        for place, proxy in self._proxies(field):
            self.disturb(place, proxy, field)

    async def heal(self, field: "Field") -> None:
        """Take the disturbance back, and leave that of other faults as it is."""
        for _, proxy in self._proxies(field):
            self.calm(proxy)

    @abstractmethod
    def disturb(self, place: Place, proxy: "Proxy", field: "Field") -> None:
        """Do to one proxy what the fault does."""

    @abstractmethod
    def calm(self, proxy: "Proxy") -> None:
        """Take back what lasts of it."""

    def _proxies(self, field: "Field") -> "list[tuple[Place, Proxy]]":
        at: dict[Place, Proxy | None] = {
            "database": field.database_proxy,
            "redis": field.redis_proxy,
            "service": field.service_proxy,
        }
        return [
            (place, proxy) for place in self.places if (proxy := at[place]) is not None
        ]


class LinkFault(NetworkFault):
    """A disturbance that lasts: links are worse in both directions."""

    def __init__(self, places: Sequence[Place], **fields: Any) -> None:  # noqa: ANN401  # those of Link
        """Give the links at these places other values in some fields of ``Link``."""
        super().__init__(places)
        # Made once here, so that a value that cannot be is refused at once.
        self.link = Link(**fields)
        self._worse = fields
        self._clear = {name: getattr(CLEAR, name) for name in fields}

    def disturb(self, place: Place, proxy: "Proxy", field: "Field") -> None:  # noqa: ARG002  # of NetworkFault
        """Make both directions worse."""
        proxy.alter(up=self._worse, down=self._worse)

    def calm(self, proxy: "Proxy") -> None:
        """Make them well again."""
        proxy.alter(up=self._clear, down=self._clear)


class SlowNetwork(LinkFault):
    """Every byte comes late, and not always by as much."""

    name = "slow-network"
    promise = "Answers come late, and are right and whole."

    def __init__(
        self,
        places: Sequence[Place] = EVERYWHERE,
        *,
        latency_s: float = 0.05,
        jitter_s: float = 0.05,
    ) -> None:
        """Delay both directions by ``latency_s`` and up to ``jitter_s`` more."""
        super().__init__(places, latency_s=latency_s, jitter_s=jitter_s)


class NarrowNetwork(LinkFault):
    """Each connection passes few bytes in a second."""

    name = "narrow-network"
    promise = (
        "Large answers come slowly and whole, and slow readers hold up nobody else."
    )

    def __init__(
        self, places: Sequence[Place] = EVERYWHERE, *, bytes_per_s: float = 20_000
    ) -> None:
        """Limit each direction of each connection to ``bytes_per_s``."""
        super().__init__(places, bytes_per_s=bytes_per_s)


class Partition(LinkFault):
    """Bytes neither pass nor are refused, in both directions."""

    name = "partition"
    promise = (
        "Requests end in bounded time, with an answer or an error that says to come "
        "again, and none is acknowledged that was not done."
    )

    def __init__(self, places: Sequence[Place] = BEHIND) -> None:
        """Part the service from what is at ``places``."""
        super().__init__(places, is_black_hole=True)


class OneWayPartition(LinkFault):
    """Bytes pass in one direction only: requests arrive whose answers are lost."""

    name = "partition-one-way"
    promise = (
        "Requests end in bounded time, and what may have been done is not done twice."
    )

    def __init__(
        self,
        places: Sequence[Place] = BEHIND,
        *,
        lost: Literal["up", "down"] | None = None,
    ) -> None:
        """Lose what goes to the server (up) or comes from it (down).

        Args:
            places: Where.
            lost: Which way; None draws one at each place.
        """
        super().__init__(places, is_black_hole=True)
        self.lost = lost

    def disturb(self, place: Place, proxy: "Proxy", field: "Field") -> None:  # noqa: ARG002  # of NetworkFault
        """Swallow one direction."""
        if (self.lost or field.rng.choice(("up", "down"))) == "up":
            proxy.alter(up={"is_black_hole": True})
        else:
            proxy.alter(down={"is_black_hole": True})


class ResetConnections(NetworkFault):
    """Every connection is cut with a reset at one instant."""

    name = "reset-connections"
    promise = "What was under way may fail; what is sent afterwards succeeds at once."

    def __init__(self, places: Sequence[Place] = EVERYWHERE) -> None:
        """Cut what passes at ``places``."""
        super().__init__(places)

    def disturb(self, place: Place, proxy: "Proxy", field: "Field") -> None:  # noqa: ARG002  # of NetworkFault
        """Cut both sides of each connection."""
        proxy.reset()

    def calm(self, proxy: "Proxy") -> None:
        """Do nothing: connections are new."""


class HalfOpen(NetworkFault):
    """The peer of each connection is gone without a word, as after a power cut.

    Before Postgres and Redis the server is gone, before the service its users are.
    New connections are served as ever.
    """

    name = "half-open"
    promise = (
        "Connections to a peer that is gone are given up in bounded time, and what they "
        "held is free again."
    )

    def __init__(self, places: Sequence[Place] = EVERYWHERE) -> None:
        """Strand what passes at ``places``."""
        super().__init__(places)

    def disturb(self, place: Place, proxy: "Proxy", field: "Field") -> None:  # noqa: ARG002  # of NetworkFault
        """Strand each open connection."""
        proxy.strand(gone="client" if place == "service" else "server")

    def calm(self, proxy: "Proxy") -> None:
        """Reset what is stranded, as a host does that comes back and knows nothing."""
        proxy.release()


_NAMES: dict[Place, str] = {
    "database": "Postgres",
    "redis": "Redis",
    "service": "the service",
}
