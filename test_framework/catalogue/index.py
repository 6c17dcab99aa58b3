"""All patterns, and one of them by its id."""

import difflib

from test_framework.catalogue import (
    agents,
    atomicity,
    caches,
    cancellation,
    context,
    control_plane,
    disconnects,
    events,
    locks,
    pools,
    queues,
    request_state,
    sessions,
    sockets,
    staleness,
    tokens,
    transactions,
)
from test_framework.catalogue.pattern import Pattern
from test_framework.core import UsageError

_MODULES = (
    request_state,
    context,
    atomicity,
    staleness,
    caches,
    locks,
    cancellation,
    disconnects,
    pools,
    sessions,
    transactions,
    tokens,
    sockets,
    events,
    queues,
    control_plane,
    agents,
)


def load_patterns() -> tuple[Pattern, ...]:
    """Return all patterns, by theme as the modules have them."""
    return tuple(pattern for module in _MODULES for pattern in module.PATTERNS)


def find_pattern(id: str) -> Pattern:  # the word of the catalogue
    """Return the pattern of an id such as ``P03``, in upper or lower case.

    Raises:
        UsageError: There is none.
    """
    patterns = {pattern.id: pattern for pattern in load_patterns()}
    found = patterns.get(id.upper())
    if found is not None:
        return found
    titles = {pattern.title: pattern.id for pattern in patterns.values()}
    near = difflib.get_close_matches(id.upper(), patterns, cutoff=0.5) or [
        titles[title] for title in difflib.get_close_matches(id.lower(), titles)
    ]
    meant = ", ".join(f"{one} ({patterns[one].title})" for one in near)
    hint = f"Did you mean {meant}?" if near else "docs/catalogue.md lists them all."
    raise UsageError(
        f"There is no pattern {id!r}: expected a letter and a number, such as P03. {hint}"
    )
