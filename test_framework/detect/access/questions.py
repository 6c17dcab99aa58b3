"""Asks a question of the service again, without running any of its code.

Whether a decision has outlived its reason shows when the same question is asked once
more: is the key still missing, is there still something left? Only attributes that are
plainly stored and the containers, numbers and texts of Python itself are looked at;
whatever else would be needed makes the answer unknown.
"""

import ast
import operator
from collections import deque
from collections.abc import Callable
from types import FrameType, MemberDescriptorType, ModuleType
from typing import Any, Final

from test_framework.detect.access.flows import Guard
from test_framework.detect.access.methods import STRUCTURE


class _Unknown:
    """What cannot be said without running code of the service."""


UNKNOWN: Final = _Unknown()
ABSENT: Final = object()

_SCALARS: Final = frozenset({str, bytes, int, float, bool, type(None)})
_CONTAINERS: Final = (dict, list, tuple, set, frozenset, deque)
_MOST_COMPARED: Final = 64
_DEPTH: Final = 4
_COMPARED: Final[dict[type, Callable[[Any, Any], Any]]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_COMPUTED: Final[dict[type, Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}


def still_stands(guard: Guard, frame: FrameType | None) -> bool | None:
    """Whether a question would be answered as it was; None when nobody can say.

    Args:
        guard: The question.
        frame: From here outwards the function that asked is looked for.
    """
    while frame is not None:
        code = frame.f_code
        if code.co_filename == guard.path and (
            code.co_qualname.replace(".<locals>", "") == guard.function
        ):
            answer = _truth(_value(guard.test, frame))
            return None if answer is UNKNOWN else answer is guard.expected
        frame = frame.f_back
    return None


def stored(thing: Any, key: Any) -> Any:
    """Return what a place holds; ``ABSENT`` or ``UNKNOWN`` where there is nothing."""
    if key is STRUCTURE:
        return UNKNOWN
    if isinstance(thing, dict):
        return dict.get(thing, key, ABSENT) if type(key) in _SCALARS else UNKNOWN
    if isinstance(thing, list):
        is_index = type(key) is int and -len(thing) <= key < len(thing)
        return list.__getitem__(thing, key) if is_index else UNKNOWN
    return _attribute(thing, key) if isinstance(key, str) else UNKNOWN


def is_same(one: Any, other: Any, depth: int = _DEPTH) -> bool:
    """Whether two values are one object, or equal as far as Python's own types go."""
    if one is other:
        return True
    kind = type(one)
    if kind is not type(other) or depth == 0:
        return False
    if kind in _SCALARS:
        return bool(one == other)
    if kind not in _CONTAINERS or not len(one) == len(other) <= _MOST_COMPARED:
        return False
    if kind is dict:
        return all(
            type(key) in _SCALARS
            and key in other
            and is_same(value, other[key], depth - 1)
            for key, value in one.items()
        )
    if kind is set or kind is frozenset:
        return all(type(part) in _SCALARS and part in other for part in one)
    return all(is_same(*pair, depth - 1) for pair in zip(one, other, strict=True))


def _value(node: ast.AST, frame: FrameType) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return frame.f_locals.get(name, frame.f_globals.get(name, UNKNOWN))
        case ast.NamedExpr(value=inner):
            return _value(inner, frame)
        case ast.Attribute(value=inner, attr=name):
            owner = _value(inner, frame)
            found = UNKNOWN if owner is UNKNOWN else _attribute(owner, name)
            return UNKNOWN if found is ABSENT else found
        case ast.Subscript(value=inner, slice=key):
            owner, key_value = _value(inner, frame), _value(key, frame)
            if not isinstance(owner, dict | list):
                return UNKNOWN
            found = stored(owner, key_value)
            return UNKNOWN if found is ABSENT else found
        case ast.Call(func=func, args=args, keywords=[]):
            return _call(func, [_value(part, frame) for part in args], frame)
        case ast.UnaryOp(op=ast.Not(), operand=inner):
            truth = _truth(_value(inner, frame))
            return UNKNOWN if truth is UNKNOWN else not truth
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            number = _value(inner, frame)
            return -number if type(number) in {int, float} else UNKNOWN
        case ast.BoolOp(op=op, values=parts):
            return _joined([_truth(_value(part, frame)) for part in parts], op)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _COMPUTED:
            pair = _value(left, frame), _value(right, frame)
            if all(type(part) in {int, float} for part in pair):
                return _COMPUTED[type(op)](*pair)
            return UNKNOWN
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return _compared(_value(left, frame), op, _value(right, frame))
        case _:
            return UNKNOWN


def _call(func: ast.expr, given: list[Any], frame: FrameType) -> Any:
    match func, given:
        case ast.Name(id="len"), [thing] if type(thing) in _CONTAINERS:
            return len(thing)
        case ast.Name(id="bool"), [thing]:
            return _truth(thing)
        case ast.Name(id="hasattr"), [thing, str(name)] if thing is not UNKNOWN:
            found = _attribute(thing, name)
            return UNKNOWN if found is UNKNOWN else found is not ABSENT
        case ast.Name(id="getattr"), [thing, str(name), default] if (
            thing is not UNKNOWN
        ):
            found = _attribute(thing, name)
            return default if found is ABSENT else found
        case ast.Attribute(value=inner, attr="get"), [key, *default]:
            owner = _value(inner, frame)
            if not isinstance(owner, dict):
                return UNKNOWN
            found = stored(owner, key)
            return (default or [None])[0] if found is ABSENT else found
        case _:
            return UNKNOWN


def _attribute(thing: Any, name: str) -> Any:
    if isinstance(thing, ModuleType):
        return vars(thing).get(name, ABSENT)
    cls = thing if isinstance(thing, type) else type(thing)
    in_class = next(
        (vars(base)[name] for base in cls.__mro__ if name in vars(base)), ABSENT
    )
    if isinstance(in_class, MemberDescriptorType):
        try:
            return in_class.__get__(thing)
        except AttributeError:
            return ABSENT
    if in_class is not ABSENT and hasattr(type(in_class), "__get__"):
        # SQLAlchemy keeps the values of its attributes under their own names.
        return UNKNOWN
    if isinstance(thing, type):
        return in_class
    try:
        mine = object.__getattribute__(thing, "__dict__")
    except AttributeError:
        return in_class
    found = mine.get(name, in_class)
    if found is ABSENT and hasattr(cls, "__getattr__"):
        return UNKNOWN
    return found


def _truth(value: Any) -> Any:
    if value is UNKNOWN or type(value) is bool:
        return value
    kind = type(value)
    if kind in _SCALARS or kind in _CONTAINERS:
        return bool(value)
    if hasattr(kind, "__bool__") or hasattr(kind, "__len__"):
        return UNKNOWN
    return True


def _joined(parts: list[Any], op: ast.boolop) -> Any:
    """Return ``and`` or ``or`` of answers of which some are unknown."""
    decisive = isinstance(op, ast.Or)
    if any(part is decisive for part in parts):
        return decisive
    return UNKNOWN if UNKNOWN in parts else not decisive


def _compared(left: Any, op: ast.cmpop, right: Any) -> Any:
    if left is UNKNOWN or right is UNKNOWN:
        return UNKNOWN
    if isinstance(op, ast.Is | ast.IsNot):
        return (left is right) is isinstance(op, ast.Is)
    if type(left) not in _SCALARS:
        return UNKNOWN
    if isinstance(op, ast.In | ast.NotIn):
        if isinstance(right, dict):
            found = dict.__contains__(right, left)
        elif isinstance(right, set):
            found = set.__contains__(right, left)
        elif type(right) in _CONTAINERS and len(right) <= _MOST_COMPARED:
            found = any(is_same(left, part) for part in right)
        else:
            return UNKNOWN
        return found is isinstance(op, ast.In)
    if type(right) not in _SCALARS:
        return UNKNOWN
    try:
        return _COMPARED[type(op)](left, right)
    except TypeError:
        return UNKNOWN
