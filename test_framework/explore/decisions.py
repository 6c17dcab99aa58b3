"""What a loop asks its scheduler, and what it tells those who watch its steps."""

from collections.abc import Callable

CONTINUE = -1
"""Option in ``fifo``: run the queued turn, let nothing arrive."""

CLOCK = -2
"""Option: time passes until the next deadline."""

Choose = Callable[[list[int]], int]
"""Gets the numbers of what may go next, returns a position in that list.

Tasks are 0 and up; ``CONTINUE`` and ``CLOCK`` are -1 and -2, events from outside below.
"""

Hook = Callable[[int], None]
"""Gets the number of the task whose step is about to run, or has run."""
