"""Walks through a module and knows where it is: classes, functions, scopes.

Only the inside of functions is shown to the visitors of a subclass. What runs while a
module is imported precedes all users, and annotations may be read as text.
"""

import ast
from typing import Any

from test_framework.detect.access import names
from test_framework.detect.access.private import private_names
from test_framework.detect.access.shapes import Node

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Walker(ast.NodeTransformer):
    """Keeps count of scopes.

    Attributes:
        scopes: Names of the functions and comprehensions around, innermost last.
        functions: The functions around.
        classes: The classes around.
        qualified: Names of both, as in ``__qualname__`` but without ``<locals>``.
    """

    def __init__(self) -> None:
        self.scopes: list[names.Scope] = []
        self.functions: list[Function | ast.Lambda] = []
        self.classes: list[ast.ClassDef] = []
        self.qualified: list[str] = []

    def give_birth(self, name: str, at: ast.AST) -> ast.stmt:
        """Return a statement for a variable that inner functions assign."""
        raise NotImplementedError

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self.classes.append(node)
        self.qualified.append(node.name)
        # The class statement itself is left alone: its namespace is not a variable.
        node.body = [
            self.visit(part)
            if isinstance(part, ast.ClassDef | Function)
            else self._only_functions(part)
            for part in node.body
        ]
        self.qualified.pop()
        self.classes.pop()
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def _function(self, node: Function) -> ast.AST:
        node.args = self._defaults(node.args)
        node.decorator_list = [self._outside(part) for part in node.decorator_list]
        scope = names.scope_of(node)
        scope.private = private_names(node) & scope.bound - scope.lent
        self._enter(node, scope, node.name)
        start = 1 if ast.get_docstring(node, clean=False) is not None else 0
        body = self.block(node.body)
        births = [self.give_birth(name, node.body[0]) for name in sorted(scope.lent)]
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
        self, node: Function | ast.Lambda, scope: names.Scope, name: str
    ) -> None:
        self.scopes.append(scope)
        self.functions.append(node)
        self.qualified.append(name)

    def _leave(self) -> None:
        self.qualified.pop()
        self.functions.pop()
        self.scopes.pop()

    def _defaults(self, arguments: ast.arguments) -> ast.arguments:
        arguments.defaults = [self._outside(part) for part in arguments.defaults]
        arguments.kw_defaults = [
            part if part is None else self._outside(part)
            for part in arguments.kw_defaults
        ]
        return arguments

    def _outside(self, node: Node) -> Node:
        """Visit what belongs to the scope around a function."""
        return self.visit(node) if self.functions else self._only_functions(node)

    def _only_functions(self, node: Node) -> Node:
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
        if not self.functions and not isinstance(
            node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
        ):
            return self._only_functions(node)
        return super().visit(node)

    def block(self, body: list[ast.stmt]) -> list[ast.stmt]:
        """Visit statements, of which one may become several."""
        holder = ast.Module(body, [])
        self.generic_visit(holder)
        return holder.body
