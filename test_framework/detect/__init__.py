"""Detectors: they watch a running process and name the line, not only the damage.

Pure: no network, no database, no web framework. Each is a ``Detector``; the hosted
service's processes and the pytest plugin start those that were asked for.
"""

from test_framework.detect.detector import Detector, Identifying
from test_framework.detect.registry import (
    DETECTORS,
    make_detector,
    require_detectors,
    start_detectors,
)
from test_framework.detect.scope import current_operation, operation_scope

__all__ = [
    "DETECTORS",
    "Detector",
    "Identifying",
    "current_operation",
    "make_detector",
    "operation_scope",
    "require_detectors",
    "start_detectors",
]
