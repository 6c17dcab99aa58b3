"""Draw the interleavings of all patterns anew, into the docstrings of their files."""

import sys

from test_framework.catalogue.drawing import redraw
from test_framework.catalogue.index import load_patterns


def main() -> None:
    """Say which drawings have changed."""
    for pattern in load_patterns():
        report = pattern.explore(schedules=400, budget=60, seed=1)
        if report.witness is None:
            sys.stdout.write(f"{pattern.id}: not found, so there is nothing to draw.\n")
        elif redraw(pattern, report.witness):
            sys.stdout.write(f"{pattern.id}: drawn anew.\n")


main()
