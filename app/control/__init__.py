"""Control: intents and node sets, driven from what is to what shall be by one leader."""

from app.control.controllers import Controllers
from app.control.election import Candidate, Election, Term
from app.control.elections import PostgresElection, RedisElection
from app.control.planner import (
    NODE_SET_NAME,
    Change,
    PhrasePlanner,
    PlanError,
    Planner,
)
from app.control.queue import Backoff, QueueMetrics, ShutDownError, WorkQueue
from app.control.reconcilers import Desk, reconcile

__all__ = [
    "NODE_SET_NAME",
    "Backoff",
    "Candidate",
    "Change",
    "Controllers",
    "Desk",
    "Election",
    "PhrasePlanner",
    "PlanError",
    "Planner",
    "PostgresElection",
    "QueueMetrics",
    "RedisElection",
    "ShutDownError",
    "Term",
    "WorkQueue",
    "reconcile",
]
