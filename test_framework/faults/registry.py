"""All faults by name, and the choice among them."""

from collections.abc import Callable, Mapping

from test_framework.core import UsageError
from test_framework.faults.fault import Fault
from test_framework.faults.network import (
    HalfOpen,
    NarrowNetwork,
    OneWayPartition,
    Partition,
    ResetConnections,
    SlowNetwork,
)

FAULTS: Mapping[str, Callable[[], Fault]] = {
    "slow-network": SlowNetwork,
    "narrow-network": NarrowNetwork,
    "reset-connections": ResetConnections,
    "partition": Partition,
    "partition-one-way": OneWayPartition,
    "half-open": HalfOpen,
}
"""What makes each fault, by its name, from those of clients to those of servers."""


def chosen(names: str) -> list[Fault]:
    """Return faults, new ones, in the order of ``FAULTS``.

    Args:
        names: ``all``, or names with commas between them.

    Raises:
        UsageError: A name is unknown, or there is none.
    """
    if names.strip() == "all":
        return [make() for make in FAULTS.values()]
    wanted = [word.strip() for word in names.split(",") if word.strip()]
    unknown = [word for word in wanted if word not in FAULTS]
    if unknown or not wanted:
        message = (
            f"{', '.join(unknown) or names!r} is no fault. Choose from all, "
            f"{', '.join(FAULTS)}."
        )
        raise UsageError(message)
    return [make() for name, make in FAULTS.items() if name in wanted]
