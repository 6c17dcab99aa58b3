"""Timing of real runs: convoys are told, and baselines are made, compared, refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_bad_input import audit, require_sentence

pytestmark = [pytest.mark.integration, pytest.mark.slow]

CROWD = ("--users", "20", "--detect", "none")


def _document(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "audit.json").read_text())
    return document


@pytest.mark.power
def test_service_with_one_lock_is_told_as_a_convoy(tmp_path: Path) -> None:
    """A lock held for 15 ms makes 20 users wait in a row; work beside each other not."""
    locked, parallel = tmp_path / "locked", tmp_path / "parallel"

    audit(locked, *CROWD, NOTES_SERIAL="15")
    audit(parallel, *CROWD, NOTES_WORK="15")

    found = [alarm["rule"] for alarm in _document(locked)["alarms"]]
    assert "one-after-another" in found
    found = [alarm["rule"] for alarm in _document(parallel)["alarms"]]
    assert "one-after-another" not in found


def test_baseline_is_made_then_compared_then_refused(tmp_path: Path) -> None:
    """The first run makes the file, the second is held against it, others refused."""
    path = tmp_path / "perf" / "baseline.json"
    options = (*CROWD, "--baseline", str(path))

    made = audit(tmp_path / "1", *options)
    # Not an error here: others may make the machine slower in between.
    compared = audit(tmp_path / "2", *options, "--on-regression", "warning")
    refused = audit(tmp_path / "3", "--users", "5", "--baseline", str(path))

    require_sentence(made, 0, "Baseline of 3 endpoints")
    # Or nothing was, when the machine became another one in between.
    require_sentence(compared, 0, "compared with the baseline")
    watched = [watch["detector"] for watch in _document(tmp_path / "2")["watched"]]
    assert "baseline" in watched
    require_sentence(refused, 2, "users was 20 and is 5", "--update-baseline")
