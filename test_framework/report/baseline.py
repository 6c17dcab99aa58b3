"""A baseline on disk: one JSON document, read with care.

It is kept in a repository and edited by merge tools and people, so whatever is wrong
with it is told in one sentence, and nothing is compared with half of one.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from test_framework.check import Baseline, Timings
from test_framework.core import UsageError

BASELINE_KIND = "isolation-audit baseline"
BASELINE_FORMAT = 1

_CURE = "Correct it, or pass --update-baseline to replace it by this run."


def save_baseline(baseline: Baseline, path: Path) -> None:
    """Write a baseline, whole or not at all.

    Raises:
        UsageError: The file cannot be written.
    """
    document = {
        "kind": BASELINE_KIND,
        "format": BASELINE_FORMAT,
        "conditions": dict(baseline.conditions),
        "calibration_ms": baseline.calibration_ms,
        "endpoints": {
            endpoint: {
                "count": timings.count,
                "p50_ms": timings.p50_ms,
                "p95_ms": timings.p95_ms,
                "p99_ms": timings.p99_ms,
                "samples_ms": dict(timings.samples_ms),
            }
            for endpoint, timings in baseline.endpoints.items()
        },
    }
    half = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        half.write_text("".join(_pretty(document)), encoding="utf-8")
        half.replace(path)
    except OSError as exc:
        message = (
            f"The baseline {str(path)!r} cannot be written: {exc.strerror}. Pass "
            "--baseline with a file in a folder you may write to."
        )
        raise UsageError(message) from exc


def _pretty(document: dict[str, Any]) -> Iterator[str]:
    """Yield JSON with one line per sample: what changed shows in a diff."""
    endpoints = document.pop("endpoints")
    yield json.dumps(document, indent=1).removesuffix("\n}")
    yield ',\n "endpoints": {'
    for number, (endpoint, timings) in enumerate(endpoints.items()):
        yield "," if number else ""
        yield f"\n  {json.dumps(endpoint)}: {{"
        samples = timings.pop("samples_ms")
        figures = json.dumps(timings)[1:-1]
        yield f'\n   {figures},\n   "samples_ms": {{'
        lines = (f"\n    {json.dumps(s)}: {json.dumps(v)}" for s, v in samples.items())
        yield ",".join(lines)
        yield "}}"
    yield "\n }\n}\n"


def load_baseline(path: Path) -> Baseline:
    """Read a baseline.

    Raises:
        UsageError: It cannot be read, is none, or is of another format.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        message = f"The baseline {str(path)!r} cannot be read: {exc.strerror}."
        raise UsageError(message) from exc
    except ValueError as exc:
        message = f"The baseline {str(path)!r} is not JSON: {exc}. {_CURE}"
        raise UsageError(message) from exc
    try:
        return _baseline(document)
    except ValueError as exc:
        message = f"The baseline {str(path)!r} is of no use: {exc}. {_CURE}"
        raise UsageError(message) from exc


def _baseline(document: object) -> Baseline:
    body = _table("it", document)
    if body.get("kind") != BASELINE_KIND:
        message = f"its kind is {body.get('kind')!r} and not {BASELINE_KIND!r}"
        raise ValueError(message)
    if body.get("format") != BASELINE_FORMAT:
        message = (
            f"its format is {body.get('format')!r}, and this version reads "
            f"{BASELINE_FORMAT}"
        )
        raise ValueError(message)
    conditions = _table("conditions", body.get("conditions"))
    for name, value in conditions.items():
        if type(value) not in {str, int}:
            message = f"conditions[{name!r}] = {value!r} is neither text nor a number"
            raise ValueError(message)
    return Baseline(
        conditions=conditions,
        calibration_ms=_time("calibration_ms", body.get("calibration_ms")),
        endpoints={
            endpoint: _timings(endpoint, timings)
            for endpoint, timings in _table("endpoints", body.get("endpoints")).items()
        },
    )


def _timings(endpoint: str, document: object) -> Timings:
    body = _table(endpoint, document)
    count = body.get("count")
    if type(count) is not int or count < 1:
        message = f"count of {endpoint} = {count!r} is not a number of answers"
        raise ValueError(message)
    samples = _table(f"samples_ms of {endpoint}", body.get("samples_ms"))
    return Timings(
        count=count,
        p50_ms=_time(f"p50_ms of {endpoint}", body.get("p50_ms")),
        p95_ms=_time(f"p95_ms of {endpoint}", body.get("p95_ms")),
        p99_ms=_time(f"p99_ms of {endpoint}", body.get("p99_ms")),
        samples_ms={
            shape: _sample(f"{shape} of {endpoint}", values)
            for shape, values in samples.items()
        },
    )


def _sample(name: str, document: object) -> tuple[float, ...]:
    if not isinstance(document, list) or not document:
        message = f"{name} = {document!r:.60} is not a list of times"
        raise ValueError(message)
    return tuple(sorted(_time(name, value) for value in document))


def _table(name: str, document: object) -> dict[str, Any]:
    if not isinstance(document, dict):
        message = f"{name} is {document!r:.60} and not an object"
        raise ValueError(message)  # noqa: TRY004  # the caller handles what json raises
    return document


def _time(name: str, value: object) -> float:
    # Written so that nan is refused too; true is no time.
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not 0 < value < math.inf
    ):
        message = f"{name} = {value!r} is not a time in milliseconds"
        raise ValueError(message)
    return float(value)
