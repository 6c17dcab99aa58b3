"""Where what users share was made: read from the source, so that it costs nothing.

An object of a class is made where the class is called, and a container where the
attribute or the global that holds it is given one. Most that a service shares is made
at one line; where there are several, all are told.

To note each object when it is made would be exact, and would cost most for those that
a request makes for itself and that are never told of.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

_MOST_TOLD = 3

Line = tuple[str, int]
"""File and line, from 1."""


@dataclass(slots=True)
class Origins:
    """The lines of all watched modules at which something is made."""

    _called: dict[str, dict[Line, None]] = field(default_factory=dict)
    _held: dict[str, dict[Line, None]] = field(default_factory=dict)

    def read(self, tree: ast.Module, *, path: str, module: str) -> None:
        """Look through a module, before it is rewritten."""
        for part in ast.walk(tree):
            if isinstance(part, ast.Call):
                name = getattr(part.func, "attr", getattr(part.func, "id", ""))
                self._called.setdefault(name, {})[path, part.lineno] = None
        for holder, at in _holders(tree, module, ()):
            self._held.setdefault(holder, {})[path, at.lineno] = None

    def of_object(self, cls: str) -> list[Line]:
        """Return where objects of a class are made, by its qualified name."""
        return list(self._called.get(cls.rpartition(".")[2], ()))[:_MOST_TOLD]

    def of_holder(self, holder: str) -> list[Line]:
        """Return where what ``Class.attribute`` or ``module.NAME`` holds is made."""
        return list(self._held.get(holder, ()))[:_MOST_TOLD]


def _holders(
    node: ast.AST, module: str, classes: tuple[str, ...]
) -> Iterator[tuple[str, ast.expr]]:
    """Yield what is given a value, by the name that findings have for it."""
    for part in ast.iter_child_nodes(node):
        inner = (*classes, part.name) if isinstance(part, ast.ClassDef) else classes
        yield from _holders(part, module, inner)
        for target in _targets(part):
            match target:
                case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name) if (
                    classes
                ):
                    yield f"{'.'.join(classes)}.{name}", target
                case ast.Name(id=name) if isinstance(node, ast.ClassDef):
                    yield f"{'.'.join(classes)}.{name}", target
                case ast.Name(id=name) if isinstance(node, ast.Module):
                    yield f"{module}.{name}", target
                case _:
                    pass


def _targets(node: ast.AST) -> list[ast.expr]:
    match node:
        case ast.Assign(targets=targets):
            return [
                part
                for target in targets
                for part in (
                    target.elts if isinstance(target, ast.Tuple) else (target,)
                )
            ]
        case ast.AnnAssign(target=target, value=ast.expr()):
            return [target]
        case _:
            return []
