"""The functions that stand in rewritten modules, by the names that are put there.

Each hands on what it was given, whatever happens; none raises and none calls code of
the service, so that the service cannot tell that they are there.
"""

import asyncio
import contextlib
import contextvars
import gc
import inspect
import operator
import sys
import types
from collections.abc import Callable
from typing import Any

from test_framework.detect.access.books import Claim
from test_framework.detect.access.ledger import Ledger
from test_framework.detect.access.methods import (
    CATEGORIES,
    KEYED,
    ON_BUFFER,
    ON_CONTAINER,
    SIGNALS,
    STRUCTURE,
    Category,
    Kind,
)

_PLAIN = frozenset({str, int, bytes, bool, float, type(None)})
_VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))
_BOUND = frozenset({types.BuiltinMethodType, types.MethodType})
_METHODS = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.ClassMethodDescriptorType,
    classmethod,
    staticmethod,
    property,
)


class Cell:
    """Stands for a variable that an inner function assigns."""

    __slots__ = ("__weakref__",)


def probes(ledger: Ledger) -> dict[str, Callable[..., Any]]:
    """Return the probes that report to a ledger."""
    made = Probes(ledger)
    return {
        f"_@{name}": getattr(made, name)
        for name in (
            "append",
            "applied",
            "attribute",
            "awaiting",
            "contains",
            "embodied",
            "first_half",
            "get",
            "held",
            "hold",
            "holds",
            "item",
            "iterated",
            "key",
            "method",
            "offered",
            "passed",
            "published",
            "resumed",
            "second_half",
            "setdefault",
            "stored",
            "variable",
            "whole",
        )
    } | {"_@call": operator.call, "_@cell": Cell, "_@second": _second}


def _second(_: object, value: Any) -> Any:
    return value


class Probes:
    """The probes; see ``rewrite`` for where each stands."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._note = ledger.note
        self._grow = ledger.grow
        self._trials = ledger.trials
        self._is_asked = False
        self.resumed = ledger.resume
        self._attributes: dict[type, dict[str, Any]] = {}

    def attribute(self, thing: Any, name: str, kind: Kind, site: int) -> Any:
        """Stand at the receiver of an attribute."""
        try:
            owner = self._attributes[type(thing)][name]
        except KeyError:
            known = self._attributes.setdefault(type(thing), {})
            owner = known[name] = _owner(type(thing), name)
        if owner is _INSTANCE:
            self._note(thing, name, kind, site)
            if kind == "load":
                self._load(thing, name, site)
        elif owner is not None:
            self._class_attribute(thing, name, kind, site, owner)
        return thing

    def _class_attribute(
        self, thing: Any, name: str, kind: Kind, site: int, owner: Any
    ) -> None:
        """Note the use of what is or was in a class."""
        if isinstance(thing, type):
            owner = _in_class(thing, name)
            if owner is None:
                return
        elif kind not in _READS or name in getattr(thing, "__dict__", ()):
            # An instance has its own from now on.
            owner = thing
        else:
            # What the class has stands for what the instance lacks.
            self._note(thing, name, kind, site)
        self._note(owner, name, kind, site)
        if kind == "load":
            self._load(owner, name, site)

    def first_half(self, thing: Any, name: str, kind: Kind, site: int) -> Any:
        """Stand at the receiver of an attribute of which another belongs to it."""
        self.attribute(thing, name, kind, site)
        self._ledger.halve(thing, name, site)
        return thing

    def second_half(self, thing: Any, name: str, kind: Kind, site: int) -> Any:
        """Stand at the receiver of the attribute that makes it whole."""
        self._ledger.complete(thing, name, site)
        return self.attribute(thing, name, kind, site)

    def published(self, value: Any, site: int) -> Any:
        """Stand at what is put under a key and completed later."""
        self._ledger.publish(value, site)
        return value

    def variable(self, value: Any, owner: Any, name: str, kind: Kind, site: int) -> Any:
        """Stand at the value that is read from or put into a shared variable."""
        self._note(owner, name, kind, site)
        if kind == "load":
            self._load(owner, name, site)
        return value

    def item(self, thing: Any, key: Any, kind: Kind, site: int) -> Any:
        """Stand at the receiver of a subscript."""
        self._use(thing, key, kind, site)
        return thing

    def contains(self, thing: Any, key: Any, kind: Kind, site: int) -> Any:
        """Stand right of ``in``."""
        category = CATEGORIES[type(thing)]
        if category == "sequence":
            self._is_asked = True
            self._note(thing, ("in", _key(key)), kind, site)
        elif category is not None:
            self._is_asked = self._is_asked or category == "set"
            self._use(thing, key, kind, site)
        return thing

    def key(self, thing: Any, key: Any, kind: Kind, site: int) -> Any:
        """Stand at the key of a subscript whose receiver is a bare name."""
        self._use(thing, key, kind, site)
        return key

    def hold(self, thing: Any, site: int) -> Any:
        """Keep something for the second probe of the same expression."""
        state = self._ledger.state()
        if state is not None:
            state.receivers[site] = thing
        return thing

    def held(self, key: Any, kind: Kind, site: int) -> Any:
        """Stand at the key of a subscript whose receiver was kept."""
        state = self._ledger.state()
        if state is not None and site in state.receivers:
            self._use(state.receivers.pop(site), key, kind, site)
        return key

    def holds(self, thing: Any, kind: Kind, site: int) -> Any:
        """Stand right of ``in`` when what is left of it was kept."""
        state = self._ledger.state()
        if state is not None and site in state.receivers:
            self.contains(thing, state.receivers.pop(site), kind, site)
        return thing

    def whole(self, thing: Any, kind: Kind, site: int) -> Any:
        """Stand at a container of which all is used."""
        # Views are no containers to us: they are used where they are made.
        if type(thing) not in _PLAIN and CATEGORIES[type(thing)] is not None:
            self._note(thing, STRUCTURE, kind, site)
        return thing

    def get(self, thing: Any, key: Any, kind: Kind, site: int) -> Any:
        """Stand at the receiver of ``get`` with a bare key."""
        if type(thing) is dict or CATEGORIES[type(thing)] == "mapping":
            self._note(thing, key if type(key) in _PLAIN else _key(key), kind, site)
        elif type(thing) is contextvars.ContextVar:
            self._default(thing)
        return thing

    def embodied(self, thing: Any, name: str) -> Any:
        """Stand at the receiver of what some class has in its body."""
        # A name in a frame and ours: nobody else can have put anything into it.
        if sys.getrefcount(thing) <= _OF_ONE_CALL and not isinstance(thing, type):
            owner = _in_class(type(thing), name)
            if owner is not None and name not in getattr(thing, "__dict__", ()):
                self._claim(vars(owner)[name], "class")
        return thing

    def _default(self, variable: contextvars.ContextVar[Any]) -> None:
        """Stand at a ContextVar that is asked for its value."""
        if variable.get(_INSTANCE) is not _INSTANCE:
            return
        with contextlib.suppress(LookupError):
            self._claim(variable.get(), "default")

    def _claim(self, thing: Any, why: Claim) -> None:
        if CATEGORIES[type(thing)] is not None:
            self._ledger.claim(thing, why)

    def setdefault(self, thing: Any, key: Any, kind: Kind, site: int) -> Any:
        """Stand at the receiver of ``setdefault`` with a bare key."""
        if type(thing) is dict and type(key) in _PLAIN and key in thing:
            # As a rule it is there.
            self._note(thing, key, kind, site)
        else:
            self._call(thing, "setdefault", key, kind, site)
        return thing

    def offered(self, thing: Any, key: Any, value: Any, kind: Kind, site: int) -> Any:
        """Stand at the receiver of ``setdefault`` with a local for a named key."""
        self.setdefault(thing, key, kind, site)
        if type(thing) is dict and type(value) in _PLAIN:
            kept = thing.get(key, value)
            if type(kept) in _PLAIN and kept != value:
                self._ledger.keep(thing, key, site)
        return thing

    def append(self, thing: Any, element: Any, site: int) -> Any:
        """Stand at the receiver of ``append`` with a bare element."""
        if type(thing) is list and not self._is_asked:
            self._grow(thing, site)
        else:
            self._call(thing, "append", element, "read", site)
        return thing

    def method(self, thing: Any, name: str, key: Any, kind: Kind, site: int) -> Any:
        """Stand at the receiver of a method whose arguments are bare."""
        self._call(thing, name, key, kind, site)
        return thing

    def applied(
        self, method: Any, kind: Kind, site: int, *arguments: Any
    ) -> tuple[Any, ...]:
        """Stand at a method and its arguments."""
        if type(method) in _BOUND:
            key = arguments[0] if arguments else None
            self._call(method.__self__, method.__name__, key, kind, site)
        return (method, *arguments)

    def iterated(self, thing: Any, site: int) -> Any:
        """Stand at what a loop goes through that awaits in its body."""
        container: Any = thing
        if isinstance(thing, _VIEWS):
            container = thing.mapping  # type: ignore[attr-defined]  # views have it
        if isinstance(container, types.MappingProxyType):
            # A view shows its mapping through a proxy, which hides who it is.
            container = _behind(container)
        if CATEGORIES[type(container)] is None:
            return thing
        note = self._note

        def look() -> None:
            note(container, STRUCTURE, "iterate", site)

        # Written in C throughout: when the container objects to a change, no frame of
        # ours is in the traceback. ``map`` asks the first iterator first.
        return map(_second, iter(look, look), thing)

    def awaiting(self, awaitable: Any, site: int) -> Any:
        """Stand at what is awaited."""
        if site in self._trials.waiting:
            awaitable = self._trials.stand_at(awaitable, site)
        if type(awaitable) is types.CoroutineType:
            # As most are; to ask for a class takes longer.
            return awaitable
        return self.passed(awaitable, site)

    def passed(self, awaitable: Any, site: int) -> Any:
        """Stand at what is awaited by way of ``wait_for`` or ``shield``."""
        if isinstance(awaitable, asyncio.Future):
            state = self._ledger.state()
            if state is not None:
                state.waits_for.setdefault(site, []).append(awaitable)
                state.is_due = True
        return awaitable

    def stored(self, value: Any, site: int) -> Any:
        """Stand at an awaited value that is put into a place loaded before."""
        state = self._ledger.state()
        if state is not None and site in state.loads:
            thing, key = state.loads.pop(site)
            self._note(thing, key, "write", site)
        return value

    def _load(self, thing: Any, key: Any, site: int) -> None:
        state = self._ledger.state()
        if state is not None:
            state.loads[site] = (thing, key)

    def _use(self, thing: Any, key: Any, kind: Kind, site: int) -> None:
        category: Category | None = "mapping"
        if type(thing) is not dict:
            category = CATEGORIES[type(thing)]
            if category is None or category == "buffer":
                return
        if type(key) in _PLAIN:
            known, is_there = key, type(thing) is dict and key in thing
        else:
            known, is_there = _key(key), False
        if kind in _READS:
            self._note(thing, known, kind, site)
            return
        if category == "mapping" and (
            kind == "remove" or not (is_there or _has(thing, key))
        ):
            self._grow(thing, site)
        self._note(thing, known, "write" if kind == "remove" else kind, site)
        if kind == "load":
            self._load(thing, known, site)

    def _call(self, thing: Any, name: str, key: Any, kind: Kind, site: int) -> None:
        category: Category | None = "mapping"
        if type(thing) is not dict:
            category = CATEGORIES[type(thing)]
            if category is None:
                if name in SIGNALS and isinstance(thing, asyncio.Future):
                    self._ledger.signals.tell(thing)
                return
            if category == "buffer":
                if name in ON_BUFFER:
                    self._note(thing, STRUCTURE, ON_BUFFER[name], site)
                return
        if category == "mapping" and name in KEYED and name != "add":
            known = key if type(key) in _PLAIN else _key(key)
            if name == "get":
                self._note(thing, known, kind, site)
            else:
                self._call_mapping(thing, name, key, known, kind, site)
        elif name in ON_CONTAINER or name in KEYED:
            self._call_whole(thing, name, key, site)
            if category == "mapping" and isinstance(key, dict) and len(key) <= _FEW:
                for part in key:
                    self._note(thing, _key(part), "write", site)

    def _call_mapping(
        self, thing: Any, name: str, key: Any, known: Any, kind: Kind, site: int
    ) -> None:
        note = self._note
        is_there = _has(thing, key)
        note(thing, known, kind, site)
        if is_there if name == "pop" else name == "setdefault" and not is_there:
            self._grow(thing, site)
            note(thing, known, "write", site)

    def _call_whole(self, thing: Any, name: str, key: Any, site: int) -> None:
        # An element is of interest only to those who asked for it before.
        if self._is_asked and name in _ELEMENTWISE:
            known = _key(key)
            place = known if isinstance(thing, set) else ("in", known)
            if self._ledger.knows(thing, place):
                self._note(thing, place, "update", site)
        kind = ON_CONTAINER.get(name, "update")
        if name in {"add", "discard"} and _has(thing, key) == (name == "add"):
            return
        if kind == "update":
            self._grow(thing, site)
        else:
            self._note(thing, STRUCTURE, kind, site)


_INSTANCE = object()
_OF_ONE_CALL = 3
_FEW = 32
_READS = frozenset({"read", "show", "check", "size"})
_ELEMENTWISE = frozenset({"add", "append", "appendleft", "discard", "remove"})


def _key(key: Any) -> Any:
    """Return what stands for a key, without keeping objects of the service."""
    if type(key) in _PLAIN:
        return key
    if type(key).__hash__ is None:
        return STRUCTURE
    try:
        return ("hash", hash(key))
    except Exception:  # noqa: BLE001  # the operation itself will raise it
        return STRUCTURE


def _has(thing: Any, key: Any) -> bool:
    """Whether a container holds a key; only built-in code is asked."""
    try:
        if type(thing) is dict:
            return key in thing
        if isinstance(thing, dict):
            return dict.__contains__(thing, key)
        return isinstance(thing, set) and set.__contains__(thing, key)
    except Exception:  # noqa: BLE001  # the operation itself will raise it
        return False


def _behind(proxy: types.MappingProxyType[Any, Any]) -> Any:
    return next(iter(gc.get_referents(proxy)), None)


def _owner(cls: type, name: str) -> Any:
    """Return whose an attribute is: of the instance, of a class; None for code."""
    found = _in_class(cls, name)
    if issubclass(cls, type):
        return found or cls
    if found is None:
        # A method, a property, or nothing at all: an attribute of the instance.
        is_code = any(name in vars(base) for base in cls.__mro__)
        return None if is_code else _INSTANCE
    return _INSTANCE if inspect.isdatadescriptor(vars(found)[name]) else found


def _in_class(cls: type, name: str) -> type | None:
    """Return the class in whose namespace an attribute is, unless it is code."""
    for base in cls.__mro__:
        if name in vars(base):
            return None if isinstance(vars(base)[name], _METHODS) else base
    return None
