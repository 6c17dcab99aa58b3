"""Puts probes into the source of a module, which does what it did before.

Every operation stays where it was and is done by the interpreter itself; a probe only
stands at its *receiver* and hands it on: ``a.x`` becomes ``read(a, "x", 7).x``. So
tracebacks, line numbers, descriptors and the order of evaluation are those of the
original, whatever the receiver is. The rules that follow from that:

* What is evaluated once stays evaluated once. Only bare names and constants, whose
  evaluation has no effect, are written twice. Where neither the receiver nor the key
  of a subscript is bare, ``hold(receiver, 7)[held(key, 7)]`` passes the receiver from
  the first probe to the second.
* A probe comes after all that the operation evaluates, and no ``await`` lies between
  the two. Methods of containers whose arguments are not bare are therefore called as
  ``call(*applied(receiver.method, 7, arguments))``, where ``call`` is written in C
  and has no frame.
* Names of probes are no identifiers, so no name of the service can collide with them,
  and private names of classes are left alone.
* Only the inside of functions is rewritten. What runs while a module is imported
  precedes all users. Annotations are never touched: they may be read as text.

Source: the receiver probe is ours; pytest rewrites assertions in an import hook in the
same way, and names what it injects ``@...`` as we do.
"""

import ast
from collections.abc import Sequence
from typing import Any, TypeVar

from test_framework.detect.access import names
from test_framework.detect.access.methods import (
    ARGUED,
    CALLED_ON,
    MUTE_CALLS,
    WHOLE,
    Kind,
)
from test_framework.detect.access.sites import Site, Sites
from test_framework.detect.access.survey import Survey, builds, mangled

_Node = TypeVar("_Node", bound=ast.AST)
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def rewrite(
    tree: ast.Module,
    *,
    path: str,
    sites: Sites,
    survey: Survey,
    packages: Sequence[str],
) -> ast.Module:
    """Return the module with probes in it; ``tree`` is used up.

    Args:
        tree: The module as it was parsed.
        path: Its file.
        sites: Where the places of the probes are noted.
        survey: What all watched modules assign.
        packages: The watched packages; what other modules hold is not looked at.
    """
    rewriter = _Rewriter(path, sites, survey, tree, packages)
    tree.body = [rewriter.visit(node) for node in tree.body]
    return tree


class _Rewriter(ast.NodeTransformer):
    def __init__(
        self,
        path: str,
        sites: Sites,
        survey: Survey,
        tree: ast.Module,
        packages: Sequence[str],
    ) -> None:
        self._path = path
        self._sites = sites
        self._survey = survey
        self._globals = _shared_globals(tree, survey)
        self._foreign = _foreign_modules(tree, packages)
        self._scopes: list[names.Scope] = []
        self._qualified: list[str] = []
        self._classes: list[ast.ClassDef] = []
        self._functions: list[_Function | ast.Lambda] = []
        self._reading: Kind = "read"

    # Where we are.

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self._classes.append(node)
        self._qualified.append(node.name)
        # The class statement itself is left alone: its namespace is not a variable.
        node.body = [
            self.visit(part)
            if isinstance(part, ast.ClassDef | _Function)
            else self._only_functions(part)
            for part in node.body
        ]
        self._qualified.pop()
        self._classes.pop()
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def _function(self, node: _Function) -> ast.AST:
        node.args = self._defaults(node.args)
        node.decorator_list = [self._outside(part) for part in node.decorator_list]
        scope = names.scope_of(node)
        self._enter(node, scope, node.name)
        start = 1 if ast.get_docstring(node, clean=False) is not None else 0
        body = self._block(node.body)
        births = [self._birth(name, node.body[0]) for name in sorted(scope.lent)]
        node.body = [*body[:start], *births, *body[start:]]
        self._leave()
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        node.args = self._defaults(node.args)
        self._enter(node, names.scope_of(node), "<lambda>")
        node.body = self.visit(node.body)
        self._leave()
        return node

    def _enter(
        self, node: "_Function | ast.Lambda", scope: names.Scope, name: str
    ) -> None:
        self._scopes.append(scope)
        self._functions.append(node)
        self._qualified.append(name)

    def _leave(self) -> None:
        self._qualified.pop()
        self._functions.pop()
        self._scopes.pop()

    def _defaults(self, arguments: ast.arguments) -> ast.arguments:
        arguments.defaults = [self._outside(part) for part in arguments.defaults]
        arguments.kw_defaults = [
            part if part is None else self._outside(part)
            for part in arguments.kw_defaults
        ]
        return arguments

    def _outside(self, node: _Node) -> _Node:
        """Visit what belongs to the scope around a function."""
        return self.visit(node) if self._functions else self._only_functions(node)

    def _only_functions(self, node: _Node) -> _Node:
        """Rewrite the functions in what runs at import, and nothing else."""
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return self.visit(node)  # type: ignore[no-any-return]  # visitors are untyped
        for name, value in ast.iter_fields(node):
            if name in {"annotation", "returns"}:
                continue
            if isinstance(value, ast.ClassDef):
                self.visit(value)
            elif isinstance(value, ast.AST):
                setattr(node, name, self._only_functions(value))
            elif isinstance(value, list):
                value[:] = [
                    self._statement_outside(part) if isinstance(part, ast.AST) else part
                    for part in value
                ]
        return node

    def _statement_outside(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.ClassDef):
            return self.visit(node)  # type: ignore[no-any-return]  # visitors are untyped
        return self._only_functions(node)

    def visit(self, node: ast.AST) -> Any:
        if not self._functions and not isinstance(
            node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
        ):
            return self._only_functions(node)
        return super().visit(node)

    # Probes.

    def _site(self, node: ast.AST) -> ast.Constant:
        line = getattr(node, "lineno", 0)
        # As in ``__qualname__``, but without its "<locals>".
        site = Site(self._path, line, ".".join(self._qualified))
        return ast.Constant(self._sites.number(site))

    def _probe(self, at: ast.AST, name: str, *arguments: ast.expr) -> ast.Call:
        probe = ast.Call(ast.Name(f"@{name}", ast.Load()), list(arguments), [])
        return _placed(probe, at)

    def _seen(self, kind: Kind) -> ast.Constant:
        return ast.Constant(self._reading if kind == "read" else kind)

    # Attributes.

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        kind: Kind = "read" if isinstance(node.ctx, ast.Load) else "write"
        return self._attribute(node, kind)

    def _attribute(self, node: ast.Attribute, kind: Kind) -> ast.Attribute:
        owner = self._classes[-1] if self._classes else None
        name = mangled(node.attr, owner)
        is_watched = name in self._survey.attributes and not self._is_foreign(node)
        if kind != "read" and builds(node, owner, self._functions[-1]):
            is_watched = False
        node.value = self.visit(node.value)
        if is_watched:
            node.value = self._probe(
                node.value,
                "attribute",
                node.value,
                ast.Constant(name),
                self._seen(kind),
                self._site(node),
            )
        return node

    def _is_foreign(self, node: ast.Attribute) -> bool:
        value = node.value
        while isinstance(value, ast.Attribute):
            value = value.value
        return (
            isinstance(value, ast.Name)
            and value.id in self._foreign
            and not any(value.id in scope.bound for scope in self._scopes)
        )

    # Subscripts.

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        kind: Kind = "read" if isinstance(node.ctx, ast.Load) else "write"
        if isinstance(node.ctx, ast.Del):
            kind = "remove"
        return self._subscript(node, kind)

    def _subscript(self, node: ast.Subscript, kind: Kind) -> ast.Subscript:
        is_bare_receiver = isinstance(node.value, ast.Name)
        node.value = self.visit(node.value)
        if isinstance(node.slice, ast.Slice) or _has_slice(node.slice):
            node.slice = self.visit(node.slice)
            node.value = self._whole(node.value, kind)
            return node
        told = (self._seen(kind), self._site(node))
        if _is_bare(node.slice):
            node.value = self._probe(
                node.value, "item", node.value, _copy(node.slice), *told
            )
            return node
        is_held = not is_bare_receiver or not isinstance(node.value, ast.Name)
        if is_held and names.suspends(node.slice):
            # Another task could come between the two probes: not watched.
            node.slice = self.visit(node.slice)
            return node
        key = self.visit(node.slice)
        if is_held:
            node.value = self._probe(node.value, "hold", node.value, told[1])
            node.slice = self._probe(node.slice, "held", key, *told)
        else:
            node.slice = self._probe(node.slice, "key", _copy(node.value), key, *told)
        return node

    # Assignments.

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        node.value = self._with_names(node.targets, self.visit(node.value))
        node.targets = [self.visit(target) for target in node.targets]
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is not None:
            node.value = self._with_names([node.target], self.visit(node.value))
            node.target = self.visit(node.target)
        return node

    def visit_NamedExpr(self, node: ast.NamedExpr) -> ast.AST:
        node.value = self._with_names([node.target], self.visit(node.value))
        return node

    def _with_names(self, targets: Sequence[ast.expr], value: ast.expr) -> ast.expr:
        for target in targets:
            if isinstance(target, ast.Name) and (owner := self._variable(target)):
                value = self._named(target, owner, value, "write")
        return value

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        target = node.target
        is_split = names.suspends(node.value)
        kind: Kind = "load" if is_split else "update"
        if isinstance(target, ast.Name):
            owner = self._variable(target)
            node.value = self.visit(node.value)
            if owner is not None:
                load = self._named(target, owner, ast.Constant(None), kind)
                node.value = self._probe(target, "second", load, node.value)
        elif isinstance(target, ast.Attribute):
            node.target = self._attribute(target, kind)
            node.value = self.visit(node.value)
        else:
            node.target = self._subscript(target, kind)
            node.value = self.visit(node.value)
        if is_split:
            node.value = self._probe(
                node.value, "stored", node.value, self._site(target)
            )
        return node

    # Variables.

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if isinstance(node.ctx, ast.Load) and (owner := self._variable(node)):
            return self._named(node, owner, node, "read")
        return node

    def _named(
        self, name: ast.Name, owner: ast.expr, value: ast.expr, kind: Kind
    ) -> ast.expr:
        return self._probe(
            name,
            "variable",
            value,
            owner,
            ast.Constant(name.id),
            self._seen(kind),
            self._site(name),
        )

    def _variable(self, node: ast.Name) -> ast.expr | None:
        """Return what stands for the owner of a shared variable; None: not shared."""
        name = node.id
        for scope in reversed(self._scopes):
            if name in scope.globals:
                break
            if name in scope.nonlocals:
                continue
            if name in scope.bound:
                if name in scope.lent:
                    return _placed(ast.Name(f"@cell {name}", ast.Load()), node)
                return None
        if name in self._globals:
            return _placed(ast.Name("@module", ast.Load()), node)
        return None

    def _birth(self, name: str, at: ast.AST) -> ast.stmt:
        cell = ast.Name(f"@cell {name}", ast.Store())
        return _placed(ast.Assign([cell], self._probe(at, "cell")), at)

    # Calls.

    def visit_Call(self, node: ast.Call) -> ast.AST:
        func = node.func
        if isinstance(func, ast.Name) and func.id in MUTE_CALLS:
            return self._mute(node)
        if isinstance(func, ast.Name) and func.id in WHOLE and _first(node):
            self.generic_visit(node)
            node.args[0] = self._whole(node.args[0], WHOLE[func.id])
            return node
        if not isinstance(func, ast.Attribute):
            self.generic_visit(node)
            return node
        if _joins(func) and _first(node):
            self.generic_visit(node)
            node.args[0] = self._whole(node.args[0], "read")
            return node
        if func.attr in MUTE_CALLS and not isinstance(func.value, ast.Call):
            return self._mute(node)
        if func.attr not in CALLED_ON or self._is_foreign(func):
            self.generic_visit(node)
            return node
        return self._method(node, func)

    def _whole(self, node: ast.expr, kind: Kind) -> ast.expr:
        told = "show" if self._reading == "show" else kind
        return self._probe(node, "whole", node, ast.Constant(told), self._site(node))

    def _mute(self, node: ast.Call) -> ast.AST:
        before, self._reading = self._reading, "show"
        self.generic_visit(node)
        self._reading = before
        return node

    def _method(self, node: ast.Call, func: ast.Attribute) -> ast.AST:
        arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
        is_early = all(_is_bare(part) for part in arguments) or bool(node.keywords)
        self.generic_visit(node)
        method, site = ast.Constant(func.attr), self._site(node)
        if is_early:
            key: ast.expr = ast.Constant(None)
            if func.attr in ARGUED and node.args and _is_bare(node.args[0]):
                key = _copy(node.args[0])
            func.value = self._probe(
                func.value,
                "method",
                func.value,
                method,
                key,
                self._seen("read"),
                site,
            )
            return node
        applied = self._probe(
            node, "applied", func, self._seen("read"), site, *node.args
        )
        node.func = _placed(ast.Name("@call", ast.Load()), func)
        node.args = [_placed(ast.Starred(applied, ast.Load()), node)]
        return node

    # Questions about a whole container.

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        is_bare = _is_bare(node.left)
        before = self._reading
        if _checks(node):
            self._reading = "check"
        self.generic_visit(node)
        self._reading = before
        if len(node.ops) != 1 or not isinstance(node.ops[0], ast.In | ast.NotIn):
            return node
        container = node.comparators[0]
        if isinstance(container, ast.Constant | ast.Tuple | ast.List | ast.Set):
            return node
        told = (self._seen("read"), self._site(node))
        if is_bare:
            node.comparators[0] = self._probe(
                container, "contains", container, _copy(node.left), *told
            )
        elif not names.suspends(container):
            node.left = self._probe(node.left, "hold", node.left, told[1])
            node.comparators[0] = self._probe(container, "holds", container, *told)
        return node

    def visit_If(self, node: ast.If) -> ast.AST:
        return self._tested(node)

    def visit_While(self, node: ast.While) -> ast.AST:
        return self._tested(node)

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        return self._tested(node)

    def _tested(self, node: Any) -> ast.AST:
        test = node.test
        negation = test if isinstance(test, ast.UnaryOp) else None
        if negation is not None:
            test = negation.operand
        is_whole = isinstance(test, ast.Attribute)
        self.generic_visit(node)
        if is_whole:
            parent, field = (negation, "operand") if negation else (node, "test")
            setattr(parent, field, self._whole(getattr(parent, field), "size"))
        return node  # type: ignore[no-any-return]  # what came in

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        is_union = isinstance(node.op, ast.BitOr)
        wholes = [
            side
            for side in ("left", "right")
            if is_union and isinstance(getattr(node, side), ast.Name | ast.Attribute)
        ]
        self.generic_visit(node)
        for side in wholes:
            setattr(node, side, self._whole(getattr(node, side), "read"))
        return node

    def visit_Dict(self, node: ast.Dict) -> ast.AST:
        self.generic_visit(node)
        node.values = [
            value if key is not None else self._whole(value, "read")
            for key, value in zip(node.keys, node.values, strict=True)
        ]
        return node

    def visit_keyword(self, node: ast.keyword) -> ast.AST:
        self.generic_visit(node)
        if node.arg is None:
            node.value = self._whole(node.value, "read")
        return node

    def visit_Starred(self, node: ast.Starred) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.ctx, ast.Load):
            node.value = self._whole(node.value, "read")
        return node

    # Loops.

    def visit_For(self, node: ast.For) -> ast.AST:
        is_split = names.suspends(*node.body)
        is_container = isinstance(node.iter, ast.Name | ast.Attribute | ast.Subscript)
        self.generic_visit(node)
        if is_split:
            node.iter = self._iterated(node.iter)
        elif is_container:
            node.iter = self._whole(node.iter, "read")
        return node

    def visit_ListComp(self, node: ast.ListComp) -> ast.AST:
        return self._comprehension(node, node.elt)

    def visit_SetComp(self, node: ast.SetComp) -> ast.AST:
        return self._comprehension(node, node.elt)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> ast.AST:
        return self._comprehension(node, node.elt)

    def visit_DictComp(self, node: ast.DictComp) -> ast.AST:
        return self._comprehension(node, node.key, node.value)

    def _comprehension(
        self, node: names.ComprehensionNode, *elements: ast.expr
    ) -> ast.AST:
        first = node.generators[0]
        is_split = names.suspends(*elements, *first.ifs, *node.generators[1:])
        first.iter = self.visit(first.iter)
        iterated, first.iter = first.iter, _placed(ast.Constant(None), first.iter)
        self._scopes.append(names.scope_of_comprehension(node))
        self.generic_visit(node)
        self._scopes.pop()
        if is_split and not first.is_async:
            iterated = self._iterated(iterated)
        elif not first.is_async:
            iterated = self._whole(iterated, "read")
        first.iter = iterated
        return node

    def _iterated(self, node: ast.expr) -> ast.expr:
        return self._probe(node, "iterated", node, self._site(node))

    # Suspensions.

    def visit_Await(self, node: ast.Await) -> ast.AST:
        site = self._site(node)
        node.value = self._probe(node.value, "awaiting", self.visit(node.value), site)
        return self._probe(node, "resumed", node, site)

    def visit_AsyncWith(self, node: ast.AsyncWith) -> Any:
        site = node.items[0].context_expr
        self.generic_visit(node)
        node.body.insert(0, self._resumption(site))
        return [node, self._resumption(site)]

    def visit_AsyncFor(self, node: ast.AsyncFor) -> Any:
        site = node.iter
        self.generic_visit(node)
        node.body.insert(0, self._resumption(site))
        return [node, self._resumption(site)]

    def _resumption(self, at: ast.expr) -> ast.stmt:
        probe = self._probe(at, "resumed", ast.Constant(None), self._site(at))
        return _placed(ast.Expr(probe), at)

    # What is left alone.

    def visit_match_case(self, node: ast.match_case) -> ast.AST:
        # Patterns are no expressions.
        if node.guard is not None:
            node.guard = self.visit(node.guard)
        node.body = self._block(node.body)
        return node

    def _block(self, body: list[ast.stmt]) -> list[ast.stmt]:
        holder = ast.Module(body, [])
        self.generic_visit(holder)
        return holder.body


def _placed(node: _Node, at: ast.AST) -> _Node:
    """Give a new node, and what is new inside of it, the place of another."""
    for part in ast.walk(node):
        if not hasattr(part, "lineno") and "lineno" in part._attributes:
            ast.copy_location(part, at)
    return node


def _is_bare(node: ast.AST) -> bool:
    """Whether an expression may be evaluated twice."""
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.operand, ast.Constant)
    return isinstance(node, ast.Name | ast.Constant)


def _copy(node: ast.expr) -> ast.expr:
    match node:
        case ast.Name(id=name):
            return ast.copy_location(ast.Name(name, ast.Load()), node)
        case ast.Constant(value=value):
            return ast.copy_location(ast.Constant(value), node)
        case ast.UnaryOp(op=op, operand=ast.Constant(value=value)):
            return _placed(ast.UnaryOp(op, ast.Constant(value)), node)
        case _:
            return node


def _checks(node: ast.Compare) -> bool:
    """Whether a comparison asks if something is still what it is hoped to be."""
    if len(node.ops) != 1:
        return False
    if isinstance(node.comparators[0], ast.Constant):
        return False
    if isinstance(node.ops[0], ast.Is | ast.IsNot):
        return True
    return isinstance(node.ops[0], ast.Eq | ast.NotEq)


def _has_slice(node: ast.expr) -> bool:
    return isinstance(node, ast.Tuple) and any(
        isinstance(part, ast.Slice) for part in node.elts
    )


def _shared_globals(tree: ast.Module, survey: Survey) -> frozenset[str]:
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


def _foreign_modules(tree: ast.Module, packages: Sequence[str]) -> frozenset[str]:
    """Return the names that plain imports of other packages bind."""
    roots = {package.partition(".")[0] for package in packages}
    return frozenset(
        alias.asname or alias.name.partition(".")[0]
        for node in tree.body
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name.partition(".")[0] not in roots
    )


def _first(node: ast.Call) -> bool:
    """Whether a call has a first argument that a probe can stand at."""
    return bool(node.args) and not isinstance(node.args[0], ast.Starred)


def _joins(func: ast.Attribute) -> bool:
    return func.attr == "join" and isinstance(func.value, ast.Constant)
