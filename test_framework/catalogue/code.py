"""The code of the twins of a pattern, and the lines in which they differ."""

import ast
import difflib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

from test_framework.catalogue.pattern import Pattern


def vulnerable_code(pattern: Pattern) -> str:
    """Return the program with the bug: what it is made of, its users and its check.

    What other files of the theme define is put in front.
    """
    shown: dict[tuple[str, str], str] = {}
    here = _Definitions(pattern.module)
    call = here.scenario("vulnerable")
    for name in _names(call):
        _collect(here, name, shown)
    elsewhere = [code for (module, _), code in shown.items() if module != here.module]
    own = [
        shown[here.module, name] for name in here.nodes if (here.module, name) in shown
    ]
    return _plain("\n\n\n".join([*elsewhere, *own]))


def mend(pattern: Pattern) -> str:
    """Return what the safe twin does otherwise, as a diff of each function."""
    return "\n\n".join(_changes(pattern))


class _Definitions:
    """What a module of a theme defines, and what it has of its theme.

    Attributes:
        module: Its name.
        nodes: Its definitions by name, in their order.
        imported: From where it has which name.
    """

    def __init__(self, module: str) -> None:
        self.module = module
        self.nodes: dict[str, ast.stmt] = {}
        self.imported: dict[str, str] = {}
        theme = ".".join(module.split(".")[:3])
        self._source = inspect.getsource(sys.modules[module])
        for node in ast.parse(self._source).body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                self.nodes[node.name] = node
            elif isinstance(node, ast.ImportFrom):
                if (node.module or "").startswith(theme):
                    self.imported |= {one.name: str(node.module) for one in node.names}
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                target = (
                    node.targets[0] if isinstance(node, ast.Assign) else node.target
                )
                self.nodes[ast.unparse(target)] = node

    def code(self, name: str) -> str:
        """Return the source of a definition, decorators included."""
        node = self.nodes[name]
        decorators: list[ast.expr] = getattr(node, "decorator_list", [])
        first = min([node.lineno, *(one.lineno for one in decorators)])
        return "\n".join(self._source.splitlines()[first - 1 : node.end_lineno])

    def scenario(self, twin: str) -> ast.expr:
        """Return how the pattern of the module makes one of its twins."""
        call: Any = self.nodes["PATTERN"]
        found: ast.expr = next(
            one.value for one in call.value.keywords if one.arg == twin
        )
        return found


def _collect(where: _Definitions, name: str, shown: dict[tuple[str, str], str]) -> None:
    """Add a definition and all that it needs, what is needed first."""
    if name in where.imported:
        _collect(_Definitions(where.imported[name]), name, shown)
    elif name in where.nodes and (where.module, name) not in shown:
        shown[where.module, name] = ""  # two functions may need each other
        for needed in _names(where.nodes[name]):
            _collect(where, needed, shown)
        del shown[where.module, name]
        shown[where.module, name] = where.code(name)


def _names(node: ast.AST) -> list[str]:
    return [one.id for one in ast.walk(node) if isinstance(one, ast.Name)]


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
