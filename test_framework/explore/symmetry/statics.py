"""State outside of a run that its program reaches by name: modules and classes.

A counter in a module, or a dict in a class that all instances share, decides the future
of a run as much as its locals do. So the globals that the code of a program names, and
the attributes of its classes, are slots that are looked at in every state. A slot that
holds what cannot change (a function, a number) is only compared, and is written from
the moment that it is rebound; one that holds an object is written in every state.

Members of enums are slots by their attributes, loggers by what a program sets of them,
and the environment is one where the code names it. Installed packages and the rest of the
standard library are taken to have no state of their own but the generator of ``random``.
"""

import dataclasses
import dis
import enum
import functools
import logging
import os
import random
import re
import reprlib
import sys
import types
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from test_framework.explore.waits import is_program_file

_BUILTINS = sys.modules["builtins"]
_BUILT_IN = frozenset(sys.builtin_module_names)
_SHOWERS = (dataclasses.__file__, reprlib.__file__)
_MISSING = object()
_GLOBAL_OPS = frozenset(("LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME"))
_CONSTANTS = (
    *(int, float, complex, str, bytes, type(None), type(...), range),
    *(
        re.Pattern,
        types.BuiltinFunctionType,
        types.MethodDescriptorType,
    ),
    *(types.WrapperDescriptorType, types.MemberDescriptorType),
    *(types.GetSetDescriptorType, types.ClassMethodDescriptorType),
    *(types.GenericAlias, types.UnionType),
)
_SET_OF_LOGGERS = ("level", "disabled", "propagate")
_OF_ENVIRONMENT = frozenset(("environ", "environb", "getenv"))
_WRAPPERS = (staticmethod, classmethod, functools.cached_property, property)


def is_program(code: types.CodeType) -> bool:
    """Whether code is of the program: neither installed nor the explorer's."""
    return is_program_file(code.co_filename)


def is_plain_function(function: types.FunctionType) -> bool:
    """Whether a function is nothing but its code: no closure, no state in it."""
    if function.__closure__ is not None or function.__dict__:
        return False
    defaults, named = function.__defaults__, function.__kwdefaults__
    if (defaults is None and named is None) or not is_program(function.__code__):
        return True
    return all(
        isinstance(value, _CONSTANTS)
        for value in (*(defaults or ()), *(named or {}).values())
    )


@cache
def _globals_of(code: types.CodeType) -> frozenset[str]:
    """Return the global names that code and the code within it refer to."""
    names = {
        str(instruction.argval)
        for instruction in dis.get_instructions(code)
        if instruction.opname in _GLOBAL_OPS
    }
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _globals_of(constant)
    return frozenset(names)


@cache
def _names_of(code: types.CodeType) -> frozenset[str]:
    """Return all names in code, those of attributes too."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names_of(constant)
    return frozenset(names)


def _is_made_by_python(name: str, value: object) -> bool:
    """Whether an attribute of a class is what Python notes down about the class."""
    is_special = name.startswith("__") and name.endswith("__")
    return (is_special and not callable(value)) or name == "_abc_impl"


def _is_library_module(module: types.ModuleType | None) -> bool:
    if module is None:
        return False
    filename = getattr(module, "__file__", None)
    if filename is None:
        return module.__name__ in _BUILT_IN
    return not is_program_file(filename)


class Statics:
    """The slots found so far.

    Attributes:
        count: How many things were found; while it grows a state is not complete.
    """

    def __init__(self) -> None:
        self.count = 0
        self._seen: dict[int, object] = {}
        self._fixed: list[tuple[Mapping[str, Any], str, Any]] = []
        self._volatile: list[tuple[Mapping[str, Any], str]] = []
        self._slots: set[tuple[int, str]] = set()
        self._classes: list[tuple[Any, int]] = []
        self._modules: list[types.ModuleType] = []
        self._names: set[str] = set()
        self._roots: list[object] = []

    def values(self) -> Iterator[object]:
        """Yield what must be written in a state, in an order that is always the same."""
        self._look_again()
        yield from self._roots
        for names, name in self._volatile:
            yield names.get(name, _MISSING)

    def see(self, thing: Any) -> None:
        """Take note of the slots behind a function, class, module, member or logger."""
        key = id(thing)
        if key in self._seen:
            return
        if isinstance(thing, types.FunctionType):
            # Functions made in a run share their code; its slots are found once.
            key = id(thing.__code__)
            if key in self._seen:
                return
            self._seen[key] = thing.__code__
            self._see_function(thing)
            return
        self._seen[key] = thing
        if isinstance(thing, type):
            self._see_class(thing)
        elif isinstance(thing, types.ModuleType):
            self._see_module(thing)
        elif isinstance(thing, enum.Enum):
            self.see(type(thing))
        elif isinstance(thing, logging.Logger):
            self.count += 1
            for name in _SET_OF_LOGGERS:
                self._add(vars(thing), name, id(thing))

    def _see_function(self, function: types.FunctionType) -> None:
        if not is_program(function.__code__):
            return
        self.count += 1
        names = function.__globals__
        for name in sorted(_globals_of(function.__code__)):
            if name in names or not hasattr(_BUILTINS, name):
                self._add(names, name)
        fresh = _names_of(function.__code__) - self._names
        if fresh & _OF_ENVIRONMENT and not self._names & _OF_ENVIRONMENT:
            self._roots.append(os.environ._data)  # type: ignore[attr-defined]  # the dict of bytes behind it
        self._names |= fresh
        for module in self._modules:
            self._add_named(module, fresh)

    def _see_class(self, kind: type) -> None:
        module = sys.modules.get(kind.__module__)
        if _is_library_module(module):
            return
        if issubclass(kind, enum.Enum):
            self.count += 1
            for member in kind.__members__.values():
                self._see_attributes(member)
            return
        self.count += 1
        for base in kind.__mro__[1:]:
            self.see(base)
        self._see_attributes(kind)

    def _see_attributes(self, owner: Any) -> None:
        """Take note of what a class, or a member of an enum, has by name."""
        self._classes.append((owner, len(vars(owner))))
        for name, value in vars(owner).items():
            if not _is_made_by_python(name, value):
                self._add(vars(owner), name, id(owner))

    def _see_module(self, module: types.ModuleType) -> None:
        if module is random:
            self.count += 1
            self._roots.append(random.seed.__self__)  # type: ignore[attr-defined]  # the generator behind the functions
        if _is_library_module(module):
            return
        self.count += 1
        self._modules.append(module)
        self._add_named(module, self._names)

    def _add_named(
        self, module: types.ModuleType, names: "set[str] | frozenset[str]"
    ) -> None:
        for name in sorted(names):
            if name in vars(module):
                self._add(vars(module), name)

    def _add(self, names: Mapping[str, Any], name: str, owner: int = 0) -> None:
        slot = (owner or id(names), name)
        if slot in self._slots:
            return
        self._slots.add(slot)
        self.count += 1
        value = names.get(name, _MISSING)
        if value is _MISSING or self.is_inert(value):
            self._fixed.append((names, name, value))
        else:
            self._volatile.append((names, name))

    def _look_again(self) -> None:
        """Move slots that were rebound to those that are written."""
        rebound = [
            slot
            for slot in self._fixed
            if slot[0].get(slot[1], _MISSING) is not slot[2]
        ]
        if rebound:
            self._fixed = [slot for slot in self._fixed if slot not in rebound]
            self._volatile += [(names, name) for names, name, _ in rebound]
        for index, (kind, size) in enumerate(self._classes):
            if len(vars(kind)) != size:
                self._classes[index] = (kind, len(vars(kind)))
                for name, value in vars(kind).items():
                    if (id(kind), name) not in self._slots and not _is_made_by_python(
                        name, value
                    ):
                        self._slots.add((id(kind), name))
                        self._volatile.append((vars(kind), name))

    def is_inert(self, value: Any) -> bool:
        """Whether a value cannot change; looks behind functions, classes, modules."""
        if isinstance(value, types.FunctionType):
            self.see(value)
            # The __repr__ of a dataclass keeps a set of what is being shown just now.
            is_shower = value.__code__.co_filename in _SHOWERS
            return is_shower or is_plain_function(value)
        if isinstance(value, type | types.ModuleType | logging.Logger | enum.Enum):
            self.see(value)
            return True
        if isinstance(value, _WRAPPERS):
            inner = [
                getattr(value, name, None)
                for name in ("__func__", "func", "fget", "fset", "fdel")
            ]
            return all(self.is_inert(part) for part in inner)
        if type(value) in (tuple, frozenset):
            return all(self.is_inert(item) for item in value)
        # Special forms of typing: nothing of a run is in them.
        return isinstance(value, _CONSTANTS) or type(value).__module__ == "typing"
