"""What the sources of a package assign: all that a later read can be at odds with.

A read matters only where somebody writes. An attribute that no function of the watched
packages assigns, other than the constructor of a fresh object, can never be part of a
conflict that we could see, so its reads cost nothing. That halves the price of
tracking and loses no finding. Assignments by name (``setattr`` with a computed name)
and those of other packages are invisible in any case.
"""

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field

_CONSTRUCTORS = frozenset({"__init__", "__post_init__", "__new__", "__setstate__"})


@dataclass(slots=True)
class Survey:
    """What was found in the sources.

    Attributes:
        attributes: Names of attributes that somebody assigns.
        embodied: Names to which the body of a class gives a container.
    """

    attributes: set[str] = field(default_factory=set)
    embodied: set[str] = field(default_factory=set)

    def add(self, tree: ast.Module) -> None:
        """Look through one module."""
        self._look(tree.body, owner=None, function=None)

    def _look(
        self,
        nodes: Iterable[ast.AST],
        *,
        owner: ast.ClassDef | None,
        function: ast.FunctionDef | ast.AsyncFunctionDef | None,
    ) -> None:
        for node in nodes:
            if isinstance(node, ast.ClassDef):
                self.embodied.update(_containers(node))
                self._look(ast.iter_child_nodes(node), owner=node, function=None)
                continue
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self._look(ast.iter_child_nodes(node), owner=owner, function=node)
                continue
            if isinstance(node, ast.Attribute) and isinstance(
                node.ctx, ast.Store | ast.Del
            ):
                # What is assigned while a module is imported precedes all users.
                if function is not None and not builds(node, owner, function):
                    self.attributes.add(mangled(node.attr, owner))
            elif isinstance(node, ast.Call):
                self.attributes.update(_set_by_name(node))
            self._look(ast.iter_child_nodes(node), owner=owner, function=function)


def _containers(owner: ast.ClassDef) -> Iterable[str]:
    """Yield the names that stand for a container in the body of a class."""
    for part in owner.body:
        match part:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ) if isinstance(value, ast.List | ast.Dict | ast.Set | ast.Call):
                yield mangled(name, owner)
            case _:
                pass


def builds(
    target: ast.Attribute,
    owner: ast.ClassDef | None,
    function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda,
) -> bool:
    """Whether an assignment only gives a fresh object its first value.

    A class with a ``__new__`` of its own may hand out the same object again and again,
    and its ``__init__`` then overwrites what others use.
    """
    if owner is None or isinstance(function, ast.Lambda):
        return False
    if function.name not in _CONSTRUCTORS or _makes_its_own(owner):
        return False
    arguments = [*function.args.posonlyargs, *function.args.args]
    return (
        isinstance(target.value, ast.Name)
        and bool(arguments)
        and target.value.id == arguments[0].arg
    )


def mangled(name: str, owner: ast.ClassDef | None) -> str:
    """Return an attribute's real name: private names carry that of their class."""
    if owner is None or not name.startswith("__") or name.endswith("__"):
        return name
    prefix = owner.name.lstrip("_")
    return f"_{prefix}{name}" if prefix else name


def _makes_its_own(owner: ast.ClassDef) -> bool:
    is_odd = any(
        isinstance(part, ast.FunctionDef) and part.name == "__new__"
        for part in owner.body
    )
    return is_odd or any(keyword.arg == "metaclass" for keyword in owner.keywords)


def _set_by_name(node: ast.Call) -> Iterable[str]:
    match node:
        case ast.Call(
            func=ast.Name(id="setattr" | "delattr"),
            args=[_, ast.Constant(value=str(name)), *_],
        ):
            return (name,)
        case _:
            return ()
