"""Checkers over finished histories, and the judge that makes a verdict of them.

Pure: they read a history and nothing else, so a stored one can be judged again.
"""

from test_framework.check.baseline import (
    Baseline,
    Timings,
    compare_baselines,
    take_baseline,
)
from test_framework.check.conduct import (
    check_bystanders,
    check_expectations,
    check_identifiers,
    check_once,
    check_residue,
)
from test_framework.check.contamination import check_contamination
from test_framework.check.convoys import find_convoys
from test_framework.check.delivery import check_delivery
from test_framework.check.evidence import (
    BurstEvidence,
    Cell,
    Evidence,
    ShapeEvidence,
    weigh,
)
from test_framework.check.faults import (
    PROMISES,
    Endured,
    Measured,
    check_faults,
    check_writes,
    find_slow_recoveries,
    measure_faults,
)
from test_framework.check.floors import check_floors, find_quick
from test_framework.check.judge import CHECKERS, Judgement, judge
from test_framework.check.rules import RULES, Rule, rule
from test_framework.check.sighting import Sighting
from test_framework.check.timing import (
    Latency,
    check_gates,
    check_slowed,
    measure_latencies,
)

__all__ = [
    "CHECKERS",
    "PROMISES",
    "RULES",
    "Baseline",
    "BurstEvidence",
    "Cell",
    "Endured",
    "Evidence",
    "Judgement",
    "Latency",
    "Measured",
    "Rule",
    "ShapeEvidence",
    "Sighting",
    "Timings",
    "check_bystanders",
    "check_contamination",
    "check_delivery",
    "check_expectations",
    "check_faults",
    "check_floors",
    "check_gates",
    "check_identifiers",
    "check_once",
    "check_residue",
    "check_slowed",
    "check_writes",
    "compare_baselines",
    "find_convoys",
    "find_quick",
    "find_slow_recoveries",
    "judge",
    "measure_faults",
    "measure_latencies",
    "rule",
    "take_baseline",
    "weigh",
]
