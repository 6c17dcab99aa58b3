"""A baseline on disk: what was written is read, what is wrong is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from test_framework.check import Baseline, Timings
from test_framework.core import UsageError
from test_framework.report import load_baseline, save_baseline

TIMINGS = Timings(40, 30.5, 60.25, 71.0, {"leaving": (20.0, 30.5), "login": (9.0,)})
BASELINE = Baseline(
    conditions={"target": "app:app", "users": 100},
    calibration_ms=6.25,
    endpoints={"GET /a": TIMINGS, "GET /b": Timings(1, 1.0, 1.0, 1.0, {})},
)


def test_baseline_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Writing and reading change nothing, and leave nothing else behind."""
    path = tmp_path / "perf" / "baseline.json"

    save_baseline(BASELINE, path)

    assert load_baseline(path) == BASELINE
    assert list(path.parent.iterdir()) == [path]


def test_each_sample_has_a_line_of_its_own(tmp_path: Path) -> None:
    """A diff of two baselines shows which endpoint changed in which shape."""
    path = tmp_path / "baseline.json"
    save_baseline(BASELINE, path)

    lines = path.read_text().splitlines()

    assert '    "leaving": [20.0, 30.5],' in lines
    assert '    "login": [9.0]}},' in lines


def _changed(*place: str, value: object) -> str:
    body: Any = {
        "kind": "isolation-audit baseline",
        "format": 1,
        "conditions": {"users": 1},
        "calibration_ms": 6.0,
        "endpoints": {
            "GET /a": {
                "count": 1,
                "p50_ms": 1.0,
                "p95_ms": 1.0,
                "p99_ms": 1.0,
                "samples_ms": {"login": [1.0]},
            }
        },
    }
    inner = body
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    return json.dumps(body)


A = ("endpoints", "GET /a")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ("[1]", "it is [1] and not an object"),
        ("{}", "its kind is None"),
        (_changed("kind", value="report"), "its kind is 'report'"),
        (_changed("format", value=2), "its format is 2, and this version reads 1"),
        (_changed("conditions", value=3), "conditions is 3"),
        (_changed("conditions", "users", value=[]), "conditions['users'] = []"),
        (_changed("calibration_ms", value=0), "calibration_ms = 0"),
        (_changed("endpoints", value=[]), "endpoints is []"),
        (_changed(*A, "count", value=0), "count of GET /a = 0"),
        (_changed(*A, "count", value=True), "count of GET /a = True"),
        (_changed(*A, "p95_ms", value="1"), "p95_ms of GET /a = '1'"),
        (_changed(*A, "p99_ms", value=float("nan")), "p99_ms of GET /a = nan"),
        (_changed(*A, "samples_ms", value=None), "samples_ms of GET /a is None"),
        (_changed(*A, "samples_ms", "login", value=[]), "login of GET /a = []"),
        (_changed(*A, "samples_ms", "login", value=[-1]), "login of GET /a = -1"),
    ],
)
def test_malformed_baseline_gets_one_sentence(
    tmp_path: Path, text: str, words: str
) -> None:
    """What is wrong is named with its place and value, and how to go on."""
    path = tmp_path / "baseline.json"
    path.write_text(text)

    with pytest.raises(
        UsageError, match=r"baseline\.json.*--update-baseline"
    ) as caught:
        load_baseline(path)

    assert words in str(caught.value)


def test_baseline_that_cannot_be_read_or_written_is_told(tmp_path: Path) -> None:
    """A folder in the place of the file is named, in both directions."""
    with pytest.raises(UsageError, match="cannot be read"):
        load_baseline(tmp_path)
    with pytest.raises(UsageError, match="cannot be written"):
        save_baseline(BASELINE, tmp_path)
