"""Dataclasses as plain JSON values and back, held against the types of their fields.

A stored state may have been cut or edited, and the sentinel must not be stopped by it
an hour later: what does not fit is refused when it is read.
"""

import dataclasses
import enum
import functools
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")

_hints = functools.cache(get_type_hints)


def to_plain(value: object) -> Any:  # noqa: ANN401  # any value of JSON
    """Return a dataclass, or a container of some, as values that JSON knows."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
        }
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return value


def of_plain(kind: type[T], value: object) -> T:
    """Return what ``to_plain`` was given, an instance of ``kind``.

    Raises:
        ValueError: The value does not have the form of ``kind``.
    """
    restored: T = _restored(kind, value)
    return restored


def _restored(hint: Any, value: Any) -> Any:  # noqa: ANN401  # a type as typing shows it
    origin, args = get_origin(hint), get_args(hint)
    if origin is UnionType:  # of one type and None
        if value is None:
            return None
        (inner,) = (arg for arg in args if arg is not NoneType)
        return _restored(inner, value)
    if origin in {tuple, list}:
        _require(hint, value, list)
        return origin(_restored(args[0], item) for item in value)
    if origin is dict:
        _require(hint, value, dict)
        return {key: _restored(args[1], item) for key, item in value.items()}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        _require(hint, value, dict)
        hints = _hints(hint)
        odd = sorted(value.keys() - hints.keys())
        if odd:
            message = f"{hint.__name__} has no field {odd[0]!r}"
            raise ValueError(message)
        try:
            return hint(
                **{name: _restored(hints[name], item) for name, item in value.items()}
            )
        except TypeError as exc:  # a field is missing
            raise ValueError(str(exc)) from exc
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint(value)
    if hint is float and type(value) is int:
        return float(value)
    _require(hint, value, hint)
    return value


def _require(hint: object, value: object, kind: type) -> None:
    if type(value) is not kind:
        message = f"{value!r:.80} is not of type {hint}"
        raise ValueError(message)
