"""Disturbances of real services that strike and heal, alone or by a nemesis.

Requests that are hung up, workers that are killed or stopped, sessions that a server
ends, servers that restart, and a network that is slow, narrow, parted or cut.
"""

from test_framework.faults.clients import (
    POINTS,
    CancelledRequests,
    DroppedSockets,
    Point,
)
from test_framework.faults.fault import Fault, striking
from test_framework.faults.field import Field
from test_framework.faults.link import CLEAR, Link
from test_framework.faults.network import (
    HalfOpen,
    NarrowNetwork,
    NetworkFault,
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
from test_framework.faults.proxy import Connection, Counts, Proxy, proxying
from test_framework.faults.redis_server import KillRedisClients, PauseRedis
from test_framework.faults.registry import FAULTS, chosen
from test_framework.faults.restarts import LoseRedis, RestartPostgres, RestartRedis
from test_framework.faults.workers import ClockJump, KillWorker, StopWorker

__all__ = [
    "CLEAR",
    "FAULTS",
    "POINTS",
    "CancelledRequests",
    "ClockJump",
    "Connection",
    "Counts",
    "DroppedSockets",
    "Fault",
    "Field",
    "FullDisk",
    "FullPool",
    "FullPostgres",
    "HalfOpen",
    "KillRedisClients",
    "KillWorker",
    "Link",
    "LoseRedis",
    "NarrowNetwork",
    "NetworkFault",
    "OneWayPartition",
    "Partition",
    "PauseRedis",
    "Point",
    "Proxy",
    "ResetConnections",
    "RestartPostgres",
    "RestartRedis",
    "SlowNetwork",
    "StopWorker",
    "TerminateBackends",
    "chosen",
    "proxying",
    "striking",
]
