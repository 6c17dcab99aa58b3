"""Race patterns of asyncio services as runnable twins: a bug, and its smallest mend.

Each pattern is a file: a program that loses isolation in some orders of its tasks, or
when one of them is cancelled, and the sibling that does not. They are what explorer and
detectors are measured with, and examples of how to write a scenario.

To add one, add a file to the package of its theme that holds it as ``PATTERN``; there
is no list to edit. ``make docs`` draws its interleaving and writes its page.

Not here: races between processes, and what only a real database does.
"""

from test_framework.catalogue.index import find_pattern, load_patterns, load_themes
from test_framework.catalogue.matrix import load_matrix
from test_framework.catalogue.pattern import (
    MEANS,
    Area,
    Means,
    Needs,
    Pattern,
    Twin,
)

__all__ = [
    "MEANS",
    "Area",
    "Means",
    "Needs",
    "Pattern",
    "Twin",
    "find_pattern",
    "load_matrix",
    "load_patterns",
    "load_themes",
]
