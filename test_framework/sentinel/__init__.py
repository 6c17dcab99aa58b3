"""The sentinel: small audits of a live service, round after round, and its alerts.

``isolation-audit watch`` runs it; docs/sentinel.md is written for whoever operates it.
"""

from test_framework.sentinel.accounts import KEY_VARIABLE, Accounts, bare_url
from test_framework.sentinel.alerts import Alert, AlertBook, Change, Notice
from test_framework.sentinel.auditing import SAFE_SHAPES, LiveAuditor
from test_framework.sentinel.forecast import Forecast, Refusal
from test_framework.sentinel.gauges import DEFAULT_MEMORY, ServiceGauges
from test_framework.sentinel.metrics import Metrics
from test_framework.sentinel.outlook import find_trends, forecast_capacity
from test_framework.sentinel.rounds import Round, Trouble
from test_framework.sentinel.state import Memory, StateFolder
from test_framework.sentinel.symptoms import Symptom, Tier, find_symptoms, tier_of
from test_framework.sentinel.timing import (
    Schedule,
    SystemTime,
    Timekeeper,
    parse_duration,
)
from test_framework.sentinel.watch import Auditor, Policy, Sentinel
from test_framework.sentinel.webhook import Courier

__all__ = [
    "DEFAULT_MEMORY",
    "KEY_VARIABLE",
    "SAFE_SHAPES",
    "Accounts",
    "Alert",
    "AlertBook",
    "Auditor",
    "Change",
    "Courier",
    "Forecast",
    "LiveAuditor",
    "Memory",
    "Metrics",
    "Notice",
    "Policy",
    "Refusal",
    "Round",
    "Schedule",
    "Sentinel",
    "ServiceGauges",
    "StateFolder",
    "Symptom",
    "SystemTime",
    "Tier",
    "Timekeeper",
    "Trouble",
    "bare_url",
    "find_symptoms",
    "find_trends",
    "forecast_capacity",
    "parse_duration",
    "tier_of",
]
