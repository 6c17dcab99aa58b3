"""What pieces of source look like: which may be written twice, which ask or join."""

import ast
from collections.abc import Sequence
from typing import Final, TypeVar

from test_framework.detect.access.survey import Survey

_MOST_KEYS: Final = 8
Node = TypeVar("Node", bound=ast.AST)


def placed(node: Node, at: ast.AST) -> Node:
    """Give a new node, and what is new inside of it, the place of another."""
    for part in ast.walk(node):
        if not hasattr(part, "lineno") and "lineno" in part._attributes:
            ast.copy_location(part, at)
    return node


def is_bare(node: ast.AST) -> bool:
    """Whether an expression may be evaluated twice."""
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.operand, ast.Constant)
    return isinstance(node, ast.Name | ast.Constant)


def is_quiet(node: ast.AST) -> bool:
    """Whether the evaluation of an expression uses nothing, runs nothing, and ends."""
    match node:
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return all(is_quiet(part) for part in parts)
        case ast.Dict(keys=keys, values=values):
            # The hash of a key may be anybody's code.
            return all(isinstance(key, ast.Constant) for key in keys) and all(
                is_quiet(value) for value in values
            )
        case _:
            return is_bare(node)


def is_plain(node: ast.expr) -> bool:
    """Whether no other task and no method runs while an expression is evaluated."""
    return not any(
        isinstance(part, ast.Call | ast.Await | ast.Yield | ast.YieldFrom | _LOOPS)
        for part in ast.walk(node)
    )


_LOOPS: Final = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


def copied(node: ast.expr) -> ast.expr:
    """Return a bare expression once more."""
    match node:
        case ast.Name(id=name):
            return ast.copy_location(ast.Name(name, ast.Load()), node)
        case ast.Constant(value=value):
            return ast.copy_location(ast.Constant(value), node)
        case ast.UnaryOp(op=op, operand=ast.Constant(value=value)):
            return placed(ast.UnaryOp(op, ast.Constant(value)), node)
        case _:
            return node


def checks(node: ast.Compare) -> bool:
    """Whether a comparison asks if something is still what it is hoped to be."""
    if len(node.ops) != 1:
        return False
    if isinstance(node.comparators[0], ast.Constant):
        return False
    if isinstance(node.ops[0], ast.Is | ast.IsNot):
        return True
    return isinstance(node.ops[0], ast.Eq | ast.NotEq)


def has_slice(node: ast.expr) -> bool:
    """Whether a key holds a slice, which is no expression."""
    return isinstance(node, ast.Tuple) and any(
        isinstance(part, ast.Slice) for part in node.elts
    )


def shared_globals(tree: ast.Module, survey: Survey) -> frozenset[str]:
    """Return the globals of a module that functions assign, here or from outside."""
    declared = {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Global)
        for name in node.names
    }
    assigned = {
        part.id
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for part in ast.walk(node)
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
    }
    return frozenset(declared | (assigned & survey.attributes))


def foreign_modules(tree: ast.Module, packages: Sequence[str]) -> frozenset[str]:
    """Return the names that plain imports of other packages bind."""
    roots = {package.partition(".")[0] for package in packages}
    return frozenset(
        alias.asname or alias.name.partition(".")[0]
        for node in tree.body
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name.partition(".")[0] not in roots
    )


def has_first(node: ast.Call) -> bool:
    """Whether a call has a first argument that a probe can stand at."""
    return bool(node.args) and not isinstance(node.args[0], ast.Starred)


def offers(node: ast.Call) -> bool:
    """Whether a local is offered for a key that the source names, if that is empty."""
    match node.args:
        case [ast.Constant(value=str()), ast.Name()]:
            return True
        case _:
            return False


def joins(func: ast.Attribute) -> bool:
    """Whether a method joins texts, such as ``", ".join``."""
    return func.attr == "join" and isinstance(func.value, ast.Constant)


def named_keys(node: ast.Call) -> ast.expr:
    """Return a dictionary of the keys that ``d.update(key=value)`` names."""
    keys: list[ast.expr | None] = [
        ast.Constant(keyword.arg) for keyword in node.keywords if keyword.arg
    ]
    return placed(ast.Dict(keys, [ast.Constant(None) for _ in keys]), node)


def matched(node: ast.Match) -> tuple[list[str], set[str]]:
    """Return the keys and the attributes of the subject that its cases look at."""
    keys: dict[str, None] = {}
    attributes: set[str] = set()
    waiting = [case.pattern for case in node.cases]
    while waiting:
        match waiting.pop(0):
            case ast.MatchMapping(keys=parts):
                for part in parts:
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        keys[part.value] = None
            case ast.MatchClass(kwd_attrs=parts):
                attributes.update(parts)
            case ast.MatchOr(patterns=parts):
                waiting.extend(parts)
            case ast.MatchAs(pattern=ast.pattern() as part):
                waiting.append(part)
            case _:
                pass
    return list(keys)[:_MOST_KEYS], attributes
