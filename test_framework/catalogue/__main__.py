"""Draw all interleavings anew, measure the matrix, write the pages.

Run ``python -m test_framework.catalogue`` in the folder of the repository. Without
``--measure`` the matrix stays as it was measured last.
"""

import argparse
import sys
from pathlib import Path

from test_framework.catalogue.drawing import redraw
from test_framework.catalogue.index import load_patterns
from test_framework.catalogue.matrix import RUNS, store_matrix
from test_framework.catalogue.measure import measure_all
from test_framework.catalogue.pages import write_pages

PAGES = Path("docs/patterns")
TESTS = Path("tests/e2e")


def main() -> None:
    """Say which drawings have changed; pages show in the version control."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--measure", action="store_true", help="measure the matrix anew"
    )
    is_measured = parser.parse_args().measure
    for pattern in load_patterns():
        witness = pattern.explore(schedules=RUNS, budget=60, seed=1).witness
        if witness is None:
            sys.stdout.write(f"{pattern.id}: not found, so there is nothing to draw.\n")
        elif redraw(pattern, witness):
            sys.stdout.write(f"{pattern.id}: drawn anew; run this again.\n")
    if is_measured:
        store_matrix(measure_all(TESTS))
    write_pages(PAGES)


main()
