"""A record as one line of JSON and back.

Values that equal their default are left out, which halves a stored history. What
comes back is held against the types of the fields, since a stored history may have
been cut or edited, and a checker must not be the first to stumble over it.
"""

import dataclasses
import json
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from test_framework.core.records import (
    RECORD_TYPES,
    VISITOR,
    CallRecord,
    Operation,
    Record,
    Seen,
)

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

_LEAST = {
    "user": VISITOR,
    **dict.fromkeys(("users", "count", "index", "probes", "deadlocks"), 0),
    **{
        field: 0
        for hints in _HINTS.values()
        for field in hints
        if field.endswith(("_ns", "_bytes"))
    },
}
"""Numbers below which nothing is counted, and no clock of ours stands."""

_STATUSES = {"http": range(100, 1000), "websocket": range(100, 5000)}
"""Three digits over HTTP, what services make of them; up to 4999 closes a WebSocket."""

_TYPE_WORDS: dict[object, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    NoneType: "null",
    Seen: "[owner, canary, encoding, where, offset]",
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
    _require_possible(name, fields)
    record: Record = RECORD_TYPES[name](**fields)
    return record


def _require_possible(name: str, fields: Mapping[str, Any]) -> None:
    """Refuse what cannot have happened: judged, it would pass for the fastest answer.

    Raises:
        ValueError: A count is negative, an answer came before its question, or a
            status is none.
    """
    for field in _LEAST.keys() & fields.keys():
        value = fields[field]
        if type(value) is int and value < _LEAST[field]:
            message = f"{field}={value} is below {_LEAST[field]}"
            raise ValueError(message)
    if name not in {Operation.type, CallRecord.type}:
        return
    invoked_ns, completed_ns = fields["invoked_ns"], fields["completed_ns"]
    if completed_ns is not None and completed_ns < invoked_ns:
        message = f"completed_ns={completed_ns} is before invoked_ns={invoked_ns}"
        raise ValueError(message)
    status, known = fields.get("status"), _STATUSES.get(fields.get("channel", ""))
    if status is not None and known is not None and status not in known:
        message = (
            f"status={status} is none of {fields['channel']}, which are {known[0]} to "
            f"{known[-1]}"
        )
        raise ValueError(message)


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
        message = f"{field}={value!r:.80} is not {_in_words(hint)}"
        raise ValueError(message)
    return value


def _seen(entries: list[Any]) -> tuple[object, ...]:
    width = len(dataclasses.fields(Seen))
    return tuple(
        Seen(*entry) if isinstance(entry, list) and len(entry) == width else entry
        for entry in entries
    )


def _in_words(hint: Any) -> str:  # noqa: ANN401  # a type as typing shows it
    """Say which values a field takes, to somebody who looks at a line of JSON."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(map(json.dumps, args))
    if origin is UnionType:
        return " or ".join(map(_in_words, args))
    if origin is tuple:
        return f"a list, each item {_in_words(args[0])}"
    if origin is dict:
        return f"an object, each value {_in_words(args[1])}"
    return _TYPE_WORDS[hint]


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
