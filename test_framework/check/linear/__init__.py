"""Linearizability: did each operation seem to happen at one instant between its ends?

Registers, locks, counters, sets and queues whose values are distinct are decided by
sorting; a history of any model is searched (``search``), object by object. What cannot
be decided within the limits is ``unknown``, never a guess.
"""

from test_framework.check.linear.calls import Call
from test_framework.check.linear.columns import CallLog
from test_framework.check.linear.judge import (
    MODELS,
    Limits,
    check_linearizability,
    guess_model,
)
from test_framework.check.linear.models import (
    ANY,
    ILLEGAL,
    CasRegister,
    Counter,
    DistinctSet,
    Foreseeing,
    KeyValue,
    Lease,
    Model,
    Mutex,
    Queue,
    Register,
)

__all__ = [
    "ANY",
    "ILLEGAL",
    "MODELS",
    "Call",
    "CallLog",
    "CasRegister",
    "Counter",
    "DistinctSet",
    "Foreseeing",
    "KeyValue",
    "Lease",
    "Limits",
    "Model",
    "Mutex",
    "Queue",
    "Register",
    "check_linearizability",
    "guess_model",
]
