"""Histories of Jepsen, Knossos and Elle, in EDN or JSON, and the logs of Porcupine."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from test_framework.check.formats.edn import Edn, EdnError
from test_framework.check.formats.events import HistoryError, read_events
from test_framework.check.formats.source import (
    Calls,
    Format,
    by_head,
    read_text,
    unreadable,
)
from test_framework.check.transactions import TransactionLog
from test_framework.core import UsageError

_WHOLE: Final = "Pass the file as it was written."


def read_edn(path: Path) -> Calls | TransactionLog:
    """Read events in EDN: one after the other, or all in one vector.

    Raises:
        UsageError: It is no history; the message has the line and the cure.
    """
    edn = Edn(read_text(path))
    try:
        return read_events(_opened(edn.forms()))
    except EdnError as exc:
        raise unreadable(path, exc.line, f"{exc.problem}. {_WHOLE}") from exc
    except HistoryError as exc:
        # The line is looked for only now: it takes a second reading.
        raise unreadable(path, edn.line(exc.place), exc.problem) from exc


def _opened(forms: Iterator[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    for place, form in forms:
        if isinstance(form, tuple):
            yield from ((place, event) for event in form)
        else:
            yield place, form


def read_json(path: Path) -> Calls | TransactionLog:
    """Read events in JSON: an array of objects, or one object a line.

    Raises:
        UsageError: It is no history; the message has the line and the cure.
    """
    text = read_text(path)
    is_array = text.lstrip().startswith("[")
    try:
        if not is_array:
            return read_events(_json_lines(text))
        events = json.loads(text)
        return read_events(enumerate(events))
    except json.JSONDecodeError as exc:
        raise unreadable(path, exc.lineno, f"{exc.msg}. {_WHOLE}") from exc
    except HistoryError as exc:
        if not is_array:
            raise unreadable(path, exc.place, exc.problem) from exc
        # Places in an array are counted, since JSON does not tell lines.
        message = f"{str(path)!r} event {exc.place + 1}: {exc.problem}"
        raise UsageError(message) from exc
    except (ValueError, RecursionError) as exc:  # a number or a nest that is too long
        message = f"{str(path)!r} is no JSON that can be read: {exc}. {_WHOLE}"
        raise UsageError(message) from exc


def _json_lines(text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as exc:
                message = f"It is not JSON ({exc}). {_WHOLE}"
                raise HistoryError(number, message) from exc


_LOGGED = re.compile(
    r"INFO\s+jepsen\.util - (\S+)\s+:(invoke|ok|fail|info)\s+:(\S+)\s+(.*?)\s*"
)


def read_log(path: Path) -> Calls | TransactionLog:
    """Read the log lines that Porcupine keeps of Jepsen's etcd runs.

    Each is ``INFO jepsen.util - PROCESS :TYPE :F VALUE``, all by tabs or spaces. A
    ``cas`` that failed found another value, which is more than that it did not happen.

    Raises:
        UsageError: It is no such log; the message has the line and the cure.
    """
    try:
        return read_events(_logged(read_text(path)), failed_cas_is_false=True)
    except HistoryError as exc:
        raise unreadable(path, exc.place, exc.problem) from exc


def _logged(text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        found = _LOGGED.fullmatch(line)
        if found is None:
            message = (
                f"{line:.60} is no line of such a log: INFO jepsen.util - PROCESS "
                f":TYPE :F VALUE. {_WHOLE}"
            )
            raise HistoryError(number, message)
        process, kind, operation, value = found.groups()
        try:
            values = [form for _, form in Edn(value).forms()]
        except EdnError as exc:
            message = f"{exc.problem.capitalize()}. {_WHOLE}"
            raise HistoryError(number, message) from exc
        yield (
            number,
            {
                "process": process,
                "type": kind,
                "f": operation,
                "value": values[0] if values else None,
            },
        )


JEPSEN_LOG = Format(
    "porcupine-log",
    "log lines of Jepsen, as Porcupine keeps them",
    by_head(r"\s*INFO\s+jepsen\.util"),
    read_log,
)
JEPSEN_JSON = Format(
    "jepsen-json",
    "events of Jepsen in JSON, as elle-cli reads them",
    by_head(r'\s*(?:\[\s*)?\{\s*"', ".json"),
    read_json,
)
JEPSEN_EDN = Format(
    "jepsen-edn",
    "events of Jepsen, Knossos, Elle or Porcupine in EDN",
    by_head(
        r"(?:[\s,]|;[^\n]*\n)*+(?:[\[(]?[\s,]*(?:#[\w./-]+\s*)?\{\s*:|\[\s*\])", ".edn"
    ),
    read_edn,
)
