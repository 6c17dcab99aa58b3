"""What was measured last: pattern x means, kept beside the patterns as data."""

import enum
import json
from pathlib import Path

from test_framework.catalogue.pattern import Means

SEEDS = range(24)
"""Natural runs of each twin; in each the world outside takes other times."""

RUNS = 400
"""Runs of the explorer, for each twin."""

USERS = 24
"""Users of one audit: rooms of one, two, three and four come out even."""

ROUNDS = 6
"""Visits of each user; in each round the world outside takes other times."""

AUDITS = 3
"""Audits of a pattern, with other seeds, for as long as it was not found."""

WATCHED: tuple[Means, ...] = ("access", "locks", "leaks")
"""The means that are detectors of running processes."""

AUDITED: tuple[Means, ...] = ("swarm", "checkers")
"""The means that look at a service from outside."""

_FILE = Path(__file__).with_name("matrix.json")

Matrix = dict[str, dict[str, str]]
"""By id of a pattern and by means: an ``Outcome``; nothing where it does not apply."""


class Outcome(enum.StrEnum):
    """What a means makes of a pattern.

    Attributes:
        FOUND: An error about the vulnerable twin, and none about the safe one.
        HINTED: No error, but a warning or note that the safe twin does not get.
        MISSED: Nothing, though the pattern says that it ought to be found.
        FALSE_ALARM: An error about the safe twin, whatever is said about the other.
    """

    FOUND = "found"
    HINTED = "hinted"
    MISSED = "missed"
    FALSE_ALARM = "false alarm"


def load_matrix() -> Matrix:
    """Return what was measured last."""
    stored: Matrix = json.loads(_FILE.read_text(encoding="utf-8"))
    return stored


def store_matrix(measured: Matrix) -> None:
    """Keep what was measured."""
    text = json.dumps(measured, indent=1, sort_keys=True)
    _FILE.write_text(f"{text}\n", encoding="utf-8")
