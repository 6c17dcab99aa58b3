"""Histories of this project: one JSON object a line, the first one says what follows.

``{"history": "calls", "format": 1}`` stands before calls::

    {"process": "alice", "kind": "write", "argument": 1, "invoked": 0, "completed": 9}

and ``{"history": "transactions", "format": 1}`` before transactions::

    {"session": "alice", "status": "ok", "invoked": 0, "completed": 9,
     "operations": [["append", "x", 1], ["r", "x", [1]]]}

(on one line; ``["scan", scope, lists by key]`` reads all lists of a scope that are begun,
see ``transactions.log.Micro``). What is missing is null; an operation without ``completed`` is one of
unknown outcome. Values are what JSON has; arrays are sequences, ``{"set": [...]}`` is a
set.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from test_framework.check.formats.source import (
    Calls,
    Format,
    by_head,
    read_text,
    unreadable,
)
from test_framework.check.linear import Call
from test_framework.check.transactions import (
    FOREVER,
    LogBuilder,
    Status,
    TransactionLog,
)
from test_framework.core import UsageError

FORMAT: Final = 1

_CALL: Final = {
    "process": None,
    "kind": None,
    "argument": None,
    "result": None,
    "invoked": None,
    "completed": None,
    "key": None,
}
_TRANSACTION: Final = {
    "session": None,
    "user": None,
    "status": "ok",
    "invoked": 0,
    "completed": None,
    "operations": None,
}
_STATUS: Final = {"ok": Status.OK, "fail": Status.FAIL, "info": Status.INFO}
_MOST_SHOWN: Final = 60
_MICRO: Final = 3


def write_history(path: Path, history: Calls | TransactionLog) -> None:
    """Write calls or transactions to a new file.

    Raises:
        UsageError: The file cannot be written, or JSON has no such value.
    """
    of = "transactions" if isinstance(history, TransactionLog) else "calls"
    bodies: Iterable[dict[str, Any]]
    if isinstance(history, TransactionLog):
        bodies = (_transaction_body(history, number) for number in range(len(history)))
    else:
        bodies = (_call_body(call) for call in history)
    try:
        with path.open("w", encoding="utf-8") as file:
            file.write(json.dumps({"history": of, "format": FORMAT}) + "\n")
            for body in bodies:
                line = json.dumps(body, default=_encoded, separators=(",", ":"))
                file.write(line + "\n")
    except OSError as exc:
        message = (
            f"The history cannot be written to {str(path)!r}: {exc.strerror}. Pass the "
            "path of a file that you may write and that has space."
        )
        raise UsageError(message) from exc


def _call_body(call: Call) -> dict[str, Any]:
    body = {name: getattr(call, name) for name in _CALL}
    return {name: value for name, value in body.items() if value is not None}


def _transaction_body(log: TransactionLog, number: int) -> dict[str, Any]:
    one = log.read(number)
    body = {
        "session": one.session,
        "user": one.user,
        "status": one.status.name.lower(),
        "invoked": one.invoked,
        "completed": one.completed,
        "operations": one.operations,
    }
    return {name: value for name, value in body.items() if value is not None}


def _encoded(value: object) -> object:
    if isinstance(value, frozenset | set):
        return {"set": sorted(value, key=repr)}
    message = (
        f"{value!r:.{_MOST_SHOWN}} is a {type(value).__name__}, which JSON has not. Use "
        "texts, numbers, booleans, None, and sequences or sets of them."
    )
    raise UsageError(message)


def read_lines(path: Path) -> Calls | TransactionLog:
    """Read what ``write_history`` wrote.

    Raises:
        UsageError: It is no such history; the message has the line and the cure.
    """
    lines = _lines(path)
    line, head = next(lines)
    form, of = head.get("format"), head.get("history")
    if form != FORMAT:
        problem = (
            f"format {form!r} is not read by this release, which reads format {FORMAT}."
            " Use the release that wrote it."
        )
        raise unreadable(path, line, problem)
    readers: dict[Any, Callable[..., Calls | TransactionLog]] = {
        "calls": _read_calls,
        "transactions": _read_transactions,
    }
    if of not in readers:
        problem = f"the history is of {of!r}; known are calls and transactions."
        raise unreadable(path, line, problem)
    return readers[of](path, lines)


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            body = json.loads(line, object_hook=_decoded)
        except (ValueError, RecursionError) as exc:
            problem = (
                f"it is not JSON ({exc}), so the file was cut or changed. Pass the "
                "file as it was written; a history that lacks a line proves nothing."
            )
            raise unreadable(path, number, problem) from exc
        if not isinstance(body, dict):
            problem = f"{line:.{_MOST_SHOWN}} is not an object. Write one a line."
            raise unreadable(path, number, problem)
        yield number, body


def _decoded(body: dict[str, Any]) -> object:
    if body.keys() == {"set"} and isinstance(body["set"], list):
        return frozenset(_hashable(one) for one in body["set"])
    return body


def _hashable(value: Any) -> Any:  # noqa: ANN401  # any value of JSON
    if isinstance(value, list):
        return tuple(_hashable(one) for one in value)
    if isinstance(value, dict):
        message = (
            f'{value!r:.{_MOST_SHOWN}} is an object, and no value but {{"set": [...]}}'
        )
        raise TypeError(message)
    return value


def _read_calls(path: Path, lines: Iterator[tuple[int, dict[str, Any]]]) -> list[Call]:
    calls: list[Call] = []
    for number, body in lines:
        fields = _fields(path, number, body, _CALL)
        kind, invoked = fields["kind"], fields["invoked"]
        if not isinstance(kind, str) or not _is_instant(invoked):
            problem = (
                f"a call needs kind, a text, and invoked, an integer of nanoseconds; "
                f"these are {kind!r} and {invoked!r}."
            )
            raise unreadable(path, number, problem)
        _require_order(path, number, invoked, fields["completed"])
        calls.append(Call(index=len(calls), **fields))
    if not calls:
        raise _without_operations(path)
    return calls


def _read_transactions(
    path: Path, lines: Iterator[tuple[int, dict[str, Any]]]
) -> TransactionLog:
    builder = LogBuilder()
    for number, body in lines:
        fields = _fields(path, number, body, _TRANSACTION)
        status, operations = fields.pop("status"), fields.pop("operations")
        invoked, user = fields["invoked"], fields["user"]
        if status not in _STATUS or not _is_instant(invoked):
            problem = (
                f"status must be ok, fail or info, and invoked an integer of "
                f"nanoseconds; these are {status!r} and {invoked!r}."
            )
            raise unreadable(path, number, problem)
        if user is not None and not _is_instant(user):
            problem = f"user must be a number of a user, not {user!r:.{_MOST_SHOWN}}."
            raise unreadable(path, number, problem)
        _require_order(path, number, invoked, fields["completed"])
        if not isinstance(operations, tuple) or not all(map(_is_micro, operations)):
            problem = (
                f"operations must be a list of [word, key, value], not "
                f"{operations!r:.{_MOST_SHOWN}}."
            )
            raise unreadable(path, number, problem)
        try:
            builder.add(
                fields.pop("session"), operations, status=_STATUS[status], **fields
            )
        except UsageError as exc:
            raise unreadable(path, number, str(exc)) from exc
    if not len(builder):
        raise _without_operations(path)
    return builder.build()


def _is_micro(operation: object) -> bool:
    return (
        isinstance(operation, tuple)
        and len(operation) == _MICRO
        and isinstance(operation[0], str)
    )


def _is_instant(value: object) -> bool:
    return type(value) is int and abs(value) < FOREVER


def _require_order(path: Path, number: int, invoked: int, completed: object) -> None:
    if completed is None:
        return
    if not _is_instant(completed):
        problem = (
            f"completed must be an integer of nanoseconds, or null for an unknown "
            f"outcome, not {completed!r:.{_MOST_SHOWN}}."
        )
        raise unreadable(path, number, problem)
    if isinstance(completed, int) and completed < invoked:
        problem = (
            f"it completes at {completed}, before it was invoked at {invoked}. Record "
            "both on one monotonic clock."
        )
        raise unreadable(path, number, problem)


def _fields(
    path: Path, number: int, body: dict[str, Any], known: dict[str, Any]
) -> dict[str, Any]:
    """Return the fields of a line, with what is missing, or say which one is wrong."""
    odd = body.keys() - known.keys()
    if odd:
        problem = f"{min(odd)!r} is no field; known are {', '.join(known)}."
        raise unreadable(path, number, problem)
    try:
        return known | {name: _hashable(value) for name, value in body.items()}
    except TypeError as exc:
        raise unreadable(path, number, f"{exc}.") from exc


def _without_operations(path: Path) -> UsageError:
    return UsageError(
        f"{str(path)!r} holds no operation, so it proves nothing. Pass a history that "
        "recorded some."
    )


OWN_LINES = Format(
    "lines",
    "JSON Lines of isolation-audit: calls or transactions",
    by_head(r'\s*\{\s*"(?:history|format)"'),
    read_lines,
)
