"""Find scenarios in files: ``PATH::NAME``, the way pytest names tests."""

import contextlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from test_framework.core import UsageError
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
    path = Path(reference)
    files = sorted(path.rglob("test_*.py")) if path.is_dir() else [path]
    found = [
        (f"{file}::{name}", scenario)
        for file in files
        for name, scenario in _scenarios(_import(file))
    ]
    if not found:
        raise UsageError(
            f"{reference!r} has no scenario: expected async functions test_* without "
            "arguments, or Scenario(...) objects, at the top of a module."
        )
    return found


def reference_of(scenario: Any) -> str:
    """Return ``PATH::NAME`` of a scenario, empty when it has none that can be imported."""
    if isinstance(scenario, Scenario):
        code = getattr(scenario.user, "__code__", None)
        path = Path(code.co_filename) if code is not None else None
        module = sys.modules.get(getattr(scenario.user, "__module__", ""))
        name = (
            next((key for key, held in vars(module).items() if held is scenario), "")
            if module is not None
            else ""
        )
    else:
        code = getattr(inspect.unwrap(scenario), "__code__", None)
        path = Path(code.co_filename) if code is not None else None
        name = getattr(scenario, "__qualname__", "")
        if inspect.signature(scenario).parameters:
            name = ""
    if path is None or not name or "<" in name or not path.is_file():
        return ""
    with contextlib.suppress(ValueError):
        path = path.relative_to(Path.cwd())
    return f"{path}::{name.replace('.', '::')}"


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
            return dict(mark.kwargs)
    return {}


def _import(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"There is no file {str(path)!r}. Give the path of a module.")
    resolved = path.resolve()
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file is not None and Path(file).resolve() == resolved:
            return module
    name = f"_explored_{resolved.stem}"
    spec = importlib.util.spec_from_file_location(name, resolved)
    if spec is None or spec.loader is None:
        raise UsageError(f"{str(path)!r} is not a Python module.")
    module = importlib.util.module_from_spec(spec)
    # Imports of the project itself, as `python -m pytest` resolves them.
    for folder in (str(Path.cwd()), str(resolved.parent)):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as exc:
        del sys.modules[name]
        raise UsageError(
            f"{path} cannot be imported: {type(exc).__name__}: {exc}. "
            "Run it from the folder in which its imports work."
        ) from exc
    return module


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
    return all(
        parameter.default is not parameter.empty
        for parameter in inspect.signature(value).parameters.values()
    )
