"""Imports modules with probes, each time in a tracker of its own."""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from test_framework.detect.access import AccessTracker


@contextlib.contextmanager
def tracked(
    package: str, *modules: str, folder: Path | None = None, hold_s: float = 0
) -> Iterator[tuple[AccessTracker, list[ModuleType]]]:
    """Import modules of a package with probes, and forget them afterwards.

    Args:
        package: What to track.
        modules: What to import; the package itself by default.
        folder: Put in front of the path.
        hold_s: Of the tracker.

    Yields:
        The tracker, which runs, and the modules.
    """
    before = {name: sys.modules.pop(name) for name in _modules_of(package)}
    path = list(sys.path)
    if folder is not None:
        sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    tracker = AccessTracker([package], root=folder, hold_s=hold_s)
    tracker.start()
    try:
        yield tracker, [importlib.import_module(name) for name in modules or [package]]
    finally:
        tracker.stop()
        sys.path[:] = path
        for name in _modules_of(package):
            del sys.modules[name]
        sys.modules.update(before)


def _modules_of(package: str) -> list[str]:
    return [
        name
        for name in sys.modules
        if name == package or name.startswith(f"{package}.")
    ]
