"""Isolation levels put to the test on a live Postgres, or through a service's sessions.

``run_matrix`` plays Hermitage's scenarios at each level, ``run_sessions_matrix`` plays
them through the session factory of a service, whose level, autocommit or sharing of
sessions counts as much as what the database can do. ``fingerprint`` names the level from
what load shows.
"""

from test_framework.battery.isolation.clients import load_sessions
from test_framework.battery.isolation.fingerprint import Fingerprint, fingerprint
from test_framework.battery.isolation.matrix import (
    Cell,
    Matrix,
    run_matrix,
    run_sessions_matrix,
)
from test_framework.battery.isolation.scenarios import (
    PUBLISHED,
    SCENARIOS,
    PostgresLevel,
    Scenario,
    find_scenario,
)

__all__ = [
    "PUBLISHED",
    "SCENARIOS",
    "Cell",
    "Fingerprint",
    "Matrix",
    "PostgresLevel",
    "Scenario",
    "find_scenario",
    "fingerprint",
    "load_sessions",
    "run_matrix",
    "run_sessions_matrix",
]
