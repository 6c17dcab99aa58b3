"""What a format is, and how its text is had."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from test_framework.check.linear import Call
from test_framework.check.transactions import TransactionLog
from test_framework.core import UsageError

Calls = Sequence[Call]


@dataclass(frozen=True, slots=True)
class Format:
    """One way to write a history down.

    Attributes:
        name: As it is given on a command line, such as ``jepsen-edn``.
        about: What is written so, in a few words.
        recognises: Tells a history by its path and its first bytes; a folder has none.
        read: Reads one, or raises ``UsageError`` with the line and the cure.
    """

    name: str
    about: str
    recognises: Callable[[Path, bytes], bool]
    read: Callable[[Path], Calls | TransactionLog]


def by_head(pattern: str, *suffixes: str) -> Callable[[Path, bytes], bool]:
    """Return a test for what a file begins with, or else for how its name ends."""
    compiled = re.compile(pattern.encode())

    def recognises(path: Path, head: bytes) -> bool:
        return bool(compiled.match(head)) or path.suffix in suffixes

    return recognises


def read_text(path: Path) -> str:
    """Return the text of a history.

    Raises:
        UsageError: There is none, or it is not UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as exc:
        message = (
            f"The history {str(path)!r} cannot be read: {exc.strerror}. Pass the path "
            "of a history."
        )
        raise UsageError(message) from exc
    except UnicodeDecodeError as exc:
        message = (
            f"{str(path)!r} is not UTF-8 text (byte {exc.start}). Pass a history as it "
            "was written, or name its format."
        )
        raise UsageError(message) from exc
    if not text.strip():
        message = (
            f"{str(path)!r} is empty, so it proves nothing. Pass a history that "
            "recorded some operations."
        )
        raise UsageError(message)
    return text


def unreadable(path: Path, line: int, problem: str) -> UsageError:
    """Return the error for a line that is wrong; the problem says what to do."""
    return UsageError(f"{str(path)!r} line {line}: {problem}")
