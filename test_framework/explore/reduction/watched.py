"""Objects that report the use of their parts to whatever records the run.

An instance gets a subclass of its class, whose attributes report; a dictionary, list,
set or deque is copied into a subclass of its type. Keys of dictionaries and elements of
sets are locations of their own where they are plain values; whatever else a container
can do uses all of it. Views and iterators report at every step, since a loop may await.
"""

import asyncio
import collections
import dataclasses
import enum
import functools
import types
from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView
from typing import Any

from test_framework.explore.reduction.tracked import Recorder, is_plain

_recorder: Recorder | None = None

IMMUTABLE = (
    str,
    bytes,
    int,
    float,
    complex,
    type(None),
    type,
    range,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.ModuleType,
)
# Their own accesses are watched where they happen.
_LOCKS = (asyncio.Lock, asyncio.Semaphore, asyncio.Condition)

_TRACKED = (
    *_LOCKS,
    asyncio.Event,
    asyncio.Queue,
    asyncio.Barrier,
    asyncio.Future,
    asyncio.AbstractEventLoop,
)
_VALUE_MODULES = frozenset({"datetime", "decimal", "fractions", "ipaddress", "uuid"})

_IN_CLASS = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.ClassMethodDescriptorType,
    property,
    classmethod,
    staticmethod,
    functools.cached_property,
)


def recorder() -> Recorder | None:
    """Return what records the run that goes on; None when nothing does."""
    return _recorder if _recorder is not None and _recorder.is_open else None


def record_with(new: Recorder | None) -> Recorder | None:
    """Let accesses be recorded by ``new`` from now on; return what did so before."""
    global _recorder  # accesses happen wherever the program has its objects
    old, _recorder = _recorder, new
    return old


def _settled(active: Recorder, owner: Any, value: Any) -> None:
    """Refuse to prove anything when a value is handed out that nobody watches."""
    kind = type(value)
    if isinstance(value, Watched) or kind in IMMUTABLE or isinstance(value, _LOCKS):
        return
    if isinstance(value, tuple | frozenset):
        for item in value:
            _settled(active, owner, item)
    elif _is_frozen(kind):
        for field in dataclasses.fields(value):
            _settled(active, owner, getattr(value, field.name))
    elif isinstance(value, types.MethodType | types.BuiltinMethodType):
        _settled(active, owner, value.__self__)
    elif isinstance(value, functools.partial):
        _settled(active, owner, (value.func, *value.args, *value.keywords.values()))
    elif not (
        isinstance(value, (*_TRACKED, *_IN_CLASS, type, bool, enum.Enum))
        or kind.__module__ in _VALUE_MODULES
        or value is ...
        or kind.__module__.startswith("test_framework.explore.reduction.tracked")
    ):
        active.refuse(
            f"{type(owner).__name__} holds a {kind.__name__} that is not watched: "
            "put shared(...) around it"
        )


def _is_frozen(kind: type) -> bool:
    parameters = getattr(kind, "__dataclass_params__", None)
    return parameters is not None and parameters.frozen


class Watched:
    """What is watched; only a mark."""

    __slots__ = ()


@functools.cache
def watched_class(base: Any) -> type:
    """Return a subclass whose instances report the use of their attributes."""
    in_class: dict[str, bool] = {}

    def is_code(name: str) -> bool:
        found = in_class.get(name)
        if found is None:
            value = next(
                (vars(kind)[name] for kind in base.__mro__ if name in vars(kind)), None
            )
            found = isinstance(value, _IN_CLASS)
            in_class[name] = found
        return found

    def get(self: Any, name: str) -> Any:
        """Return a value; its key is read."""
        active = recorder()
        if active is None or (name[:2] == "__" and name != "__dict__"):
            return base.__getattribute__(self, name)
        if name == "__dict__":
            # Whoever has it may change any attribute.
            active.write(active.bit(self))
        elif not is_code(name):
            value = base.__getattribute__(self, name)
            bit = active.bit(self, name) | active.bit(self)
            if isinstance(value, _LOCKS):
                active.read_lock(bit)
            else:
                active.read(bit)
                _settled(active, self, value)
            return value
        return base.__getattribute__(self, name)

    def put(self: Any, name: str, value: Any) -> None:
        active = recorder()
        if active is not None and name != "__class__":
            active.write(active.bit(self, name))
            active.read(active.bit(self))
        base.__setattr__(self, name, value)

    def remove(self: Any, name: str) -> None:
        """Remove an item."""
        active = recorder()
        if active is not None:
            active.write(active.bit(self, name))
            active.read(active.bit(self))
        base.__delattr__(self, name)

    return type(
        base.__name__,
        (base, Watched),
        {
            "__slots__": (),
            "__module__": base.__module__,
            "__qualname__": base.__qualname__,
            "__doc__": base.__doc__,
            # What asks for the class of an instance gets the one it knows.
            "__class__": property(lambda _: base),
            "__getattribute__": get,
            "__setattr__": put,
            "__delattr__": remove,
        },
    )


_MISSING = object()


class WatchedDict(dict[Any, Any], Watched):
    """A dictionary that reports the use of its keys."""

    def _uses(self, key: Any, *, write: bool) -> None:
        active = recorder()
        if active is None:
            return
        if not is_plain(key):
            # It may equal one that is; such keys are not told apart.
            self._uses_all(write=write)
            return
        bit = active.bit(self, ("key", key))
        if not write:
            active.read(bit)
            return
        active.write(bit)
        if not dict.__contains__(self, key):
            active.write(active.bit(self))

    def _uses_all(self, *, write: bool = False) -> None:
        active = recorder()
        if active is None:
            return
        (active.write if write else active.read)(active.bit(self))
        for key in dict.__iter__(self):
            if is_plain(key):
                bit = active.bit(self, ("key", key))
                (active.write if write else active.read)(bit)

    def _hands_out(self, value: Any) -> Any:
        active = recorder()
        if active is not None:
            _settled(active, self, value)
        return value

    def __getitem__(self, key: Any) -> Any:
        self._uses(key, write=False)
        return self._hands_out(super().__getitem__(key))

    def get(self, key: Any, default: Any = None) -> Any:
        """Return a value; its key is read."""
        self._uses(key, write=False)
        return self._hands_out(super().get(key, default))

    def __contains__(self, key: object) -> bool:
        self._uses(key, write=False)
        return super().__contains__(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._uses(key, write=True)
        super().__setitem__(key, value)

    def __delitem__(self, key: Any) -> None:
        self._removes(key)
        super().__delitem__(key)

    def _removes(self, key: Any) -> None:
        self._uses(key, write=True)
        active = recorder()
        if active is not None:
            active.write(active.bit(self))

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Return a value, put there first if its key is missing."""
        self._uses(key, write=not dict.__contains__(self, key))
        return self._hands_out(super().setdefault(key, default))

    def pop(self, key: Any, default: Any = _MISSING) -> Any:
        """Remove a key and return its value."""
        self._removes(key)
        if default is _MISSING:
            return super().pop(key)
        return super().pop(key, default)

    # Views report every step of a loop over them.
    def keys(self) -> Any:
        """Return a view of the keys."""
        return KeysView(self)

    def values(self) -> Any:
        """Return a view of the values."""
        return ValuesView(self)

    def items(self) -> Any:
        """Return a view of keys and values."""
        return ItemsView(self)


class WatchedSet(set[Any], Watched):
    """A set that reports its use, element by element where that is possible."""

    def _uses(self, item: Any, *, write: bool) -> None:
        active = recorder()
        if active is None:
            return
        if not is_plain(item):
            self._uses_all(write=write)
            return
        bit = active.bit(self, ("item", item))
        if write:
            active.write(bit)
            active.write(active.bit(self))
        else:
            active.read(bit)

    def _uses_all(self, *, write: bool = False) -> None:
        active = recorder()
        if active is None:
            return
        (active.write if write else active.read)(active.bit(self))
        for item in set.__iter__(self):
            if is_plain(item):
                bit = active.bit(self, ("item", item))
                (active.write if write else active.read)(bit)

    def __contains__(self, item: object) -> bool:
        self._uses(item, write=False)
        return super().__contains__(item)

    def add(self, item: Any) -> None:
        """Add an item."""
        self._uses(item, write=True)
        super().add(item)

    def discard(self, item: Any) -> None:
        """Remove an item if it is there."""
        self._uses(item, write=True)
        super().discard(item)

    def remove(self, item: Any) -> None:
        """Remove an item."""
        self._uses(item, write=True)
        super().remove(item)


class _Whole(Watched):
    """What is one location: every use of a list may depend on all of it."""

    __slots__ = ()

    def _uses_all(self, *, write: bool = False) -> None:
        active = recorder()
        if active is not None:
            (active.write if write else active.read)(active.bit(self))
            if not write:
                for item in type(self).__mro__[1].__iter__(self):  # type: ignore[attr-defined]  # a container
                    _settled(active, self, item)


class WatchedList(list[Any], _Whole):
    """A list that reports its use."""


class WatchedDeque(collections.deque[Any], _Whole):
    """A deque that reports its use."""


CONTAINERS: dict[type, Any] = {
    dict: WatchedDict,
    list: WatchedList,
    set: WatchedSet,
    collections.deque: WatchedDeque,
}

# Never change what they are called on.
_READING = frozenset(
    [
        "__iter__",
        "__len__",
        "__getitem__",
        "__contains__",
        "__reversed__",
        "__repr__",
        "__eq__",
        "__ne__",
        "__lt__",
        "__le__",
        "__gt__",
        "__ge__",
        "__add__",
        "__mul__",
        "__rmul__",
        "__or__",
        "__ror__",
        "__and__",
        "__rand__",
        "__sub__",
        "__rsub__",
        "__xor__",
        "__rxor__",
        "__copy__",
        "copy",
        "count",
        "index",
        "keys",
        "values",
        "items",
        "isdisjoint",
        "issubset",
        "issuperset",
        "union",
        "difference",
        "intersection",
        "symmetric_difference",
        "__reduce__",
        "__reduce_ex__",
    ]
)
_LEFT_ALONE = frozenset(
    [
        "__new__",
        "__init__",
        "__getattribute__",
        "__setattr__",
        "__delattr__",
        "__class__",
        "__doc__",
        "__hash__",
        "__subclasshook__",
        "__init_subclass__",
        "__dir__",
        "__format__",
        "__str__",
        "__sizeof__",
        "__class_getitem__",
        "__getstate__",
        "fromkeys",
        "maxlen",
    ]
)


def _reporting(original: Callable[..., Any], *, write: bool) -> Callable[..., Any]:
    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        self._uses_all(write=write)
        result = original(self, *args, **kwargs)
        if write:
            self._uses_all(write=True)
        return result

    return method


def _iterating(original: Callable[..., Iterator[Any]]) -> Callable[..., Any]:
    @functools.wraps(original)
    def iterate(self: Any) -> Iterator[Any]:
        items = original(self)
        while True:
            # The loop around it may await, and see what others did meanwhile.
            self._uses_all()
            try:
                item = next(items)
            except StopIteration:
                return
            yield item

    return iterate


def _fill_in(kind: type, base: type) -> None:
    """Let every method that has no rule of its own use the whole container."""
    for name in dir(base):
        if name in _LEFT_ALONE or name in vars(kind):
            continue
        original = getattr(base, name)
        if name in ("__iter__", "__reversed__"):
            setattr(kind, name, _iterating(original))
        elif callable(original):
            setattr(kind, name, _reporting(original, write=name not in _READING))


for _base, _kind in CONTAINERS.items():
    _fill_in(_kind, _base)
