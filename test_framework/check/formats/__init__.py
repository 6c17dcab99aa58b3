"""Histories in and out: every format that is read, recognised by how it begins.

A new format is one module with a ``Format``, named in ``FORMATS``.
"""

from pathlib import Path
from typing import Final

from test_framework.check.formats.jepsen import JEPSEN_EDN, JEPSEN_JSON, JEPSEN_LOG
from test_framework.check.formats.lines import OWN_LINES, write_history
from test_framework.check.formats.registers import REGISTER_FORMATS
from test_framework.check.formats.source import Calls, Format
from test_framework.check.transactions import TransactionLog
from test_framework.core import UsageError

FORMATS: Final[tuple[Format, ...]] = (
    OWN_LINES,
    *REGISTER_FORMATS,
    JEPSEN_LOG,
    JEPSEN_JSON,
    JEPSEN_EDN,
)
"""The first that recognises a history reads it, so the pickiest come first."""

_HEAD_BYTES: Final = 1 << 16


def read_history(
    path: Path | str, *, format_name: str | None = None
) -> Calls | TransactionLog:
    """Read a history of calls on objects or of transactions.

    Args:
        path: A file, or a folder for formats that write several.
        format_name: Which of ``FORMATS``; by default it is recognised.

    Raises:
        UsageError: It cannot be read; the message has the line and the cure.
    """
    path = Path(path)
    if format_name is not None:
        return _named(format_name).read(path)
    head = _head(path)
    for one in FORMATS:
        if one.recognises(path, head):
            return one.read(path)
    if not head and not path.is_dir():
        message = (
            f"{str(path)!r} is empty, so it proves nothing. Pass a history that "
            "recorded some operations."
        )
        raise UsageError(message)
    message = (
        f"{str(path)!r} is in no format that is known. Pass a history in one of "
        f"{_names()}, and name it if it is not recognised."
    )
    raise UsageError(message)


def _head(path: Path) -> bytes:
    if path.is_dir():
        return b""
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES).removeprefix(b"\xef\xbb\xbf")
    except OSError as exc:
        message = (
            f"The history {str(path)!r} cannot be read: {exc.strerror}. Pass the path "
            "of a history."
        )
        raise UsageError(message) from exc


def _named(name: str) -> Format:
    for one in FORMATS:
        if one.name == name:
            return one
    message = f"No format is named {name!r}; known are {_names()}."
    raise UsageError(message)


def _names() -> str:
    return ", ".join(one.name for one in FORMATS)


__all__ = ["FORMATS", "Calls", "Format", "read_history", "write_history"]
