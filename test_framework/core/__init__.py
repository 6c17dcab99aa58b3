"""Words of the trade: operation, history, finding, verdict, seed, clock, errors.

Standard library only; every other room stands on this one.
"""

from test_framework.core.calibration import calibrate_ms
from test_framework.core.clock import NS_PER_MS, NS_PER_S, Clock, MonotonicClock
from test_framework.core.errors import (
    InternalError,
    IsolationError,
    TargetError,
    UsageError,
)
from test_framework.core.finding import Finding
from test_framework.core.history import FORMAT, History
from test_framework.core.records import (
    AFTER_FAULT,
    UNDER_FAULT,
    VISITOR,
    AlarmRecord,
    BurstRecord,
    CallRecord,
    CanaryRecord,
    Channel,
    ComplaintRecord,
    EndRecord,
    FaultRecord,
    HandlerRecord,
    Level,
    Observation,
    Operation,
    Outcome,
    PolicyRecord,
    Record,
    ResidueRecord,
    RouteRecord,
    RunRecord,
    Seen,
    ShapeRecord,
    SurfaceRecord,
    UserRecord,
    WatchRecord,
)
from test_framework.core.seed import fresh_seed, stream
from test_framework.core.verdict import Verdict, merge

__all__ = [
    "AFTER_FAULT",
    "FORMAT",
    "NS_PER_MS",
    "NS_PER_S",
    "UNDER_FAULT",
    "VISITOR",
    "AlarmRecord",
    "BurstRecord",
    "CallRecord",
    "CanaryRecord",
    "Channel",
    "Clock",
    "ComplaintRecord",
    "EndRecord",
    "FaultRecord",
    "Finding",
    "HandlerRecord",
    "History",
    "InternalError",
    "IsolationError",
    "Level",
    "MonotonicClock",
    "Observation",
    "Operation",
    "Outcome",
    "PolicyRecord",
    "Record",
    "ResidueRecord",
    "RouteRecord",
    "RunRecord",
    "Seen",
    "ShapeRecord",
    "SurfaceRecord",
    "TargetError",
    "UsageError",
    "UserRecord",
    "Verdict",
    "WatchRecord",
    "calibrate_ms",
    "fresh_seed",
    "merge",
    "stream",
]
