"""Small histories, written as one line per transaction."""

from typing import Any

from test_framework.check.transactions import (
    LogBuilder,
    Micro,
    Status,
    TransactionLog,
)

_STATUSES = {"ok": Status.OK, "fail": Status.FAIL, "info": Status.INFO}


def read_operation(text: str) -> Micro:
    """Read ``x+1`` (append), ``x=1`` (write), ``x:1,2`` (list read) or ``x?1`` (read).

    ``*x:1,2/y:3`` is a scan of all lists that found two.
    """
    if text[0] == "*":
        found = [read_operation(one) for one in text[1:].split("/") if one]
        return "scan", None, [(key, elements) for _, key, elements in found]
    key, sign, rest = text[0], text[1], text[2:]
    if sign == "+":
        return "append", key, int(rest)
    if sign == "=":
        return "w", key, int(rest)
    if sign == "?":
        return "r", key, int(rest) if rest else None
    return "r", key, [int(one) for one in rest.split(",") if one]


def history(*lines: str) -> TransactionLog:
    """Return a history: ``SESSION BEGIN-END [fail|info] OPERATION ...`` in each line.

    Times may be left out as ``-``: then nothing is known of real time.
    """
    builder = LogBuilder()
    for line in lines:
        session, times, *words = line.split()
        status = Status.OK
        if words and words[0] in _STATUSES:
            status = _STATUSES[words.pop(0)]
        begin, _, end = times.partition("-")
        options: dict[str, Any] = {}
        if begin:
            options = {"invoked": int(begin), "completed": int(end)}
        builder.add(session, map(read_operation, words), status=status, **options)
    return builder.build()
