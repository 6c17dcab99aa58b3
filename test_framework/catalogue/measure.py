"""Measure by which means each pattern is found: the matrix pattern x means.

The explorer searches for an order that breaks the vulnerable twin. The detectors watch
some natural runs of both twins, each in a detector of its own that sees no other twin.
Swarm and checkers audit both twins behind real sockets, see ``crowded``. What only a
whole service shows is measured by the tests that sabotage the reference service, too:
the docstring of each such service names its patterns, and its test the rule.
"""

import ast
import contextlib
import importlib
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from test_framework.catalogue.crowded import audit_twins
from test_framework.catalogue.index import load_patterns
from test_framework.catalogue.matrix import (
    AUDITED,
    RUNS,
    SEEDS,
    WATCHED,
    Matrix,
    Outcome,
)
from test_framework.catalogue.natural import run_naturally
from test_framework.catalogue.pattern import TWINS, Means, Pattern, Twin
from test_framework.catalogue.world import NAMES
from test_framework.core import AlarmRecord
from test_framework.detect import Detector
from test_framework.detect.access import AccessTracker
from test_framework.detect.leaks import Leaks
from test_framework.detect.locks import DeadlockWatcher
from test_framework.detect.roots import declare_root

_SEEN = re.compile("canary|cached-for|collision|names-another")
"""Rules by which somebody saw what belongs to another."""


def measure(pattern: Pattern, means: Means) -> Outcome | None:
    """Return what a means makes of the twins of a pattern.

    Args:
        pattern: The pattern.
        means: The explorer, or one of ``WATCHED``.

    Returns:
        None where it finds nothing and was not expected to: it does not apply.
    """
    if means == "explorer":
        found, alarmed = (_explored(pattern, twin) for twin in TWINS)
    elif means == "leaks" and means not in pattern.detectors:
        # The state of a twin stands for its database, too: it may hold data of users.
        return None
    else:
        found, alarmed = (_told(watch(pattern, twin, means)) for twin in TWINS)
    return _outcome(pattern, means, found, alarmed)


def _outcome(
    pattern: Pattern, means: Means, found: set[str], alarmed: set[str]
) -> Outcome | None:
    """Return what it means that these levels were told about the two twins."""
    if "error" in alarmed:
        return Outcome.FALSE_ALARM
    if "error" in found:
        return Outcome.FOUND
    if means not in pattern.detectors:
        return None
    return Outcome.HINTED if found and not alarmed else Outcome.MISSED


def measure_hosted(
    patterns: Sequence[Pattern],
) -> dict[str, dict[Means, Outcome | None]]:
    """Return what swarm and checkers make of patterns behind real sockets.

    Args:
        patterns: Which patterns; those that are not hosted are left out.

    Raises:
        TargetError: The worker process that hosts them does not start, or ended.
    """
    audited = audit_twins(patterns, _is_all)
    return {
        pattern.id: {
            means: _outcome(
                pattern,
                means,
                _levels(means, audited[pattern.id]["vulnerable"]),
                _levels(means, audited[pattern.id]["safe"]),
            )
            for means in AUDITED
        }
        for pattern in patterns
        if pattern.id in audited
    }


def _is_all(pattern: Pattern, broken: set[str]) -> bool:
    hoped = [means for means in AUDITED if means in pattern.detectors] or AUDITED
    return all(_levels(means, broken) for means in hoped)


def _levels(means: Means, broken: set[str]) -> set[str]:
    seen = {rule for rule in broken if _SEEN.search(rule)}
    return {"error"} if (seen if means == "swarm" else broken - seen) else set()


def _told(alarms: list[AlarmRecord]) -> set[str]:
    return {alarm.level for alarm in alarms}


def sabotaged(tests: Path) -> dict[str, set[Means]]:
    """Return which patterns audits of sabotaged services find, and by what.

    Args:
        tests: The folder of the end-to-end tests, which are power tests: they fail when
            an audit does not find what it should.

    Returns:
        By id of a pattern: the swarm where a canary was seen, else the checkers.
    """
    judged = (tests / "test_sabotage.py").read_text(encoding="utf-8")
    found: dict[str, set[Means]] = {}
    for path in sorted((tests / "sabotage").glob("*.py")):
        for function in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(function, ast.FunctionDef):
                continue
            rule = re.search(rf'"{path.stem}:{function.name}",\s*"([a-z-]+)"', judged)
            told = re.search(r"Catalogue ([^(.:]+)", ast.get_docstring(function) or "")
            if rule is None or told is None:
                continue
            means: Means = "swarm" if _SEEN.search(rule[1]) else "checkers"
            for id_ in re.findall(r"[A-Z]\d\d", told[1]):
                found.setdefault(id_, set()).add(means)
    return found


def measure_all(tests: Path) -> Matrix:
    """Return the outcomes of all patterns, by id and by means.

    Args:
        tests: The folder of the end-to-end tests.
    """
    services = sabotaged(tests)
    hosted = measure_hosted(load_patterns())
    measured: Matrix = {}
    for pattern in load_patterns():
        outcomes = {one: measure(pattern, one) for one in ("explorer", *WATCHED)}
        outcomes |= hosted.get(pattern.id, {})
        for one in services.get(pattern.id, ()):
            if outcomes.get(one) != Outcome.FALSE_ALARM:
                outcomes[one] = Outcome.FOUND
        measured[pattern.id] = {
            means: str(outcome)
            for means, outcome in outcomes.items()
            if outcome is not None
        }
    return measured


def _explored(pattern: Pattern, twin: Twin) -> set[str]:
    report = pattern.explore(twin, schedules=RUNS, budget=60, seed=1)
    return set() if report.witness is None else {"error"}


def watch(pattern: Pattern, twin: Twin, means: Means) -> list[AlarmRecord]:
    """Return the alarms of a detector that watches natural runs of a twin."""
    detector = _make(means, pattern)
    alarms: list[AlarmRecord] = []

    def ask(state: object, is_stuck: bool) -> None:  # noqa: FBT001  # as AtEnd has it
        # Of our own classes the walk keeps out, so it begins at what the state holds.
        declare_root("service", vars(state))
        if is_stuck and isinstance(detector, DeadlockWatcher):
            alarms.extend(detector.stalled())
        else:
            alarms.extend(detector.alarms())
        declare_root("service", None)

    with _running(detector, pattern) as watched:
        for seed in SEEDS:
            run_naturally(watched, twin, seed=seed, at_end=ask)
    return alarms


def _make(means: Means, pattern: Pattern) -> Detector:
    if means == "access":
        return AccessTracker([_package(pattern)])
    if means == "locks":
        return DeadlockWatcher()
    modules = [name for name in sys.modules if name.startswith(_package(pattern))]
    return Leaks(
        recognise=_named,
        packages=[_package(pattern)],
        allowed_residue=[f"{name}.NAMES" for name in modules],
        spare_tasks=0,
    )


def _named(text: str | bytes) -> list[int]:
    """Return the numbers of the users that are named in a text."""
    told = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return [number for number, name in enumerate(NAMES) if name in told]


def _package(pattern: Pattern) -> str:
    return pattern.module.rpartition(".")[0]


@contextlib.contextmanager
def _running(detector: Detector, pattern: Pattern) -> Iterator[Pattern]:
    """Start a detector, then import the pattern again under its eyes."""
    package = _package(pattern)
    before = {name: sys.modules.pop(name) for name in _modules_of(package)}
    parent: Any = sys.modules[package.rpartition(".")[0]]
    detector.start()
    try:
        yield importlib.import_module(pattern.module).PATTERN
    finally:
        detector.stop()
        for name in _modules_of(package):
            del sys.modules[name]
        sys.modules.update(before)
        setattr(parent, package.rpartition(".")[2], before[package])


def _modules_of(package: str) -> list[str]:
    return [
        name
        for name in sys.modules
        if name == package or name.startswith(f"{package}.")
    ]
