"""Which variable a name in a function means, as far as it may be shared.

Two kinds of variables outlive a step of one task without being an attribute: globals
that a function assigns, and variables of an outer function that an inner one assigns
(``nonlocal``). All others are the private business of one call.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
ComprehensionNode = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


@dataclass(slots=True)
class Scope:
    """The names of one function or comprehension.

    Attributes:
        bound: Its own variables.
        globals: Names that it declares ``global``.
        nonlocals: Names that it declares ``nonlocal``.
        lent: Its variables that inner functions assign.
        private: Its variables that hold what nobody else can use.
    """

    bound: set[str] = field(default_factory=set)
    globals: set[str] = field(default_factory=set)
    nonlocals: set[str] = field(default_factory=set)
    lent: set[str] = field(default_factory=set)
    private: frozenset[str] = frozenset()


def scope_of(node: FunctionNode) -> Scope:
    """Return the names of a function."""
    scope = Scope()
    every = node.args
    for argument in (
        *every.posonlyargs,
        *every.args,
        *every.kwonlyargs,
        *filter(None, (every.vararg, every.kwarg)),
    ):
        scope.bound.add(argument.arg)
    if isinstance(node, ast.Lambda):
        return scope
    for part in within(*node.body):
        if isinstance(part, ast.Global):
            scope.globals.update(part.names)
        elif isinstance(part, ast.Nonlocal):
            scope.nonlocals.update(part.names)
        else:
            scope.bound.update(bound_by(part))
    scope.bound -= scope.globals | scope.nonlocals
    scope.lent = {
        name
        for inner in _inner_functions(node)
        for name in _lent_to(inner)
        if name in scope.bound
    }
    return scope


def scope_of_comprehension(node: ComprehensionNode) -> Scope:
    """Return the names that a comprehension keeps to itself."""
    return Scope(
        {
            part.id
            for generator in node.generators
            for part in ast.walk(generator.target)
            if isinstance(part, ast.Name)
        }
    )


def within(*nodes: ast.AST) -> Iterator[ast.AST]:
    """Yield nodes and what stands in them, but not what inner scopes hold."""
    waiting = list(reversed(nodes))
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            waiting.extend(reversed(list(ast.iter_child_nodes(node))))


def suspends(*nodes: ast.AST) -> bool:
    """Whether other tasks may run, or a generator may rest, in these nodes."""
    return any(
        isinstance(
            node, ast.Await | ast.AsyncFor | ast.AsyncWith | ast.Yield | ast.YieldFrom
        )
        or (isinstance(node, ast.comprehension) and node.is_async)
        for node in within(*nodes)
    )


def bound_by(node: ast.AST) -> Iterator[str]:
    """Yield the names that a node itself gives a value, once for each time."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
        # A comprehension's own targets are counted as well: one shadow too many
        # costs a name that is not watched, one too few a wrong report.
        yield node.id
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        for alias in node.names:
            yield alias.asname or alias.name.partition(".")[0]
    elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
        if node.name is not None:
            yield node.name
    elif isinstance(node, ast.MatchMapping) and node.rest is not None:
        yield node.rest


def _inner_functions(node: ast.AST) -> Iterator[FunctionNode]:
    """Yield the functions directly inside of one, also those in its classes."""
    waiting = list(ast.iter_child_nodes(node))
    while waiting:
        child = waiting.pop()
        if isinstance(child, _FUNCTIONS):
            yield child
        else:
            waiting.extend(ast.iter_child_nodes(child))


def _lent_to(node: FunctionNode) -> set[str]:
    """Return the outer names that a function or one inside of it assigns."""
    inner = {name for child in _inner_functions(node) for name in _lent_to(child)}
    scope = Scope()
    if not isinstance(node, ast.Lambda):
        for part in within(*node.body):
            if isinstance(part, ast.Nonlocal):
                scope.nonlocals.update(part.names)
            else:
                scope.bound.update(bound_by(part))
    arguments = {part.arg for part in ast.walk(node.args) if isinstance(part, ast.arg)}
    return scope.nonlocals | (inner - (scope.bound - scope.nonlocals) - arguments)
