"""A record as one line of JSON and back.

Values that equal their default are left out, which halves a stored history. What
comes back is held against the types of the fields, since a stored history may have
been cut or edited, and a checker must not be the first to stumble over it.
"""

import dataclasses
import json
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from test_framework.core.records import RECORD_TYPES, Record, Seen

_FIELDS = {
    name: [(f.name, f.default) for f in dataclasses.fields(cls)]
    for name, cls in RECORD_TYPES.items()
}
_HINTS: dict[str, dict[str, Any]] = {
    name: {
        field: hint
        for field, hint in get_type_hints(cls).items()
        if field in cls.__dataclass_fields__
    }
    for name, cls in RECORD_TYPES.items()
}
_REQUIRED = {
    name: {
        field.name
        for field in dataclasses.fields(cls)
        if field.default is field.default_factory is dataclasses.MISSING
    }
    for name, cls in RECORD_TYPES.items()
}


def encode(record: Record) -> str:
    """Return a record as one line, with its line end."""
    # dataclasses.asdict copies deeply and takes ten times as long.
    body: dict[str, Any] = {"type": record.type}
    for name, default in _FIELDS[record.type]:
        value = getattr(record, name)
        if value is default or value == default:
            continue
        if name == "seen":
            value = [[s.owner, s.canary, s.encoding, s.where, s.offset] for s in value]
        body[name] = value
    return json.dumps(body, separators=(",", ":")) + "\n"


def decode(body: object) -> Record:
    """Return the record that a line holds.

    Raises:
        ValueError: It holds none; the message says what is wrong with it.
    """
    if not isinstance(body, dict):
        message = f"it holds {type(body).__name__} and not an object"
        raise ValueError(message)  # noqa: TRY004  # the caller handles what json raises
    name = body.pop("type", None)
    if not isinstance(name, str) or name not in RECORD_TYPES:
        message = f"its type {name!r} is not one of {', '.join(RECORD_TYPES)}"
        raise ValueError(message)
    fields: dict[str, Any] = {}
    for field, value in body.items():
        fields[field] = _restored(name, field, value)
    missing = sorted(_REQUIRED[name] - fields.keys())
    if missing:
        message = f"{name!r} records need {', '.join(missing)}"
        raise ValueError(message)
    record: Record = RECORD_TYPES[name](**fields)
    return record


def _restored(name: str, field: str, value: object) -> object:
    """Turn a value of JSON back into that of a field, and require its type."""
    hint = _HINTS[name].get(field)
    if hint is None:
        message = f"{name!r} records have no field {field!r}"
        raise ValueError(message)
    if type(value) is hint:  # nearly always, and ten times as fast as _fits
        return value
    if isinstance(value, list):
        value = tuple(value) if hint != tuple[Seen, ...] else _seen(value)
    if not _fits(value, hint):
        message = f"{field}={value!r:.80} is not of type {hint}"
        raise ValueError(message)
    return value


def _seen(entries: list[Any]) -> tuple[object, ...]:
    width = len(dataclasses.fields(Seen))
    return tuple(
        Seen(*entry) if isinstance(entry, list) and len(entry) == width else entry
        for entry in entries
    )


def _fits(value: object, hint: Any) -> bool:  # noqa: ANN401  # a type as typing shows it
    """Whether a value has the type of its field, as far as records have types."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in args
    if origin is UnionType:
        return any(_fits(value, arg) for arg in args)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, args[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(
            _fits(key, args[0]) and _fits(item, args[1]) for key, item in value.items()
        )
    if hint is Seen:
        return isinstance(value, Seen) and all(
            type(getattr(value, field.name)) is field.type
            for field in dataclasses.fields(Seen)
        )
    if hint is float:
        return type(value) in {int, float}
    return type(value) is (NoneType if hint is None else hint)
