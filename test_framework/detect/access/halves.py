"""Finds what a function writes in two halves, with an await between them.

``self.name = owner``, await, ``self.address = street_of(owner)``: both halves are made
from one local, so they belong together, and whoever reads both in between has one of
each. A state and a result that come one after the other are made from different things.

``room = rooms[key] = Room()``, await, ``room.is_private = ...``: the object can be found
before it is complete. Who finds it in the same function, as ``rooms.get(key)`` at its
beginning, is given it for a complete one; who asks how far it is does so elsewhere.

Source: that variables which belong together are to be found in how they are used: Lu
et al., MUVI (SOSP 2007).
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from test_framework.detect.access.names import within
from test_framework.detect.access.sites import Site


@dataclass(slots=True)
class Halves:
    """The lines that write one half.

    Attributes:
        first: Those before the await.
        second: Those after it.
        published: Those that put an object into a container to complete it later.
    """

    first: set[Site] = field(default_factory=set)
    published: set[Site] = field(default_factory=set)
    second: set[Site] = field(default_factory=set)

    def read(self, tree: ast.Module, *, path: str) -> None:
        """Look through a module, before it is rewritten."""
        self._look(tree, path, [])

    def _look(self, node: ast.AST, path: str, qualified: list[str]) -> None:
        for part in ast.iter_child_nodes(node):
            if isinstance(part, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                inner = [*qualified, part.name]
                if isinstance(part, ast.AsyncFunctionDef):
                    self._pair(part, path, ".".join(inner))
                self._look(part, path, inner)
            else:
                self._look(part, path, qualified)

    def _pair(self, node: ast.AsyncFunctionDef, path: str, function: str) -> None:
        writes = list(_writes(node))
        awaits = [
            part.lineno for part in within(*node.body) if isinstance(part, ast.Await)
        ]
        for early, made in writes:
            for late, made_too in writes:
                if (
                    early.attr != late.attr
                    and ast.dump(early.value) == ast.dump(late.value)
                    and any(early.lineno < line < late.lineno for line in awaits)
                    and made & made_too
                ):
                    self.first.add(Site(path, early.lineno, function))
                    self.second.add(Site(path, late.lineno, function))
        for name, line in _published(node):
            for late, _ in writes:
                if (
                    isinstance(late.value, ast.Name)
                    and late.value.id == name
                    and any(line < other < late.lineno for other in awaits)
                ):
                    self.published.add(Site(path, line, function))
                    self.second.add(Site(path, late.lineno, function))


def _writes(
    node: ast.AsyncFunctionDef,
) -> Iterator[tuple[ast.Attribute, frozenset[str]]]:
    """Yield the attributes that are assigned, and the locals that is made from."""
    for part in within(*node.body):
        match part:
            case ast.Assign(targets=[ast.Attribute(value=ast.Name(id=owner)) as at]):
                names = {
                    one.id
                    for one in ast.walk(part.value)
                    if isinstance(one, ast.Name) and one.id != owner
                }
                yield at, frozenset(names)
            case _:
                pass


def _published(node: ast.AsyncFunctionDef) -> Iterator[tuple[str, int]]:
    """Yield the locals whose object is put under a key, and the lines."""
    for part in within(*node.body):
        if not isinstance(part, ast.Assign):
            continue
        keyed = [one for one in part.targets if isinstance(one, ast.Subscript)]
        named = [
            one for one in (*part.targets, part.value) if isinstance(one, ast.Name)
        ]
        if keyed and named:
            yield named[0].id, keyed[0].lineno
