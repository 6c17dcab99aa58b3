"""Detectors: they watch a running process and name the line, not only the damage.

Pure: no network, no database, no web framework. Each is a ``Detector``; the hosted
service's processes and the pytest plugin start those that were asked for.
"""

from test_framework.detect.detector import Detector

__all__ = ["Detector"]
