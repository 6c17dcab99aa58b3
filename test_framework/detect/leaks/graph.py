"""What can be reached from the roots of a process, and by which path.

A breadth-first walk over ``gc.get_referents``, so the path of what it meets is a
shortest one. The walk keeps to data: of a function it follows defaults, closure and
attributes, never its globals; classes and modules are entered only where they are the
service's own; weak references are not followed, for they hold nothing. Steps are named
afterwards and only for what is told, which keeps the walk itself at some microseconds
an object.

It cannot see what C code hides from the collector (buffers of drivers, the values of
``threading.local`` in other threads).

Source: the idea is that of objgraph's ``find_ref_chain``, walked forwards.
"""

import asyncio
import functools
import gc
import io
import types
import weakref
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

OBJECT_LIMIT = 1_000_000
"""Objects of one walk; some gigabytes of a service, and seconds."""

_LEAVES = (
    types.CodeType,
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
    # What runs is a task's own; see ``tasks``.
    types.FrameType,
    types.CoroutineType,
    types.GeneratorType,
    types.AsyncGeneratorType,
    asyncio.Task,
    asyncio.AbstractEventLoop,
    weakref.ReferenceType,
)
_PLAIN = frozenset({int, float, complex, bool, type(None), range})
_TEXT = frozenset({str, bytes, bytearray})
_LONGEST_NAME = 24
_NAMED_STEPS: dict[type, str] = {
    list: "[...]",
    tuple: "[...]",
    set: "[...]",
    frozenset: "[...]",
    deque: "[...]",
    functools._lru_cache_wrapper: ".<lru_cache>",  # noqa: SLF001  # it has no public name
    functools.partial: ".<partial>",
    io.StringIO: ".getvalue()",
    io.BytesIO: ".getvalue()",
}


Root = tuple[str, object]
"""A name and an object: of a module, or as ``declare_root`` was told.

Names may come twice: a package is often called ``app``, as the application is.
"""


class Node(NamedTuple):
    """An object and how the walk came to it; the parent of a root is None."""

    value: Any
    parent: "Node | None"
    name: str = ""


class Walk:
    """One walk; the objects it met stay alive as long as it does.

    Args:
        roots: Where it begins, each with the name that paths begin with.
        own: Whether a module of this name belongs to the service; its classes are
            entered.
        closed: Packages whose objects are not entered.
        excluded: Objects that are not entered either, such as declared caches.
        limit: Objects after which it gives up (count).
        again: The ``id`` of objects that are met once for each holder.

    Attributes:
        is_complete: Whether it ended before its limit; known after it.
        objects: How many objects it met.
    """

    def __init__(
        self,
        roots: Iterable[Root],
        *,
        own: "Modules",
        closed: Collection[str] = (),
        excluded: Iterable[object] = (),
        limit: int = OBJECT_LIMIT,
        again: Collection[int] = (),
    ) -> None:
        self.is_complete = True
        self.objects = 0
        self._roots = tuple(roots)
        self._own = own
        self._closed = frozenset(closed)
        self._excluded = tuple(excluded)
        self._limit = limit
        self._again = again
        self._is_entered: dict[type, bool] = {}

    def __iter__(self) -> Iterator[Node]:
        """Yield every object, nearest to the roots first and its nearest holder first."""
        seen = {id(one) for one in self._excluded}
        todo = deque(Node(value, None, name) for name, value in self._roots)
        seen.update(id(node.value) for node in todo)
        # Keeps each object alive: the id of one that is gone may come again.
        kept = []
        while todo:
            node = todo.popleft()
            kept.append(node)
            if len(kept) > self._limit:
                self.is_complete = False
                break
            yield node
            for child in self._children(node.value):
                if type(child) in _PLAIN:
                    continue
                if id(child) not in seen:
                    seen.add(id(child))
                    todo.append(Node(child, node))
                elif id(child) in self._again:
                    yield Node(child, node)
        self.objects = len(kept)

    def _children(self, value: Any) -> Iterable[Any]:  # noqa: ANN401  # any object
        kind = type(value)
        if kind in _TEXT:
            return ()
        if kind is types.ModuleType:
            # Other modules are roots as well, or somebody else's.
            return _namespace(vars(value)) if self._own(value.__name__) else ()
        if kind is types.FunctionType:
            return _kept_by_function(value)
        if issubclass(kind, type):
            return _namespace(vars(value)) if self._own(value.__module__) else ()
        if kind is io.StringIO or kind is io.BytesIO:
            return () if value.closed else (value.getvalue(),)
        if not self._enters(kind):
            return ()
        found = gc.get_referents(value)
        if issubclass(kind, dict):
            # CPython does not traverse the keys of a dict that has text for keys only.
            found += dict.keys(value)
        return found

    def _enters(self, kind: type) -> bool:
        is_entered = self._is_entered.get(kind)
        if is_entered is None:
            package = kind.__module__.partition(".")[0]
            is_entered = package not in self._closed and not issubclass(kind, _LEAVES)
            self._is_entered[kind] = is_entered
        return is_entered


class Modules:
    """The modules of the service: those of some packages, or all below a folder.

    Args:
        names: Names of modules that are its own.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = frozenset(names)

    def __call__(self, module: object) -> bool:
        """Whether a module of this name is the service's own."""
        return module in self.names


def _namespace(names: Mapping[str, object]) -> list[object]:
    # Dunders are the interpreter's, all but the annotations and slots of nobody.
    return [
        value
        for name, value in list(names.items())
        if not (name.startswith("__") and name.endswith("__"))
        and type(value) is not types.ModuleType
    ]


def _kept_by_function(function: types.FunctionType) -> Iterator[object]:
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    for cell in function.__closure__ or ():
        yield from _content(cell)
    # Such as __wrapped__ and the caches that decorators hang on functions.
    yield from vars(function).values()


def _content(cell: types.CellType) -> Iterator[object]:
    try:
        yield cell.cell_contents
    except ValueError:
        return  # not yet assigned


def is_a(value: object, kind: type | types.UnionType | tuple[type, ...]) -> bool:
    """Whether an object is of a kind, without asking it.

    ``isinstance`` asks for ``__class__``, which proxies answer with code of their own.
    """
    return issubclass(type(value), kind)


class Path(NamedTuple):
    """How something is held.

    Attributes:
        text: Such as ``notes.CACHE[...].text``; keys that are no plain names are left
            out, for they may be secrets.
        nodes: The objects on it, root first.
        names: The step to each node after the root.
    """

    text: str
    nodes: tuple[Any, ...]
    names: tuple[str, ...]


class Namer:
    """Names the steps of paths; tables are read once, however many paths lead by.

    Tables are copied before they are read: a thread of the service may write to them.
    """

    def __init__(self) -> None:
        self._keys: dict[int, dict[int, str]] = {}

    def path_to(self, node: Node) -> Path:
        """Return how the walk came to an object."""
        nodes: list[Node] = []
        step: Node | None = node
        while step is not None:
            nodes.append(step)
            step = step.parent
        nodes.reverse()
        values = tuple(one.value for one in nodes)
        names = tuple(
            self._step(
                values[index - 2] if index > 1 else None, *values[index - 1 :][:2]
            )
            for index in range(1, len(values))
        )
        return Path("".join((nodes[0].name, *names)), values, names)

    def _step(self, owner: Any, parent: Any, child: Any) -> str:  # noqa: ANN401  # any objects
        """Return how source text would write the step from ``parent`` to ``child``."""
        if is_a(parent, types.ModuleType | type):
            return _attribute(vars(parent), child)
        if is_a(parent, types.FunctionType):
            return _of_function(parent, child)
        named = _NAMED_STEPS.get(type(parent))
        if named is not None:
            return named
        if is_a(parent, types.MethodType):
            return ".__self__" if parent.__self__ is child else ".__func__"
        attributes = _attributes(parent)
        if child is attributes:
            return ""
        if is_a(parent, dict):
            if parent is _attributes(owner):
                return _attribute(parent, child)
            return self._key(parent, child) or _attribute(attributes, child)
        return _attribute(attributes, child) or _slot(parent, child) or ".<inside>"

    def _key(self, table: dict[Any, Any], child: object) -> str:
        names = self._keys.get(id(table))
        if names is None:
            names = self._keys[id(table)] = {}
            for key, value in list(dict.items(table)):
                names.setdefault(id(key), "[key]")
                names.setdefault(id(value), f"[{key!r}]" if _is_name(key) else "[...]")
        return names.get(id(child), "")


def _of_function(function: types.FunctionType, child: object) -> str:
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        if any(content is child for content in _content(cell)):
            return f".<closure {name}>"
    if any(value is child for value in function.__defaults__ or ()):
        return ".__defaults__[...]"
    if any(value is child for value in (function.__kwdefaults__ or {}).values()):
        return ".__kwdefaults__[...]"
    return _attribute(vars(function), child) or ".<inside>"


def _attributes(value: object) -> dict[str, object] | None:
    try:
        found = object.__getattribute__(value, "__dict__")
    except Exception:  # noqa: BLE001  # a class may make a property of it
        return None
    return found if is_a(found, dict) else None


def _attribute(names: Mapping[str, object] | None, child: object) -> str:
    for name, value in list((names or {}).items()):
        if value is child:
            return f".{name}"
    return ""


def _slot(parent: object, child: object) -> str:
    for cls in type(parent).__mro__:
        for name, member in vars(cls).items():
            if is_a(member, types.MemberDescriptorType):
                try:
                    if member.__get__(parent) is child:
                        return f".{name}"
                except AttributeError:
                    continue
    return ""


def _is_name(key: object) -> bool:
    """Whether a key is a word of the program rather than a token or an id."""
    return (
        type(key) is str
        and len(key) <= _LONGEST_NAME
        and key.isidentifier()
        and not any(letter.isdigit() for letter in key)
    )
