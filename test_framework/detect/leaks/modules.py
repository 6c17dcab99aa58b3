"""Which modules are the service's own, and on which line of them a name is set."""

import ast
import functools
import re
import sys
import types
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from test_framework.core import UsageError

_OURS = "test_framework"
_STEP = re.compile(r"\.(\w+)|\['(\w+)'\]")
_TRUNK = re.compile(r"\w+(?:\.\w+|\['\w+'\])*")
_INSTALLED = frozenset({"site-packages", "dist-packages"})


def own_modules(packages: Collection[str] = ()) -> dict[str, types.ModuleType]:
    """Return the modules of the service that are imported now, by name.

    Args:
        packages: Names of packages or modules; none takes every module whose file
            lies in the current folder and was not installed.
    """
    folder = Path.cwd()
    return {
        name: module
        for name, module in list(sys.modules.items())
        # Lazy modules and stand-ins in sys.modules may be anything.
        if type(module) is types.ModuleType and _is_own(name, module, packages, folder)
    }


def _is_own(
    name: str, module: types.ModuleType, packages: Collection[str], folder: Path
) -> bool:
    if packages:
        return any(name == one or name.startswith(f"{one}.") for one in packages)
    if name.partition(".")[0] == _OURS:
        return False
    file = vars(module).get("__file__")
    if not isinstance(file, str) or not file.startswith(f"{folder}/"):
        return False
    parts = Path(file).relative_to(folder).parts
    # An environment in the folder, such as .venv, is not the service either.
    return _INSTALLED.isdisjoint(parts) and not parts[0].startswith(".")


def resolve(path: str, roots: Collection[tuple[str, object]]) -> object:
    """Return the object that a dotted path names, such as ``notes.CACHE``.

    Args:
        path: A root, attributes and keys; what no name can follow, such as ``[...]``,
            ends it, so the path of an alarm can be pasted.
        roots: Where paths begin, with their names; the longest name that fits wins.

    Raises:
        UsageError: It names nothing.
    """
    trunk = trunk_of(path)
    for name, root in sorted(roots, key=lambda one: -len(one[0])):
        if trunk == name or trunk.startswith((f"{name}.", f"{name}[")):
            try:
                return _follow(root, trunk[len(name) :])
            except (AttributeError, LookupError, TypeError):
                continue
    message = (
        f"{path!r} names nothing that can be reached. Write it as alarms write paths: a "
        "module or 'app', then attributes, such as 'notes.CACHE'."
    )
    raise UsageError(message)


def _follow(value: Any, steps: str) -> object:  # noqa: ANN401  # any object
    for name, key in _STEP.findall(steps):
        value = getattr(value, name) if name else value[key]
    result: object = value
    return result


def trunk_of(path: str) -> str:
    """Return the part of an alarm's path that names one object: up to ``[...]``."""
    found = _TRUNK.match(path)
    return found[0] if found else ""


def line_of_name(module: types.ModuleType, names: Sequence[str]) -> int:
    """Return the line of a module that first sets a name.

    Args:
        module: The module.
        names: Classes to enter and, last, the name: of a module, or an attribute that
            the class sets on ``self`` or on itself.

    Returns:
        A line; 1 when the source cannot be read or never sets it.
    """
    file = vars(module).get("__file__")
    body: list[ast.stmt] = _parsed(file).body if isinstance(file, str) else []
    line = 1
    for depth, name in enumerate(names):
        found = _definition(body, name)
        if found is not None:
            line, body = found.lineno, found.body
        else:
            # Where nothing sets it, whoever holds it is the best there is.
            return _line_of_store(body, name, is_attribute=depth > 0) or line
    return line


@functools.lru_cache(maxsize=64)
def _parsed(file: str) -> ast.Module:
    try:
        return ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return ast.Module(body=[], type_ignores=[])


def _definition(
    body: Sequence[ast.stmt], name: str
) -> ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | None:
    for statement in body:
        if (
            isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and statement.name == name
        ):
            return statement
    return None


def _line_of_store(
    body: Sequence[ast.stmt], name: str, *, is_attribute: bool
) -> int | None:
    for node in (node for statement in body for node in ast.walk(statement)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            is_it = node.id == name
        elif is_attribute and isinstance(node, ast.Attribute):
            is_it = node.attr == name and isinstance(node.ctx, ast.Store)
        else:
            continue
        if is_it:
            return node.lineno
    return None


def relative_site(file: str, line: int) -> str:
    """Return ``path:line`` below the current folder where it lies there."""
    path = Path(file)
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return f"{path}:{line}"
