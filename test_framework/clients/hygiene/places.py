"""Which line of the service sent a statement that a session remembers."""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from test_framework.clients.hygiene.state import Kind
from test_framework.detect import current_operation
from test_framework.detect.leaks import relative_site

_KINDS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    (
        "setting",
        re.compile(
            r"\bset_config\s*\(|^\s*SET\s+(?!LOCAL\b|TRANSACTION\b|CONSTRAINTS\b)",
            re.IGNORECASE,
        ),
    ),
    ("advisory lock", re.compile(r"\bpg_(?:try_)?advisory_lock", re.IGNORECASE)),
    ("temporary table", re.compile(r"\bTEMP(?:ORARY)?\b", re.IGNORECASE)),
    ("LISTEN", re.compile(r"^\s*LISTEN\b", re.IGNORECASE)),
    ("prepared statement", re.compile(r"^\s*PREPARE\b", re.IGNORECASE)),
    ("cursor", re.compile(r"^\s*DECLARE\b", re.IGNORECASE)),
)
_SPELLED = re.compile(
    r"(?:\bset_config\s*\(\s*'|^\s*SET\s+(?:SESSION\s+)?)([a-z_]\w*(?:\.\w+)+)",
    re.IGNORECASE,
)
_GIVEN = re.compile(r"\bset_config\s*\(\s*[$%:?]", re.IGNORECASE)
_CUSTOM = re.compile(r"[a-z_]\w*(?:\.\w+)+", re.IGNORECASE)
_STACK_LINES = 6


@dataclass(frozen=True, slots=True)
class Place:
    """Where a statement came from.

    Attributes:
        site: Line of the service.
        stack: Lines of the service on the way there, outermost first.
        operation: The request of the audit that sent it, if one did.
    """

    site: str
    stack: tuple[str, ...] = ()
    operation: int | None = None


def kinds_of(statement: str) -> list[Kind]:
    """Return what a session may remember of a statement."""
    return [kind for kind, pattern in _KINDS if pattern.search(statement)]


def settings_in(statement: str, parameters: object) -> Iterator[str]:
    """Yield the names of settings of one's own that a statement sets.

    Args:
        statement: SQL, with names spelled out or given as the first parameter.
        parameters: Of the driver: in order, or by name.
    """
    yield from (name.lower() for name in _SPELLED.findall(statement))
    if _GIVEN.search(statement):
        if isinstance(parameters, dict):
            parameters = tuple(parameters.values())
        # The first only: the value behind the name may look like a name.
        first = parameters[0] if isinstance(parameters, tuple) and parameters else None
        if isinstance(first, str) and _CUSTOM.fullmatch(first):
            yield first.lower()


def calling_place() -> Place:
    """Return the innermost line of the service on the stack of the running task."""
    folder = f"{Path.cwd()}/"
    lines = []
    for frame in _frames():
        file = frame.f_code.co_filename
        if (
            file.startswith(folder)
            and "/site-packages/" not in file
            and "/test_framework/" not in file
        ):
            site = relative_site(file, frame.f_lineno)
            lines.append((site, f"{site} in {frame.f_code.co_qualname}"))
            if len(lines) == _STACK_LINES:
                break
    stack = tuple(line for _, line in reversed(lines))
    site = lines[0][0] if lines else "a line outside of the service"
    return Place(site, stack, current_operation())


def _frames() -> Iterator[FrameType]:
    greenlets = sys.modules.get("greenlet")
    current = greenlets.getcurrent() if greenlets is not None else None
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  # traceback would format
    while frame is not None:
        yield frame
        frame = frame.f_back
        if frame is None and current is not None:
            # SQLAlchemy runs its synchronous half in a greenlet of its own.
            current = current.parent
            frame = current.gr_frame if current is not None else None
