"""Patches a package when it is imported: a detector starts before the service is.

The finder stands first on ``sys.meta_path``, lets the others find the module, and calls
back once it was executed. Nothing is imported that the service does not import.
"""

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

Patch = Callable[[ModuleType], None]


class ImportWatch(MetaPathFinder):
    """Calls back for each module of some names, once and as soon as it is there.

    Args:
        patches: What to call, by the full name of the module.
    """

    def __init__(self, patches: Mapping[str, Patch]) -> None:
        self._patches = dict(patches)
        self._finding: set[str] = set()

    def install(self) -> None:
        """Call back for what is there, and watch for the rest."""
        for name in list(self._patches):
            module = sys.modules.get(name)
            if module is not None:
                self._patches.pop(name)(module)
        sys.meta_path.insert(0, self)

    def remove(self) -> None:
        """Watch no longer."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002  # the protocol of finders
        target: ModuleType | None = None,  # noqa: ARG002  # the protocol of finders
    ) -> ModuleSpec | None:
        """Find one of the modules as the finders behind do."""
        if fullname not in self._patches or fullname in self._finding:
            return None
        self._finding.add(fullname)
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._finding.discard(fullname)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            patch = self._patches.pop(fullname, None)
            if patch is not None and self in sys.meta_path:
                patch(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]  # of this loader alone
        return spec
