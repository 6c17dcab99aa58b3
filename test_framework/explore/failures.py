"""What went wrong in one run, and the words and the line that tell it."""

import linecache
import traceback
from dataclasses import dataclass

from test_framework.explore.waits import NOWHERE, Wait, cycle, innermost, short_path


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong in one run.

    Attributes:
        kind: ``assertion``, ``exception``, ``invariant``, ``deadlock``, ``endless``,
            ``lost-exception``, ``loop-error``, ``task-left``, ``dirty-pool``,
            ``dirty-connection`` or ``foreign-canary``.
        message: One sentence.
        where: ``file:line`` in the program; empty when there is none.
        details: Further lines, such as the wait-for graph.
        key: Place by which it is known again; empty where that is ``where``.
    """

    kind: str
    message: str
    where: str = ""
    details: tuple[str, ...] = ()
    key: str = ""

    @property
    def headline(self) -> str:
        """What went wrong, with its kind, which a deadlock's message begins with."""
        if self.message.lower().startswith(f"{self.kind}: "):
            return self.message
        return f"{self.kind}: {self.message}"

    @property
    def identity(self) -> tuple[str, str]:
        """What makes two failures the same bug: kind and place."""
        return self.kind, self.key or self.where


def deadlock(waits: tuple[Wait, ...], going: tuple[str, ...]) -> Failure:
    """Return the failure of a run in which somebody waits for what cannot come.

    Args:
        waits: Who waits for what.
        going: Names of tasks that go on all the same.
    """
    ring = cycle(waits)
    others = f"only {', '.join(going)} can go" if going else "nothing can go"
    if ring:
        names = " -> ".join(wait.task for wait in (*ring, ring[0]))
        message = f"Deadlock: {names}; {others}."
    else:
        names = ", ".join(wait.task for wait in waits)
        message = f"Deadlock: {others}; {names} wait for ever."
    # Not main that waits for everybody, nor a worker that waits for work. Not the ring
    # either to know it by, for who holds what is recorded only to tell a run.
    stuck = [wait for wait in waits if not wait.is_parent]
    busy = [wait for wait in stuck if not wait.is_idle]
    shown = (*busy, *stuck, *waits)
    details = []
    for wait in waits:
        held = f", held by {', '.join(wait.holders)}" if wait.holders else ""
        where = f"  at {wait.where}" if wait.where != NOWHERE else ""
        details.append(f"{wait.task} waits {wait.what}{held}{where}")
    where = (*ring, *shown)[0].where
    return Failure("deadlock", message, where, tuple(details), key=shown[0].where)


def broken_claim(holds: object, result: object) -> str:
    """Return what an invariant returned, and the line where it is defined."""
    # Of a method as well, and of what a partial wraps.
    holds = getattr(holds, "func", holds)
    name = getattr(holds, "__qualname__", repr(holds)).rpartition("<locals>.")[2]
    told = f"{name} is {result!r}"
    code = getattr(holds, "__code__", None)
    if code is None:
        return told
    file, line = code.co_filename, code.co_firstlineno
    return (
        f"{told}: {linecache.getline(file, line).strip()}  at {short_path(file)}:{line}"
    )


def words(exc: BaseException) -> str:
    """Return type and first line of an exception, and of the first one in a group."""
    told = f"{type(exc).__name__}: {first_line(exc)}"
    if isinstance(exc, BaseExceptionGroup):
        told += f": {words(exc.exceptions[0])}"
    return told


def first_line(exc: BaseException) -> str:
    """Return the first line of what an exception says."""
    try:
        return str(exc).partition("\n")[0]
    except Exception as broken:  # noqa: BLE001  # of the program's own class
        return f"(its __str__ raises {type(broken).__name__})"


def where_raised(exc: BaseException) -> str:
    """Return ``file:line`` of the program's own frame that raised, else empty."""
    file, line = _raised_at(exc)
    return f"{short_path(file)}:{line}" if file else ""


def source_raised(exc: BaseException) -> str:
    """Return the line of source that raised; empty where there is none."""
    return linecache.getline(*_raised_at(exc)).strip()


def _raised_at(exc: BaseException) -> tuple[str, int]:
    """Return file and line of the program's own frame that raised, else no file."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    lines = dict(traceback.walk_tb(exc.__traceback__))
    frame = innermost(lines)
    return ("", 0) if frame is None else (frame.f_code.co_filename, lines[frame])
