"""Users, what they do, and how their requests travel: a run as a history."""

from test_framework.clients.websocket import Events, EventTimeoutError
from test_framework.swarm.audit import run_audit
from test_framework.swarm.plan import FAULT_SECONDS, LIMITS, SHAPES, Plan, load_plan
from test_framework.swarm.progress import Progress, Silence
from test_framework.swarm.target import Target
from test_framework.swarm.user import ExpectationError, User

__all__ = [
    "FAULT_SECONDS",
    "LIMITS",
    "SHAPES",
    "EventTimeoutError",
    "Events",
    "ExpectationError",
    "Plan",
    "Progress",
    "Silence",
    "Target",
    "User",
    "load_plan",
    "run_audit",
]
