"""Detectors by name, as plans and the command line have them."""

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from test_framework.core import UsageError
from test_framework.detect.detector import Detector

DETECTORS: dict[str, str] = {
    "access": "test_framework.detect.access:AccessTracker",
    "blocking": "test_framework.detect.blocking:BlockingCalls",
    "hygiene": "test_framework.clients.hygiene:PoolHygiene",
    "leaks": "test_framework.services.leaks:watch_leaks",
    "locks": "test_framework.clients.deadlocks:ServiceDeadlockWatcher",
}
"""Where each is: imported when it is asked for, since most processes need none."""


def require_detectors(names: Iterable[str]) -> None:
    """Do nothing when there is a detector of each name.

    Args:
        names: Keys of ``DETECTORS``, or ``module:Class`` of one's own.

    Raises:
        UsageError: There is none of a name.
    """
    for name in names:
        if name not in DETECTORS and ":" not in name:
            message = (
                f"{name!r} is no detector. Choose from {', '.join(sorted(DETECTORS))}, "
                "none, or name one of your own as module:Class."
            )
            raise UsageError(message)


def make_detector(name: str, options: Mapping[str, object]) -> Detector:
    """Return a detector, not yet started.

    Args:
        name: A key of ``DETECTORS``, or ``module:Class`` of one's own.
        options: Keyword arguments of its class; values of JSON.

    Raises:
        UsageError: There is none of that name, or it has no such option.
    """
    module, _, attribute = DETECTORS.get(name, name).partition(":")
    try:
        factory: Any = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as exc:
        known = ", ".join(sorted(DETECTORS))
        message = (
            f"There is no detector {name!r} ({exc}). The detectors are: {known}; one "
            "of your own is named as module:Class."
        )
        raise UsageError(message) from exc
    try:
        made: Detector = factory(**options)
    except TypeError as exc:
        message = f"Detector {name!r} does not take the options {options!r}: {exc}."
        raise UsageError(message) from exc
    return made


def start_detectors(plan: Mapping[str, Mapping[str, object]]) -> list[Detector]:
    """Make and start the detectors of a plan, in its order.

    Raises:
        UsageError: One is unknown, or cannot watch what it was asked to.
    """
    detectors = [make_detector(name, options) for name, options in plan.items()]
    for detector in detectors:
        detector.start()
    return detectors
