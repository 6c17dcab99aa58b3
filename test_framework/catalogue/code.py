"""The code of the twins of a pattern, and the lines in which they differ."""

import ast
import difflib
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

from test_framework.catalogue.pattern import Pattern


def vulnerable_code(pattern: Pattern) -> str:
    """Return the program with the bug: what it is made of, users and check.

    What another file of the theme defines is put in front.
    """
    safe = _made_by(pattern.safe.setup)
    is_apart = safe is not _made_by(pattern.vulnerable.setup)
    elsewhere = [
        textwrap.dedent(inspect.getsource(one))
        for one in _parts(pattern)
        if one.__module__ != pattern.module
    ]
    source = pattern.file.read_text(encoding="utf-8")
    here = [
        _source(source, node)
        for node in ast.parse(source).body
        if not _is_frame(node) and not (is_apart and getattr(node, "name", "") == safe)
    ]
    return _plain("\n\n\n".join(part.strip() for part in [*elsewhere, *here]))


def mend(pattern: Pattern) -> str:
    """Return what the safe twin does otherwise, as a diff of each function."""
    return "\n\n".join(_changes(pattern))


def _made_by(setup: Any) -> str:
    return str(getattr(setup, "__name__", ""))


def _parts(pattern: Pattern) -> list[Any]:
    """Return classes and functions that the vulnerable twin is made of."""
    scenario = pattern.vulnerable
    classes: tuple[Any, ...] = getattr(scenario.setup, "__mro__", ())
    check = [] if scenario.check is None else [scenario.check]
    user = inspect.unwrap(scenario.user)
    return [
        one
        for one in (*reversed(classes), user, *check)
        if one.__module__.startswith(__name__.rpartition(".")[0])
    ]


def _is_frame(node: ast.stmt) -> bool:
    """Tell imports, docstring and the pattern itself from the program."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PATTERN"


def _source(source: str, node: ast.stmt) -> str:
    first = min(
        [node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))]
    )
    return "\n".join(source.splitlines()[first - 1 : node.end_lineno])


def _changes(pattern: Pattern) -> Iterator[str]:
    before, after = pattern.vulnerable, pattern.safe
    if after.setup is not before.setup:
        yield from _changes_of_setup(before.setup, after.setup)
    for old, new in ((before.user, after.user), (before.check, after.check)):
        if old is not None and new is not None:
            old_code, new_code = inspect.unwrap(old), inspect.unwrap(new)
            if old_code is not new_code:
                yield _diff(old_code, new_code)


def _changes_of_setup(before: Any, after: Any) -> Iterator[str]:
    if not inspect.isclass(after):
        yield _diff(before, after)
        return
    own = [
        name
        for name, new in vars(after).items()
        if callable(new) and _is_written(inspect.unwrap(new))
    ]
    for name in own:
        yield _diff(getattr(before, name, None), getattr(after, name))
    if not own:
        known: tuple[type, ...] = getattr(before, "__mro__", ())
        for mixed_in in reversed(after.__mro__):
            if mixed_in not in known:
                yield _diff(None, mixed_in)


def _is_written(new: object) -> bool:
    """Tell what stands in a file from what a decorator has made."""
    return isinstance(new, FunctionType) and Path(new.__code__.co_filename).exists()


def _diff(old: Any, new: Any) -> str:
    before, after = ([] if one is None else _lines(one) for one in (old, new))
    lines = difflib.unified_diff(before, after, n=100, lineterm="")
    return "\n".join([*lines][3:])


def _lines(one: Any) -> list[str]:
    return _plain(textwrap.dedent(inspect.getsource(one))).splitlines()


def _plain(code: str) -> str:
    """Leave out what is said to the linter."""
    return re.sub(r"  # (?:noqa|type): .*$", "", code, flags=re.MULTILINE)
