"""Find scenarios in files: ``PATH::NAME``, the way pytest names tests."""

import ast
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from test_framework.core import UsageError
from test_framework.explore.endings import is_outcome_of_pytest
from test_framework.explore.explorer import explore
from test_framework.explore.scenario import Scenario
from test_framework.explore.schedule import TOKEN_PREFIX, Schedule


def load_scenario(reference: str) -> Any:
    """Import the scenario that ``PATH::NAME`` names.

    Raises:
        UsageError: There is no such file or name, or it is no scenario.
    """
    path, _, name = reference.partition("::")
    if not name:
        raise UsageError(
            f"{reference!r} names no scenario: expected PATH::NAME, such as "
            "tests/test_quota.py::test_quota."
        )
    module = _import(Path(path))
    found: Any = module
    for part in name.split("::"):
        found = getattr(found, part, None)
    if found is None or not _is_scenario(found):
        why_not = _why_not(found)
        if why_not and "::" in name:
            why_not = "is in a class: run it with pytest"
        if why_not:
            raise UsageError(f"{name} {why_not}.")
        known = ", ".join(name for name, _ in _scenarios(module)) or "none"
        raise UsageError(
            f"{path} has no scenario {name!r}: expected an async function without "
            f"arguments or a Scenario; it has {known}."
        )
    return found


def find_scenarios(reference: str) -> list[tuple[str, Any]]:
    """Return reference and scenario of everything that a path or ``PATH::NAME`` names.

    Raises:
        UsageError: There is none.
    """
    if "::" in reference:
        return [(reference, load_scenario(reference))]
    found = [
        (f"{file}::{name}", scenario)
        for file, module in _modules(reference)
        if isinstance(module, ModuleType)
        for name, scenario in _scenarios(module)
    ]
    if not found:
        raise UsageError(
            f"{reference!r} has no scenario: expected async functions test_* without "
            "arguments, or Scenario(...) objects, at the top of a module."
        )
    return found


def left_out(reference: str) -> Iterator[str]:
    """Say of each async test that :func:`find_scenarios` leaves out why it does."""
    if "::" in reference:
        return
    for file, module in _modules(reference):
        if not isinstance(module, ModuleType):
            yield str(module)
            continue
        for name, value in _own(module):
            if isinstance(value, type) and name.startswith("Test"):
                yield from (
                    f"{file}::{name}::{method} is in a class: run it with pytest"
                    for method, body in vars(value).items()
                    if method.startswith("test") and inspect.iscoroutinefunction(body)
                )
            elif name.startswith("test") and not _is_scenario(value):
                why_not = _why_not(value)
                if why_not:
                    yield f"{file}::{name} {why_not}"


def outcome_of(exc: BaseException) -> str:
    """Return ``skipped: REASON`` of what ``pytest.skip`` and its kin raise, else empty."""
    return f"{type(exc).__name__.lower()}: {exc}" if is_outcome_of_pytest(exc) else ""


def needs_pytest(path: Path) -> bool:
    """Tell whether only pytest can import a module: it is in no package and needs one."""
    if (path.parent / "__init__.py").is_file():
        return False
    tree = ast.parse(path.read_bytes())
    return any(
        isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(tree)
    )


def read_schedule(word: str) -> Schedule:
    """Read a schedule from a token or from the file of that name.

    Raises:
        UsageError: It is neither.
    """
    path = Path(word)
    if not word.startswith(TOKEN_PREFIX) and path.is_file():
        try:
            word = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise UsageError(
                f"{word!r} cannot be read as a schedule: {exc}. Expected the text file "
                "that isolation-audit explore wrote, reports/NAME.schedule."
            ) from None
    elif not word.startswith(TOKEN_PREFIX):
        raise UsageError(
            f"{word!r} is neither the token of a schedule (it begins with 'x1.') nor a "
            "file. Copy the whole word after 'replay' in the report."
        )
    return Schedule.parse(word)


def marked_options(scenario: Any) -> dict[str, Any]:
    """Return the options of ``@pytest.mark.explore`` on a test, none for anything else."""
    for mark in getattr(scenario, "pytestmark", ()):
        if mark.name == "explore":
            return options_of(mark, getattr(scenario, "__name__", "a scenario"))
    return {}


def options_of(mark: Any, name: str) -> dict[str, Any]:
    """Return the options in an explore marker of the test of this name.

    Raises:
        UsageError: They are not given by name, or explore() does not take them.
    """
    known = inspect.signature(explore).parameters.values()
    names = [one.name for one in known if one.kind is one.KEYWORD_ONLY]
    if mark.args:
        raise UsageError(
            f"The explore marker of {name} got {mark.args!r}: it takes the options of "
            "explore() by name, such as budget='5s'."
        )
    for key in mark.kwargs:
        if key not in names:
            raise UsageError(
                f"The explore marker of {name}: explore() got an unexpected keyword "
                f"argument {key!r}. It takes {', '.join(names)}."
            )
    return dict(mark.kwargs)


def mark_outcome(scenario: Any) -> str:
    """Return ``skipped: REASON`` of a test that a mark of pytest keeps from running.

    A condition in text is left to pytest, and such a test is explored.
    """
    for mark in getattr(scenario, "pytestmark", ()):
        holds = all(condition is True for condition in mark.args)
        reason = mark.kwargs.get("reason", "")
        if mark.name == "skip":
            reason = reason or " ".join(map(str, mark.args))
            return f"skipped: {reason or 'unconditionally'}"
        if mark.name == "skipif" and holds:
            return f"skipped: {reason}"
        if mark.name == "xfail" and holds:
            return f"expected to fail, so not explored: {reason or 'no reason given'}"
    return ""


def _import(path: Path) -> ModuleType:
    if not path.is_file():
        stem, mark, test = str(path).partition(".py:")
        cure = (
            f"Did you mean {stem}.py::{test}?" if mark else "Give the path of a module."
        )
        raise UsageError(f"There is no file {str(path)!r}. {cure}")
    resolved = path.resolve()
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file is not None and Path(file).resolve() == resolved:
            return module
    try:
        return _execute(resolved)
    except SystemExit as exc:
        raise UsageError(
            f"{path} cannot be imported: it ends the program (SystemExit: {exc}) when it "
            "is loaded. Put what does so under if __name__ == '__main__'."
        ) from None
    except ImportError as exc:
        raise UsageError(
            f"{path} cannot be imported: {type(exc).__name__}: {exc}. {_cure(exc)}"
        ) from exc
    except Exception as exc:
        raise UsageError(
            f"{path} cannot be imported: {type(exc).__name__}: {exc}. Correct it first."
        ) from exc
    except BaseException as exc:
        if outcome_of(exc):
            raise _SkippedModuleError(f"{path} {outcome_of(exc)}") from None
        raise


class _SkippedModuleError(UsageError):
    """A module skips itself when it is imported."""


def _cure(exc: ImportError) -> str:
    if "relative import" in str(exc):
        return "Put an __init__.py into its folder, or run it with pytest."
    missing = f"Install {exc.name}" if exc.name else "Install what is missing"
    return f"{missing}, or run from the folder in which its imports work."


def _execute(path: Path) -> ModuleType:
    """Import a module as `python -m pytest` does: by its name in its package, if any."""
    root, parts = path.parent, [path.stem]
    while (root / "__init__.py").is_file():
        parts.insert(0, root.name)
        root = root.parent
    for folder in (str(Path.cwd()), str(root)):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    if len(parts) > 1 and (found := _from_package(".".join(parts), path)):
        return found
    name = f"_explored_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{str(path)!r} is not a Python module.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _from_package(name: str, path: Path) -> ModuleType | None:
    """Import by name; return nothing when another package of the name came first."""
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name is not None and f"{name}.".startswith(f"{exc.name}."):
            return None
        raise
    is_it = module.__file__ is not None and Path(module.__file__).resolve() == path
    return module if is_it else None


def _modules(reference: str) -> Iterator[tuple[Path, "ModuleType | UsageError"]]:
    """Yield the modules of a path; in place of one that skips itself, why."""
    path = Path(reference)
    for file in sorted(path.rglob("test_*.py")) if path.is_dir() else [path]:
        try:
            yield file, _import(file)
        except _SkippedModuleError as exc:
            yield file, exc


def _own(module: ModuleType) -> Iterator[tuple[str, Any]]:
    for name, value in vars(module).items():
        if getattr(value, "__module__", module.__name__) == module.__name__:
            yield name, value


def _why_not(value: Any) -> str:
    """Say why an async function is no scenario; empty for what is none at all."""
    if inspect.isasyncgenfunction(value):
        return "has a yield, which makes it no test: take the yield out"
    if not inspect.iscoroutinefunction(value) or _is_scenario(value):
        return ""
    return f"takes {', '.join(_needed(value))}: run it with pytest"


def _scenarios(module: ModuleType) -> Iterator[tuple[str, Any]]:
    for name, value in vars(module).items():
        is_here = getattr(value, "__module__", module.__name__) == module.__name__
        is_test = inspect.iscoroutinefunction(value) and name.startswith("test")
        if isinstance(value, Scenario) or (is_here and is_test and _is_scenario(value)):
            yield name, value


def _is_scenario(value: Any) -> bool:
    if isinstance(value, Scenario):
        return True
    if not inspect.iscoroutinefunction(value):
        return False
    return not _needed(value)


def _needed(function: Any) -> list[str]:
    return [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is parameter.empty
    ]
