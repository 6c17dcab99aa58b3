"""Rewrites the modules of the watched packages when they are imported."""

import ast
import contextlib
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from test_framework.core import UsageError
from test_framework.detect.access.flows import Flows
from test_framework.detect.access.halves import Halves
from test_framework.detect.access.origins import Origins
from test_framework.detect.access.reading import read_flows
from test_framework.detect.access.rewrite import rewrite
from test_framework.detect.access.sites import Sites
from test_framework.detect.access.survey import Survey


class Imports(MetaPathFinder):
    """Finds modules as Python does, and loads those of the packages with probes.

    Compiled files are neither read nor written: they belong to the plain source.

    Args:
        packages: Names of packages or modules; what lies below them is meant too.

    Attributes:
        sites: The places of the probes.
        flows: What flows from one into another.
        origins: Where things are made.
        watched: Names of the modules that were rewritten.
        unwatched: One sentence for each module that was not, and why.
        files: Paths of the modules that were rewritten.
        home: The folder that the first package is imported from, once that is known.
    """

    def __init__(self, packages: Sequence[str]) -> None:
        self.packages = tuple(packages)
        self.sites = Sites()
        self.flows = Flows()
        self.origins = Origins()
        self.watched: list[str] = []
        self.unwatched: list[str] = []
        self.files: set[str] = set()
        self.home: Path | None = None
        self._halves = Halves()
        self._survey = Survey()
        self._probes: Mapping[str, Callable[..., Any]] = {}

    def start(self, probes: Mapping[str, Callable[..., Any]]) -> None:
        """Look through the packages and stand in front of all finders.

        Args:
            probes: What is put into each module, by name.

        Raises:
            UsageError: There is no such package.
        """
        self._probes = probes
        for package in self.packages:
            for path in _sources(package):
                with contextlib.suppress(SyntaxError, ValueError, OSError):
                    self._survey.add(ast.parse(path.read_bytes()))
        early = sorted(name for name in sys.modules if self._covers(name))
        if early:
            self.unwatched.append(
                f"{', '.join(early)}: imported before the tracker started. Start it "
                "before anything of the package is imported."
            )
        sys.meta_path.insert(0, self)

    def stop(self) -> None:
        """Step aside; what was rewritten stays so."""
        with contextlib.suppress(ValueError):
            sys.meta_path.remove(self)

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Return where a module is, with a loader of ours if it is to be watched."""
        if not self._covers(fullname):
            return None
        for finder in sys.meta_path:
            if isinstance(finder, Imports) or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                break
        else:
            return None
        if type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(spec.loader.name, spec.loader.path, self)
        elif spec.origin is not None:
            self.unwatched.append(
                f"{fullname}: {Path(spec.origin).name} is no Python source, so nothing "
                "can be put into it."
            )
        return spec

    def compiled(self, name: str, source: bytes, path: str) -> CodeType:
        """Return the code of a module, with probes if that can be done."""
        tree = ast.parse(source, filename=path)
        try:
            read_flows(tree, self.flows, path=path, module=name)
            self._halves.read(tree, path=path)
            self.origins.read(tree, path=path, module=name)
            rewritten = rewrite(
                tree,
                path=path,
                sites=self.sites,
                survey=self._survey,
                halves=self._halves,
                packages=self.packages,
            )
            code: CodeType = compile(rewritten, path, "exec", dont_inherit=True)
        except (SyntaxError, TypeError, ValueError, RecursionError) as exc:
            self.unwatched.append(
                f"{name}: probes could not be put into it ({type(exc).__name__}: "
                f"{exc}), so it runs as it is."
            )
            return compile(source, path, "exec", dont_inherit=True)
        if self.home is None:
            above = name.count(".") + (Path(path).stem == "__init__")
            self.home = Path(path).parents[above]
        self.watched.append(name)
        self.files.add(path)
        return code

    def furnish(self, module: ModuleType) -> None:
        """Put the probes where the module's functions look for them."""
        vars(module).update(self._probes, **{"_@module": module})

    def _covers(self, name: str) -> bool:
        return any(
            name == package or name.startswith(f"{package}.")
            for package in self.packages
        )


class _Loader(SourceFileLoader):
    def __init__(self, fullname: str, path: str, imports: Imports) -> None:
        super().__init__(fullname, path)
        self._imports = imports

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self._imports.compiled(fullname, self.get_data(path), path)

    def exec_module(self, module: ModuleType) -> None:
        self._imports.furnish(module)
        super().exec_module(module)


def _sources(package: str) -> Iterator[Path]:
    """Yield the source files of a package or module, without importing anything.

    Raises:
        UsageError: There is no such package.
    """
    folders: list[str] = sys.path
    origin: str | None = None
    name = ""
    for part in package.split("."):
        name = f"{name}.{part}".lstrip(".")
        found = _found_in(name, folders)
        if found is None:
            raise UsageError(
                f"There is no package {package!r} to track. Name a package or module as "
                "it is imported, and run where that import works."
            )
        folders, origin = found
    for folder in folders:
        yield from sorted(Path(folder).rglob("*.py"))
    if origin is not None and origin.endswith(".py") and not folders:
        yield Path(origin)


def _found_in(name: str, folders: Iterable[str]) -> tuple[list[str], str | None] | None:
    """Return the folders and the file of a package or module; None: not there.

    ``PathFinder`` would ask for the parent package of one without ``__init__`` in
    ``sys.modules``, where it is not: nothing has been imported yet.
    """
    portions: list[str] = []
    for folder in folders:
        finder = pkgutil.get_importer(folder)
        spec = finder.find_spec(name) if finder is not None else None
        if spec is not None and spec.loader is not None:
            return list(spec.submodule_search_locations or ()), spec.origin
        if spec is not None:
            portions += spec.submodule_search_locations or ()
    return (portions, None) if portions else None
