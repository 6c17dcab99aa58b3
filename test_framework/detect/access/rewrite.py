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
* Names of probes are no identifiers, so no name of the service can collide with them.
  They begin with an underscore, so ``from module import *`` leaves them behind: each
  module has its own.
* Only the inside of functions is rewritten. What runs while a module is imported
  precedes all users. Annotations are never touched: they may be read as text.

Source: the receiver probe is ours; pytest rewrites assertions in an import hook in the
same way.
"""

import ast
from collections.abc import Sequence
from typing import Any

from test_framework.detect.access import names, shapes
from test_framework.detect.access.halves import Halves
from test_framework.detect.access.methods import (
    ARGUED,
    BUFFERED,
    BY_NAME,
    CALLED_ON,
    MUTE_CALLS,
    PASSED_ON,
    WHOLE,
    Kind,
)
from test_framework.detect.access.private import is_fresh
from test_framework.detect.access.sites import Site, Sites
from test_framework.detect.access.survey import Survey, builds, mangled
from test_framework.detect.access.walker import Walker


def rewrite(
    tree: ast.Module,
    *,
    path: str,
    sites: Sites,
    survey: Survey,
    halves: Halves,
    packages: Sequence[str],
) -> ast.Module:
    """Return the module with probes in it; ``tree`` is used up.

    Args:
        tree: The module as it was parsed.
        path: Its file.
        sites: Where the places of the probes are noted.
        survey: What all watched modules assign.
        halves: What is written in two halves.
        packages: The watched packages; what other modules hold is not looked at.
    """
    rewriter = _Rewriter(path, sites, survey, halves, tree, packages)
    tree.body = [rewriter.visit(node) for node in tree.body]
    return tree


class _Rewriter(Walker):
    def __init__(
        self,
        path: str,
        sites: Sites,
        survey: Survey,
        halves: Halves,
        tree: ast.Module,
        packages: Sequence[str],
    ) -> None:
        super().__init__()
        self._path = path
        self._sites = sites
        self._survey = survey
        self._halves = halves
        self._globals = shapes.shared_globals(tree, survey)
        self._foreign = shapes.foreign_modules(tree, packages)
        self._reading: Kind = "read"

    # Probes.

    def _site(self, node: ast.AST) -> ast.Constant:
        line = getattr(node, "lineno", 0)
        # As in ``__qualname__``, but without its "<locals>".
        site = Site(self._path, line, ".".join(self.qualified))
        return ast.Constant(self._sites.number(site))

    def _probe(self, at: ast.AST, name: str, *arguments: ast.expr) -> ast.Call:
        probe = ast.Call(ast.Name(f"_@{name}", ast.Load()), list(arguments), [])
        return shapes.placed(probe, at)

    def _seen(self, kind: Kind) -> ast.Constant:
        return ast.Constant(self._reading if kind == "read" else kind)

    # Attributes.

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        kind: Kind = "read" if isinstance(node.ctx, ast.Load) else "write"
        return self._attribute(node, kind)

    def _attribute(self, node: ast.Attribute, kind: Kind) -> ast.Attribute:
        owner = self.classes[-1] if self.classes else None
        name = mangled(node.attr, owner)
        is_watched = name in self._survey.attributes and not self._is_foreign(node)
        if kind != "read" and builds(node, owner, self.functions[-1]):
            is_watched = False
        is_bare = shapes.is_bare(node.value)
        node.value = self.visit(node.value)
        if is_bare and kind == "read" and name in self._survey.embodied:
            node.value = self._probe(
                node.value, "embodied", node.value, ast.Constant(name)
            )
        if is_watched:
            node.value = self._probe(
                node.value,
                self._half(node) if kind == "write" else "attribute",
                node.value,
                ast.Constant(name),
                self._seen(kind),
                self._site(node),
            )
        return node

    def _half(self, node: ast.Attribute) -> str:
        """Return the probe for an attribute that is assigned."""
        site = Site(self._path, node.lineno, ".".join(self.qualified))
        if site in self._halves.first:
            return "first_half"
        return "second_half" if site in self._halves.second else "attribute"

    def _is_published(self, node: ast.Subscript) -> bool:
        site = Site(self._path, node.lineno, ".".join(self.qualified))
        return site in self._halves.published

    def _is_foreign(self, node: ast.Attribute) -> bool:
        value = node.value
        while isinstance(value, ast.Attribute):
            value = value.value
        return (
            isinstance(value, ast.Name)
            and value.id in self._foreign
            and not any(value.id in scope.bound for scope in self.scopes)
        )

    # Subscripts.

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        kind: Kind = "read" if isinstance(node.ctx, ast.Load) else "write"
        if isinstance(node.ctx, ast.Del):
            kind = "remove"
        return self._subscript(node, kind)

    def _subscript(self, node: ast.Subscript, kind: Kind) -> ast.Subscript:
        if self._is_private(node.value):
            node.slice = self.visit(node.slice)
            return node
        is_bare_receiver = isinstance(node.value, ast.Name)
        node.value = self.visit(node.value)
        if isinstance(node.slice, ast.Slice) or shapes.has_slice(node.slice):
            node.slice = self.visit(node.slice)
            node.value = self._whole(node.value, kind)
            return node
        told = (self._seen(kind), self._site(node))
        if shapes.is_bare(node.slice):
            node.value = self._probe(
                node.value, "item", node.value, shapes.copied(node.slice), *told
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
            node.slice = self._probe(
                node.slice, "key", shapes.copied(node.value), key, *told
            )
        return node

    # Assignments.

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        node.value = self._with_names(node.targets, self.visit(node.value))
        for target in node.targets:
            if isinstance(target, ast.Subscript) and self._is_published(target):
                site = self._site(target)
                node.value = self._probe(node.value, "published", node.value, site)
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

    def _is_private(self, node: ast.expr) -> bool:
        """Whether what an expression holds is seen by this call of a function only."""
        if not isinstance(node, ast.Name):
            return False
        for scope in reversed(self.scopes):
            if node.id in scope.globals:
                return False
            if node.id in scope.bound:
                return node.id in scope.private
        return False

    def _variable(self, node: ast.Name) -> ast.expr | None:
        """Return what stands for the owner of a shared variable; None: not shared."""
        name = node.id
        for scope in reversed(self.scopes):
            if name in scope.globals:
                break
            if name in scope.nonlocals:
                continue
            if name in scope.bound:
                if name in scope.lent:
                    return shapes.placed(ast.Name(f"@cell {name}", ast.Load()), node)
                return None
        if name in self._globals:
            return shapes.placed(ast.Name("_@module", ast.Load()), node)
        return None

    def give_birth(self, name: str, at: ast.AST) -> ast.stmt:
        """Return the statement that makes what stands for a shared variable."""
        cell = ast.Name(f"@cell {name}", ast.Store())
        return shapes.placed(ast.Assign([cell], self._probe(at, "cell")), at)

    # Calls.

    def visit_Call(self, node: ast.Call) -> ast.AST:
        func = node.func
        name = getattr(func, "attr", getattr(func, "id", ""))
        if name in PASSED_ON and shapes.has_first(node):
            self.generic_visit(node)
            first = node.args[0]
            node.args[0] = self._probe(first, "passed", first, self._site(node))
            return node
        if isinstance(func, ast.Name) and func.id in MUTE_CALLS:
            return self._mute(node)
        if isinstance(func, ast.Name) and func.id in BY_NAME:
            return self._by_name(node, BY_NAME[func.id])
        if isinstance(func, ast.Name) and func.id in WHOLE and shapes.has_first(node):
            self.generic_visit(node)
            node.args[0] = self._whole(node.args[0], WHOLE[func.id])
            return node
        if not isinstance(func, ast.Attribute):
            self.generic_visit(node)
            return node
        if shapes.joins(func) and shapes.has_first(node):
            self.generic_visit(node)
            node.args[0] = self._whole(node.args[0], "read")
            return node
        if func.attr in MUTE_CALLS and not isinstance(func.value, ast.Call):
            return self._mute(node)
        if (
            func.attr not in CALLED_ON
            or self._is_foreign(func)
            or self._is_private(func.value)
        ):
            self.generic_visit(node)
            return node
        return self._method(node, func)

    def _by_name(self, node: ast.Call, kind: Kind) -> ast.AST:
        """Watch ``getattr(a, "x")`` as ``a.x``, if nothing is awaited in between."""
        self.generic_visit(node)
        match node.args:
            case [ast.expr(), ast.Constant(value=str(name)), *rest] if (
                name in self._survey.attributes and not names.suspends(*rest)
            ):
                thing = node.args[0]
                told = self._seen(kind), self._site(node)
                node.args[0] = self._probe(
                    thing, "attribute", thing, ast.Constant(name), *told
                )
            case _:
                pass
        return node

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.AST:
        is_container = isinstance(node.value, ast.Name | ast.Attribute)
        self.generic_visit(node)
        if is_container:
            node.value = self._whole(node.value, "read")
        return node

    def _whole(self, node: ast.expr, kind: Kind) -> ast.expr:
        if is_fresh(node) or self._is_private(node):
            return node
        told = "show" if self._reading == "show" else kind
        return self._probe(node, "whole", node, ast.Constant(told), self._site(node))

    def _mute(self, node: ast.Call) -> ast.AST:
        before, self._reading = self._reading, "show"
        self.generic_visit(node)
        self._reading = before
        return node

    def _method(self, node: ast.Call, func: ast.Attribute) -> ast.AST:
        arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
        # Whoever has a method ``read`` or ``write`` is a buffer or, mostly, not: the
        # arguments use other things, so it does not matter what comes first.
        is_early = all(
            shapes.is_quiet(part) or (func.attr in BUFFERED and shapes.is_plain(part))
            for part in arguments
        ) or bool(node.keywords)
        self.generic_visit(node)
        method, site = ast.Constant(func.attr), self._site(node)
        if is_early:
            key: ast.expr = ast.Constant(None)
            if func.attr in ARGUED and node.args and shapes.is_bare(node.args[0]):
                key = shapes.copied(node.args[0])
            elif func.attr == "update" and not node.args:
                key = shapes.named_keys(node)
            receiver, seen = func.value, self._seen("read")
            if func.attr == "append":
                probe: tuple[Any, ...] = "append", receiver, key, site
            elif func.attr == "setdefault" and shapes.offers(node):
                value = shapes.copied(node.args[1])
                probe = "offered", receiver, key, value, seen, site
            elif func.attr in {"get", "setdefault"}:
                probe = func.attr, receiver, key, seen, site
            else:
                probe = "method", receiver, method, key, seen, site
            func.value = self._probe(receiver, *probe)
            return node
        applied = self._probe(
            node, "applied", func, self._seen("read"), site, *node.args
        )
        node.func = shapes.placed(ast.Name("_@call", ast.Load()), func)
        node.args = [shapes.placed(ast.Starred(applied, ast.Load()), node)]
        return node

    # Questions about a whole container.

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        is_bare = shapes.is_bare(node.left)
        before = self._reading
        if shapes.checks(node):
            self._reading = "check"
        self.generic_visit(node)
        self._reading = before
        if len(node.ops) != 1 or not isinstance(node.ops[0], ast.In | ast.NotIn):
            return node
        container = node.comparators[0]
        if isinstance(container, ast.Tuple) or is_fresh(container):
            return node
        if self._is_private(container):
            return node
        told = (self._seen("read"), self._site(node))
        if is_bare:
            node.comparators[0] = self._probe(
                container, "contains", container, shapes.copied(node.left), *told
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
        iterated, first.iter = first.iter, shapes.placed(ast.Constant(None), first.iter)
        self.scopes.append(names.scope_of_comprehension(node))
        self.generic_visit(node)
        self.scopes.pop()
        if is_split and not first.is_async:
            iterated = self._iterated(iterated)
        elif not first.is_async:
            iterated = self._whole(iterated, "read")
        first.iter = iterated
        return node

    def _iterated(self, node: ast.expr) -> ast.expr:
        if is_fresh(node) or self._is_private(node):
            return node
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
        return shapes.placed(ast.Expr(probe), at)

    # What is left alone.

    def visit_Match(self, node: ast.Match) -> ast.AST:
        keys, names_ = shapes.matched(node)
        is_held = names.suspends(node.subject)
        node.subject = self.visit(node.subject)
        subject, site = node.subject, self._site(node.subject)
        for key in () if is_held else keys:
            told = ast.Constant(key), self._seen("read"), site
            subject = self._probe(subject, "item", subject, *told)
        for name in () if is_held else sorted(names_ & self._survey.attributes):
            told = ast.Constant(name), self._seen("read"), site
            subject = self._probe(subject, "attribute", subject, *told)
        node.subject = subject
        node.cases = [self.visit(case) for case in node.cases]
        return node

    def visit_match_case(self, node: ast.match_case) -> ast.AST:
        # Patterns are no expressions.
        if node.guard is not None:
            node.guard = self.visit(node.guard)
        node.body = self.block(node.body)
        return node
