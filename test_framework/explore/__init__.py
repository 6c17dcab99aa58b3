"""Explore the schedules of an asyncio program: deterministic, replayable, shrunk.

``explore(scenario)`` runs an async test under thousands of orders of its tasks, and
says FOUND with the shortest schedule that breaks it, PROVEN when all orders were run,
SAMPLED when some were, INCONCLUSIVE when the scenario cannot be explored.

Not for data races between threads, nor for what happens inside of other processes.
"""

from test_framework.explore.asgi import Asgi
from test_framework.explore.explorer import Outcome, explore, replay
from test_framework.explore.failures import Failure
from test_framework.explore.loader import (
    find_scenarios,
    load_scenario,
    marked_options,
    read_schedule,
)
from test_framework.explore.pools import watch_pool
from test_framework.explore.reduction import access, shared
from test_framework.explore.report import (
    Conclusion,
    Line,
    Listener,
    Progress,
    Report,
    Witness,
    as_test,
)
from test_framework.explore.scenario import Scenario, external, invariant
from test_framework.explore.schedule import (
    Backwards,
    Cancel,
    Disconnect,
    Expire,
    Fault,
    Fidelity,
    Interrupt,
    Raise,
    Schedule,
    Segment,
)

__all__ = [
    "Asgi",
    "Backwards",
    "Cancel",
    "Conclusion",
    "Disconnect",
    "Expire",
    "Failure",
    "Fault",
    "Fidelity",
    "Interrupt",
    "Line",
    "Listener",
    "Outcome",
    "Progress",
    "Raise",
    "Report",
    "Scenario",
    "Schedule",
    "Segment",
    "Witness",
    "access",
    "as_test",
    "explore",
    "external",
    "find_scenarios",
    "invariant",
    "load_scenario",
    "marked_options",
    "read_schedule",
    "replay",
    "shared",
    "watch_pool",
]
