"""All patterns, and one of them by its id; found by walking the package."""

import difflib
import functools
import importlib
import pkgutil
from pathlib import Path

from test_framework.catalogue.pattern import Pattern
from test_framework.core import UsageError

_HERE = Path(__file__).parent
_PACKAGE = __name__.rpartition(".")[0]


@functools.cache
def load_themes() -> dict[str, str]:
    """Return each theme and the first line of its package, in alphabetical order."""
    themes = {}
    for module in pkgutil.iter_modules([str(_HERE)]):
        if module.ispkg:
            package = importlib.import_module(f"{_PACKAGE}.{module.name}")
            themes[module.name] = (package.__doc__ or "").partition("\n")[0]
    return themes


@functools.cache
def load_patterns() -> tuple[Pattern, ...]:
    """Return all patterns, by theme and by the names of their files."""
    patterns = []
    for theme in load_themes():
        for module in pkgutil.iter_modules([str(_HERE / theme)]):
            loaded = importlib.import_module(f"{_PACKAGE}.{theme}.{module.name}")
            patterns.append(loaded.PATTERN)
    return tuple(patterns)


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
    hint = (
        f"Did you mean {meant}?" if near else "'isolation-audit patterns' lists them."
    )
    raise UsageError(
        f"There is no pattern {id!r}: expected a letter and a number, such as P03. {hint}"
    )
