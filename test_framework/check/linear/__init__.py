"""Linearizability: did each operation seem to happen at one instant between its ends?

A history of any model is searched (``search``), key by key; what cannot be decided
within the limits is ``unknown``, never a guess.
"""

from test_framework.check.linear.calls import Call
from test_framework.check.linear.judge import (
    Limits,
    Linearizability,
    check_linearizability,
)
from test_framework.check.linear.models import (
    ILLEGAL,
    CasRegister,
    KeyValue,
    Model,
    Mutex,
    Register,
)

__all__ = [
    "ILLEGAL",
    "Call",
    "CasRegister",
    "KeyValue",
    "Limits",
    "Linearizability",
    "Model",
    "Mutex",
    "Register",
    "check_linearizability",
]
