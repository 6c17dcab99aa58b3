"""What all commands say alike: exit codes, the console, one sentence for a mistake."""

import os
import sys

from rich.console import Console
from rich.text import Text

EXIT_USAGE = 2
EXIT_TARGET = 4
EXIT_INTERNAL = 70


def make_console() -> Console:
    """Return a console; what goes to a file or a pipe is not squeezed into 80 columns."""
    is_free = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=120 if is_free else None, highlight=False)


def complain(problem: object) -> None:
    """Print one sentence to stderr; what reads it from a pipe gets it in one line."""
    console = Console(stderr=True, highlight=False)
    console.print(
        Text(f"isolation-audit: {problem}"), soft_wrap=not console.is_terminal
    )
