"""The sentinel: small audits of a live service, round after round, and its alerts.

``isolation-audit watch`` runs it; docs/sentinel.md is written for whoever operates it.
"""

from test_framework.sentinel.alerts import Alert, AlertBook, Change, Notice
from test_framework.sentinel.rounds import Round, Trouble
from test_framework.sentinel.state import Memory, StateFolder
from test_framework.sentinel.symptoms import Symptom, Tier, find_symptoms, tier_of
from test_framework.sentinel.timing import Schedule, SystemTime, Timekeeper
from test_framework.sentinel.watch import Auditor, Policy, Sentinel

__all__ = [
    "Alert",
    "AlertBook",
    "Auditor",
    "Change",
    "Memory",
    "Notice",
    "Policy",
    "Round",
    "Schedule",
    "Sentinel",
    "StateFolder",
    "Symptom",
    "SystemTime",
    "Tier",
    "Timekeeper",
    "Trouble",
    "find_symptoms",
    "tier_of",
]
