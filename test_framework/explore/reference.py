"""How a scenario is named where it must be found again: ``PATH::NAME``."""

import contextlib
import inspect
import sys
from pathlib import Path
from typing import Any

from test_framework.explore.scenario import Scenario


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
