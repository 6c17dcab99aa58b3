"""Reads from the source of a module what flows where; see ``flows`` for what for.

Statements are gone through in their order, and of each local is kept what it came
from. Where branches meet it may hold what any of them left; loops are gone through
twice. The questions around a line are those whose branch it stands in, and those of
which the other branch has left.
"""

import ast
import builtins
import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from test_framework.detect.access.flows import Flows, Guard, Node
from test_framework.detect.access.methods import WHOLE
from test_framework.detect.access.sites import Site

_EXITS: Final = (ast.Return, ast.Raise, ast.Continue, ast.Break)
_PLACED: Final = frozenset({"insert", "pop", "setdefault"})
"""Methods whose first argument says where."""
_LONGEST: Final = 40
_ASKS: Final = (ast.BoolOp, ast.UnaryOp, ast.BinOp)
_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_READS: Final = (ast.Attribute, ast.Subscript, ast.Call, ast.Compare, ast.Name)


def read_flows(tree: ast.Module, flows: Flows, *, path: str, module: str) -> None:
    """Look through a module, before it is rewritten.

    Args:
        tree: The module as it was parsed; it is left as it is.
        flows: Where that is noted.
        path: Its file.
        module: Its name.
    """
    _Reader(flows, path, module).block(tree.body, {})


@dataclass(frozen=True, slots=True)
class _Local:
    """What a local variable holds: what it came from, and the expression, if one."""

    reads: frozenset[Node]
    source: ast.expr | None


Locals = dict[str, _Local]


@dataclass(slots=True)
class _Reader:
    """Goes through statements in their order and keeps what locals hold."""

    flows: Flows
    path: str
    module: str
    qualified: list[str] = field(default_factory=list)
    function: str = ""
    guards: list[Guard] = field(default_factory=list)

    # Statements.

    def block(self, body: list[ast.stmt], local: Locals) -> None:
        """Go through statements; ``local`` is brought up to date."""
        depth = len(self.guards)
        for statement in body:
            self._statement(statement, local)
        del self.guards[depth:]

    def _statement(self, node: ast.stmt, local: Locals) -> None:
        match node:
            case ast.ClassDef(name=name, body=body):
                self.qualified.append(name)
                self.block(body, {})
                self.qualified.pop()
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self._function(node, local)
            case ast.If(test=test, body=body, orelse=orelse):
                self._branch(test, body, orelse, local)
            case ast.While(test=test, body=body, orelse=orelse):
                for _ in range(2):
                    self._branch(test, body, [], local)
                self.block(orelse, local)
                self._ask(test, local, expected=False)
            case ast.For() | ast.AsyncFor():
                self._bind(node.target, node.iter, local)
                for _ in range(2):
                    self._either([node.body, []], local)
                self.block(node.orelse, local)
            case (
                ast.With(items=items, body=body) | ast.AsyncWith(items=items, body=body)
            ):
                for item in items:
                    self._uses(item.context_expr, local)
                    if item.optional_vars is not None:
                        self._bind(item.optional_vars, item.context_expr, local)
                depth = len(self.guards)
                for statement in body:
                    self._statement(statement, local)
                del self.guards[depth:]
            case ast.Try() | ast.TryStar():
                self._try(node, local)
            case ast.Match(subject=subject, cases=cases):
                self._match(subject, cases, local)
            case ast.Assert(test=test):
                self._uses(test, local)
                self._ask(test, local, expected=True)
            case ast.Return(value=ast.expr() as value):
                self.flows.link(self._uses(value, local), ("result", self.function))
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    self._bind(target, value, local)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self._bind(target, value, local)
            case ast.AugAssign(target=target, value=value):
                self._bind(target, value, local, is_added=True)
            case ast.Delete(targets=targets):
                for target in targets:
                    self._bind(target, ast.Constant(None), local)
            case _:
                for part in ast.iter_child_nodes(node):
                    if isinstance(part, ast.expr):
                        self._uses(part, local)

    def _branch(
        self,
        test: ast.expr,
        body: list[ast.stmt],
        orelse: list[ast.stmt],
        local: Locals,
    ) -> None:
        self._uses(test, local)
        asked = self._question(test, local)
        self._either([body, orelse], local, asked)
        if _leaves(body):
            self._ask(test, local, expected=False, guard=asked[1])
        elif _leaves(orelse):
            self._ask(test, local, expected=True, guard=asked[0])

    def _either(
        self,
        bodies: list[list[ast.stmt]],
        local: Locals,
        guards: Iterable[Guard] = (),
    ) -> None:
        """Go through alternatives and join what locals hold after those that end."""
        after: list[Locals] = []
        asked = list(guards)
        for number, body in enumerate(bodies):
            branch = dict(local)
            depth = len(self.guards)
            self.guards.extend(asked[number : number + 1])
            self.block(body, branch)
            del self.guards[depth:]
            if not _leaves(body):
                after.append(branch)
        _join(local, after)

    def _try(self, node: ast.Try | ast.TryStar, local: Locals) -> None:
        before = dict(local)
        self.block(node.body, local)
        asked = [
            Guard(
                _resolved(ast.Compare(part.slice, [ast.In()], [part.value]), before),
                self.path,
                ".".join(self.qualified),
                frozenset({self._site(part)}),
                expected=False,
            )
            for statement in node.body
            for part in ast.walk(statement)
            if isinstance(part, ast.Subscript) and isinstance(part.ctx, ast.Load)
        ]
        after = [dict(local)]
        for handler in node.handlers:
            branch = {**before, **local}
            depth = len(self.guards)
            self.guards.extend(asked)
            self.block(handler.body, branch)
            del self.guards[depth:]
            if not _leaves(handler.body):
                after.append(branch)
        _join(local, after)
        self.block(node.orelse, local)
        self.block(node.finalbody, local)

    def _match(
        self, subject: ast.expr, cases: list[ast.match_case], local: Locals
    ) -> None:
        reads = self._uses(subject, local)
        for case in cases:
            for part in ast.walk(case.pattern):
                name = getattr(part, "name", None) or getattr(part, "rest", None)
                if isinstance(name, str):
                    local[name] = _Local(reads, None)
        self._either([case.body for case in cases], local)

    def _function(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef, local: Locals
    ) -> None:
        outer = self.function, self.guards
        self.qualified.append(node.name)
        self.function, self.guards = node.name, []
        # Names of the module are shared, and may hold something else by now.
        inner = dict(local) if outer[0] else {}
        every = node.args
        given = [*every.posonlyargs, *every.args, *every.kwonlyargs]
        for argument in (*given, *filter(None, (every.vararg, every.kwarg))):
            inner[argument.arg] = _Local(frozenset({("argument", node.name)}), None)
        if given and given[0].arg in {"self", "cls"}:
            inner[given[0].arg] = _NOTHING
        self.block(node.body, inner)
        self.function, self.guards = outer
        self.qualified.pop()

    # Names and places that are written.

    def _bind(
        self,
        target: ast.expr,
        value: ast.expr,
        local: Locals,
        *,
        is_added: bool = False,
    ) -> None:
        match target, value:
            case (ast.Tuple(elts=parts), ast.Tuple(elts=given)) if len(parts) == len(
                given
            ):
                for part, one in zip(parts, given, strict=True):
                    self._bind(part, one, local)
                return
            case ast.Tuple(elts=parts), ast.Attribute() | ast.Subscript():
                taken = [
                    number
                    for number, part in enumerate(parts)
                    if not (isinstance(part, ast.Name) and part.id == "_")
                ]
                self.flows.take(self._site(value), taken)
            case _:
                pass
        reads = self._uses(value, local)
        self._store(target, reads, value, local, is_added=is_added)

    def _store(
        self,
        target: ast.expr,
        reads: frozenset[Node],
        value: ast.expr | None,
        local: Locals,
        *,
        is_added: bool,
    ) -> None:
        match target:
            case ast.Name(id=name):
                if is_added and name in local:
                    reads |= local[name].reads
                source = None if is_added else _source(value, local)
                local[name] = _Local(reads, source)
                self._written(target, reads)
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                for part in parts:
                    self._store(part, reads, None, local, is_added=False)
            case ast.Starred(value=inner):
                self._store(inner, reads, None, local, is_added=False)
            case ast.Attribute():
                self._written(target, reads)
                self._uses(target.value, local)
            case ast.Subscript(value=inner, slice=key):
                self._written(target, reads)
                self.flows.link(self._uses(key, local), ("key", self._site(target)))
                self._uses(inner, local)
                self._name(target, local)
                self._fill(inner, reads, local)
            case _:
                pass

    def _fill(self, holder: ast.expr, reads: frozenset[Node], local: Locals) -> None:
        """Note that a local container holds what was put into it."""
        if isinstance(holder, ast.Name) and holder.id in local:
            known = local[holder.id]
            local[holder.id] = _Local(known.reads | reads, known.source)

    def _written(self, at: ast.expr, reads: Iterable[Node]) -> None:
        site = self._site(at)
        self.flows.link(reads, ("value", site))
        self._reach(("guarded", site))

    def _reach(self, node: Node) -> None:
        """Note under which questions a line or function is reached."""
        if self.function:
            self.flows.link([("call", self.function)], node)
        self.flows.guard(node, self.guards)

    # Expressions.

    def _uses(self, node: ast.expr, local: Locals) -> frozenset[Node]:
        """Return what the value of an expression depends on, and note its calls."""
        reads: set[Node] = set()
        for part in _within(node):
            if isinstance(part, _READS):
                reads.add(self._site(part))
            self._name(part, local)
            self._part(part)
            if isinstance(part, ast.Name) and part.id in local:
                reads |= local[part.id].reads
            elif isinstance(part, ast.NamedExpr):
                self._bind(part.target, part.value, local)
            elif isinstance(part, ast.Call):
                reads.add(("result", _name_of(part.func)))
                self._call(part, local)
        return frozenset(reads)

    def _part(self, node: ast.AST) -> None:
        """Note what is only a part of what is read, and what only chooses."""
        match node:
            case ast.Attribute(value=ast.Attribute() as whole, attr=name):
                self.flows.take(self._site(whole), [name])
            case ast.Subscript(
                value=ast.Attribute() as whole, slice=ast.Constant(value=key)
            ):
                self.flows.take(self._site(whole), [key])
            case ast.IfExp(test=test):
                for part in _within(test):
                    if isinstance(part, _READS):
                        self.flows.choose(self._site(part))
            case _:
                pass

    def _call(self, node: ast.Call, local: Locals) -> None:
        name = _name_of(node.func)
        given: set[Node] = set()
        for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
            given.update(self._reads(argument, local))
        self.flows.link(given, ("argument", name))
        self._reach(("call", name))
        if name == "setdefault":
            self.flows.test([self._site(node)])
        if node.args and name in _PLACED:
            self.flows.link(self._reads(node.args[0], local), ("key", self._site(node)))
        self._written(node, given)
        if isinstance(node.func, ast.Attribute):
            self._fill(node.func.value, frozenset(given), local)

    def _reads(self, node: ast.expr, local: Locals) -> Iterator[Node]:
        for part in _within(node):
            if isinstance(part, _READS):
                yield self._site(part)
            if isinstance(part, ast.Name) and part.id in local:
                yield from local[part.id].reads
            elif isinstance(part, ast.Call):
                yield ("result", _name_of(part.func))

    def _name(self, node: ast.AST, local: Locals) -> None:
        """Note what a container is called, where a key or a method of it is used."""
        match node:
            case ast.Subscript(value=holder):
                pass
            case ast.Call(func=ast.Attribute(value=holder)):
                pass
            case ast.Compare(ops=[ast.In() | ast.NotIn()], comparators=[holder]):
                pass
            case ast.Call(func=ast.Name(id=name), args=[holder, *_]) if name in WHOLE:
                pass
            case _:
                return
        match _resolved(holder, local):
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name) if (
                len(self.qualified) > 1
            ):
                owner = ".".join(self.qualified[:-1])
                self.flows.hold(self._site(node), f"{owner}.{name}")
            case ast.Attribute(value=ast.Name(id=owner), attr=name):
                self.flows.hold(self._site(node), f"{owner}.{name}")
            case ast.Call(func=ast.Name(id=name)) if not hasattr(builtins, name):
                self.flows.hold(self._site(node), f"{name}()")
            case ast.Name(id=name) if name not in local and self.qualified:
                if not hasattr(builtins, name):
                    self.flows.hold(self._site(node), f"{self.module}.{name}")
            case _:
                pass

    def _ask(
        self,
        test: ast.expr,
        local: Locals,
        *,
        expected: bool,
        guard: Guard | None = None,
    ) -> None:
        """Let the rest of a block depend on a question."""
        self.guards.append(guard or self._question(test, local)[not expected])

    def _question(self, test: ast.expr, local: Locals) -> tuple[Guard, Guard]:
        """Return what is asked, for the answers yes and no."""
        reads = frozenset(self._reads(test, local))
        self.flows.test(self._reads(test, {}))
        where = self.path, ".".join(self.qualified), reads
        asked = _resolved(test, local)
        return Guard(asked, *where), Guard(asked, *where, expected=False)

    def _site(self, node: ast.expr) -> Site:
        return Site(self.path, node.lineno, ".".join(self.qualified))


_NOTHING: Final = _Local(frozenset(), None)


def _leaves(body: list[ast.stmt]) -> bool:
    return bool(body) and isinstance(body[-1], _EXITS)


def _join(local: Locals, after: list[Locals]) -> None:
    """Let locals hold what they may hold after any of several branches."""
    if not after:
        return
    names = {name for branch in after for name in branch}
    for name in names:
        held = [branch.get(name, _NOTHING) for branch in after]
        reads = frozenset().union(*(one.reads for one in held))
        is_one = all(one.source is held[0].source for one in held)
        local[name] = _Local(reads, held[0].source if is_one else None)


class _Resolver(ast.NodeTransformer):
    def __init__(self, local: Mapping[str, _Local]) -> None:
        self._local = local

    def visit_Name(self, node: ast.Name) -> ast.AST:
        known = self._local.get(node.id)
        return node if known is None or known.source is None else known.source


def _resolved(node: ast.expr, local: Mapping[str, _Local]) -> ast.expr:
    """Return an expression with locals replaced by what was put into them."""
    resolved: ast.expr = _Resolver(local).visit(copy.deepcopy(node))
    return resolved


def _source(node: ast.expr | None, local: Mapping[str, _Local]) -> ast.expr | None:
    """Return what a local is read from, unless that is long: loops would double it.

    Others are looked up in the frame, where they are what they were.
    """
    if not isinstance(node, _READS + _ASKS) or isinstance(node, ast.Name):
        return None
    resolved = _resolved(node, local)
    return None if sum(1 for _ in ast.walk(resolved)) > _LONGEST else resolved


def _within(node: ast.expr) -> Iterator[ast.AST]:
    """Yield an expression and what stands in it, but not what lambdas do later."""
    waiting: list[ast.AST] = [node]
    while waiting:
        part = waiting.pop()
        yield part
        if not isinstance(part, _FUNCTIONS):
            waiting.extend(ast.iter_child_nodes(part))


def _name_of(function: ast.expr) -> str:
    return getattr(function, "attr", getattr(function, "id", ""))
