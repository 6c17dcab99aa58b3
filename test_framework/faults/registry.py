"""All faults by name, and the choice among them."""

from collections.abc import Callable, Mapping

from test_framework.core import UsageError
from test_framework.faults.clients import CancelledRequests, DroppedSockets
from test_framework.faults.fault import Fault
from test_framework.faults.network import (
    HalfOpen,
    NarrowNetwork,
    OneWayPartition,
    Partition,
    ResetConnections,
    SlowNetwork,
)
from test_framework.faults.postgres import (
    FullDisk,
    FullPool,
    FullPostgres,
    TerminateBackends,
)
from test_framework.faults.redis_server import KillRedisClients, PauseRedis
from test_framework.faults.restarts import LoseRedis, RestartPostgres, RestartRedis
from test_framework.faults.workers import ClockJump, KillWorker, StopWorker, jump_back

FAULTS: Mapping[str, Callable[[], Fault]] = {
    "cancelled-requests": CancelledRequests,
    "dropped-sockets": DroppedSockets,
    "kill-worker": KillWorker,
    "stop-worker": StopWorker,
    "clock-jump": ClockJump,
    "clock-jump-back": jump_back,
    "terminate-backends": TerminateBackends,
    "full-pool": FullPool,
    "full-postgres": FullPostgres,
    "full-disk": FullDisk,
    "restart-postgres": RestartPostgres,
    "redis-client-kill": KillRedisClients,
    "redis-pause": PauseRedis,
    "restart-redis": RestartRedis,
    "lose-redis": LoseRedis,
    "slow-network": SlowNetwork,
    "narrow-network": NarrowNetwork,
    "reset-connections": ResetConnections,
    "half-open": HalfOpen,
    "partition": Partition,
    "partition-one-way": OneWayPartition,
}
"""What makes each fault, by its name, those of clients first, then of workers, servers and the network."""


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
