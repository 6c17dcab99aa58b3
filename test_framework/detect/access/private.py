"""Which local variables hold nothing that anybody else could use.

A number or a text never changes, and a container that a function makes for itself and
never lets go of is seen by nobody else while it is used here. Such names need no
probes. What is claimed must follow from the function alone: a parameter that is
annotated as a text is believed, everything else is looked up in all of its bindings.

Source: escape analysis as in Choi et al., "Escape analysis for Java" (OOPSLA 1999),
for one function at a time and without the flow of control.
"""

import ast
from collections import Counter
from collections.abc import Iterable
from typing import Final

from test_framework.detect.access.methods import CALLED_ON, WHOLE
from test_framework.detect.access.names import FunctionNode, bound_by, within

_PLAIN: Final = frozenset({"bool", "bytes", "float", "int", "str", "None"})
_MAKES_PLAIN: Final = _PLAIN | {"id", "isinstance", "len", "range", "repr", "round"}
_MAKES_CONTAINER: Final = frozenset(
    {"Counter", "bytearray", "defaultdict", "deque", "dict", "list", "set", "sorted"}
)
_DISPLAYS: Final = (
    ast.List,
    ast.Dict,
    ast.Set,
    ast.ListComp,
    ast.DictComp,
    ast.SetComp,
)


def is_fresh(node: ast.expr) -> bool:
    """Whether the value of an expression was made by it, so that nobody else has it."""
    return _is_container(node) or _is_plain(node, frozenset())


def private_names(node: FunctionNode) -> frozenset[str]:
    """Return the variables of a function that hold what only it can use.

    Args:
        node: The function, not yet rewritten.
    """
    if isinstance(node, ast.Lambda):
        return frozenset()
    parts = list(within(*node.body))
    bindings = Counter(name for part in parts for name in bound_by(part))
    plain = _plain_names(node, parts, bindings)
    own = _made_here(parts, bindings)
    return plain | (own - _let_go(node, parts)) if own else plain


def _plain_names(
    node: ast.FunctionDef | ast.AsyncFunctionDef,
    parts: Iterable[ast.AST],
    bindings: Counter[str],
) -> frozenset[str]:
    """Return the names that hold numbers and texts only."""
    every = node.args
    given = [*every.posonlyargs, *every.args, *every.kwonlyargs]
    names = {one.arg for one in given if _is_plain_type(one.annotation)}
    arguments = {part.arg for part in ast.walk(every) if isinstance(part, ast.arg)}
    found: Counter[str] = Counter()
    for part in parts:
        match part:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ):
                found[name] += _is_plain(value, names)
            case ast.For(
                target=ast.Name(id=name),
                iter=ast.Call(func=ast.Name(id="range")),
            ):
                found[name] += 1
            case _:
                pass
    plain = {name for name, count in found.items() if count == bindings[name]}
    return frozenset(
        name
        for name in names | plain
        if (name in plain or not bindings[name])
        and (name in names or name not in arguments)
    )


def _made_here(parts: Iterable[ast.AST], bindings: Counter[str]) -> frozenset[str]:
    """Return the names that are only ever given a new container."""
    made: Counter[str] = Counter()
    for part in parts:
        match part:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ) if _is_container(value):
                made[name] += 1
            case ast.AugAssign(target=ast.Name(id=name)):
                made[name] += 1
            case _:
                pass
    return frozenset(name for name, count in made.items() if count == bindings[name])


def _let_go(
    node: ast.FunctionDef | ast.AsyncFunctionDef, parts: list[ast.AST]
) -> frozenset[str]:
    """Return the names whose value gets, or could get, to where others see it."""
    kept: set[int] = set()
    for part in parts:
        match part:
            case (
                ast.Subscript(value=holder)
                | ast.For(iter=holder)
                | ast.comprehension(iter=holder)
                | ast.FormattedValue(value=holder)
                | ast.Return(value=holder)
                | ast.Starred(value=holder)
            ):
                kept.add(id(holder))
            case ast.Call(func=ast.Attribute(value=holder, attr=method)) if (
                method in CALLED_ON
            ):
                kept.add(id(holder))
            case ast.Call(func=ast.Name(id=name), args=[holder, *_]) if name in WHOLE:
                kept.add(id(holder))
            case ast.Compare(ops=[ast.In() | ast.NotIn()], comparators=[holder]):
                kept.add(id(holder))
            case _:
                pass
    return frozenset(
        part.id
        for part in ast.walk(node)
        if isinstance(part, ast.Name)
        and isinstance(part.ctx, ast.Load)
        and id(part) not in kept
    )


def _is_container(node: ast.expr) -> bool:
    return isinstance(node, _DISPLAYS) or _called(node) in _MAKES_CONTAINER


def _is_plain(node: ast.expr, names: Iterable[str]) -> bool:
    """Whether an expression is a number or a text, whatever its parts are."""
    match node:
        case ast.Constant() | ast.JoinedStr():
            return True
        case ast.Name(id=name):
            return name in names
        case ast.Call():
            return _called(node) in _MAKES_PLAIN
        case ast.BinOp(left=left, right=right):
            return _is_plain(left, names) and _is_plain(right, names)
        case ast.UnaryOp(op=ast.Not()):
            return True
        case _:
            return False


def _is_plain_type(node: ast.expr | None) -> bool:
    match node:
        case ast.Name(id=name):
            return name in _PLAIN
        case ast.Constant(value=value):
            return value is None or value in _PLAIN
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _is_plain_type(left) and _is_plain_type(right)
        case _:
            return False


def _called(node: ast.expr) -> str:
    match node:
        case ast.Call(func=ast.Name(id=name)):
            return name
        case _:
            return ""
