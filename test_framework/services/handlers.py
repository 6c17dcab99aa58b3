"""Which function of the service answers a request, and what it passes on its way.

A router of Starlette or FastAPI leaves the function, the route and the application in
the scope of a request. From these we tell source lines: of the endpoint, of the
dependencies that are resolved for it (those that override others in their place), and
of the middleware around it. Only lines of the service itself count, which are those
below its folder; what was installed is nobody's to mend.

Nothing of FastAPI is imported: another framework that leaves the same names is told
from as well, and one that leaves none is silent.
"""

import inspect
import json
import os
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import CodeType
from typing import Any

_INSTALLED = tuple({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
_WRAPPED = ("dispatch", "__call__")
"""Methods of a middleware that do its work, the one of ``BaseHTTPMiddleware`` first."""


@dataclass(frozen=True, slots=True)
class Handler:
    """Functions of the service that a request passes, as ``path:line name``.

    Attributes:
        endpoint: What answers it.
        before: Dependencies of the endpoint.
        around: Middleware, the outermost first.
    """

    endpoint: str
    before: tuple[str, ...] = ()
    around: tuple[str, ...] = ()


class Handlers:
    """The handlers of a process, each written to a file when it is first met.

    Args:
        file: File descriptor to append to; the caller closes it.
        folder: Folder of the service.
    """

    def __init__(self, file: int, folder: Path) -> None:
        self._file = file
        self._folder = folder
        # By the function, which lives for as long as the service has it.
        self._numbers: dict[object, int] = {}

    def number(self, scope: Mapping[str, Any]) -> int:
        """Return the number of what answered a request, from 1; 0 where none is told.

        Args:
            scope: The scope of the request, as the application left it.
        """
        endpoint = scope.get("endpoint")
        if endpoint is None:
            return 0
        try:
            found = self._numbers.get(endpoint)
        except TypeError:  # a function object that does not hash
            return 0
        if found is None:
            found = self._numbers[endpoint] = self._told(scope)
        return found

    def _told(self, scope: Mapping[str, Any]) -> int:
        handler = describe(scope, self._folder)
        if handler is None:
            return 0
        os.write(self._file, json.dumps(asdict(handler)).encode() + b"\n")
        return 1 + sum(number > 0 for number in self._numbers.values())


def describe(scope: Mapping[str, Any], folder: Path) -> Handler | None:
    """Return what a request passed; None where its endpoint is not of the service."""
    endpoint = _line(scope.get("endpoint"), folder)
    if endpoint is None:
        return None
    app = scope.get("app")
    dependant = getattr(scope.get("route"), "dependant", None)
    overrides = getattr(app, "dependency_overrides", None) or {}
    calls = (overrides.get(call, call) for call in _dependencies(dependant))
    layers = (
        _work_of(getattr(layer, "cls", None))
        for layer in getattr(app, "user_middleware", ())
    )
    return Handler(
        endpoint, before=_lines(calls, folder), around=_lines(layers, folder)
    )


def _dependencies(dependant: object) -> Iterator[object]:
    for one in getattr(dependant, "dependencies", ()):
        yield from _dependencies(one)
        yield getattr(one, "call", None)


def _work_of(layer: object) -> object:
    return next(
        (
            method
            for name in _WRAPPED
            if (method := getattr(layer, "__dict__", {}).get(name))
        ),
        layer,
    )


def _lines(functions: Iterable[object], folder: Path) -> tuple[str, ...]:
    told = (_line(function, folder) for function in functions)
    return tuple(dict.fromkeys(line for line in told if line is not None))


def _line(function: Any, folder: Path) -> str | None:  # noqa: ANN401  # whatever a service has there
    """Return ``path:line name`` of a function of the service."""
    function = inspect.unwrap(getattr(function, "func", function))
    code = _code(function)
    if code is None or code.co_filename.startswith(_INSTALLED):
        return None
    path = Path(code.co_filename)
    if not path.is_relative_to(folder):
        return None
    name = getattr(function, "__qualname__", code.co_name).replace("<locals>.", "")
    return f"{path.relative_to(folder)}:{code.co_firstlineno} {name}"


def _code(function: Any) -> CodeType | None:  # noqa: ANN401  # a function, or what is called as one
    if inspect.isclass(function):
        # A class keeps no line of its own; its first method stands near.
        methods = [one for one in vars(function).values() if inspect.isfunction(one)]
        codes = [one.__code__ for one in methods if "<" not in one.__code__.co_filename]
        return min(codes, key=lambda code: code.co_firstlineno, default=None)
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    if code is None:
        code = getattr(_work_of(type(function)), "__code__", None)
    return code if isinstance(code, CodeType) else None


def read_handlers(path: Path) -> list[Handler]:
    """Return the handlers that a process has met so far; number 1 is the first."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        return []
    told = [json.loads(line) for line in lines if line.endswith("\n")]
    return [
        Handler(one["endpoint"], tuple(one["before"]), tuple(one["around"]))
        for one in told
    ]
