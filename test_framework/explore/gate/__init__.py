"""Exploration over real sockets: requests leave one at a time, as the schedule says.

``GateLoop`` runs a scenario over the real clients of Postgres, Redis, HTTP and
WebSocket. Not for races inside of a server between requests that it works on at once.
"""

from test_framework.explore.gate.digest import run_digest
from test_framework.explore.gate.loop import GateLoop
from test_framework.explore.gate.probing import (
    Connection,
    Probe,
    Waits,
    watch_waits,
)

__all__ = [
    "Connection",
    "GateLoop",
    "Probe",
    "Waits",
    "run_digest",
    "watch_waits",
]
