"""Race patterns of asyncio services as runnable twins: a bug, and its smallest mend.

Each pattern is a program that loses isolation in some orders of its tasks, or when one
of them is cancelled, and the sibling that does not. They are what the explorer is
measured with, and examples of how to write a scenario for it.

Not here: bugs that need no order at all (a mutable default argument leaks even from one
request to the next), races between threads or processes, and what only a real database
does.
"""

from test_framework.catalogue.index import find_pattern, load_patterns
from test_framework.catalogue.pattern import Needs, Pattern, Twin

__all__ = ["Needs", "Pattern", "Twin", "find_pattern", "load_patterns"]
