"""Disturbances of real services that strike and heal, alone or by a nemesis.

Requests that are hung up, workers that are killed or stopped, sessions that a server
ends, servers that restart, and a network that is slow, narrow, parted or cut.
"""

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
from test_framework.faults.proxy import Connection, Counts, Proxy, proxying
from test_framework.faults.registry import FAULTS, chosen

__all__ = [
    "CLEAR",
    "FAULTS",
    "Connection",
    "Counts",
    "Fault",
    "Field",
    "HalfOpen",
    "Link",
    "NarrowNetwork",
    "NetworkFault",
    "OneWayPartition",
    "Partition",
    "Proxy",
    "ResetConnections",
    "SlowNetwork",
    "chosen",
    "proxying",
    "striking",
]
