"""Draw an interleaving: which statement each user runs when, a column for each user.

The witness that the explorer found is run again while Python's trace function notes the
statements of the program, and whose they are: what a user does runs in a context that
carries its number, and so do the tasks that it starts.

The drawings stand in the docstrings of the files, where they are read; the tests draw
them again and compare.
"""

import ast
import asyncio
import contextvars
import dataclasses
import functools
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from test_framework.catalogue.pattern import Pattern
from test_framework.catalogue.world import NAMES
from test_framework.explore import Raise, Scenario, Witness, replay

_WIDTH = 88
_CANCELLED = "<- cancelled"
_user: contextvars.ContextVar[int | None] = contextvars.ContextVar(
    "drawn_user", default=None
)

_Tracing = Callable[[FrameType, str, Any], Any]


class _Row(NamedTuple):
    column: str
    text: str


def draw(pattern: Pattern, witness: Witness) -> str:
    """Return the run of a witness as lines, the last one saying what went wrong.

    A user has one column, with all the tasks that it starts; a user who is alone has a
    column for each of them.

    Args:
        pattern: Whose vulnerable twin it is.
        witness: What an exploration of that twin found.
    """
    rows = _without_teardown(_trace(pattern, witness), witness)
    columns = sorted({row.column for row in rows})
    longest = max(
        (len(row.text) for row in rows if row.column != columns[-1]), default=0
    )
    width = max(16, min(longest + 2, 64 // len(columns)))
    head = "".join(column.ljust(width) for column in columns)
    told = [" " * width * columns.index(row.column) + row.text for row in rows]
    outcome = re.sub(
        r"user\[(\d)\]", lambda found: NAMES[int(found[1])], witness.failure.message
    )
    lines = [head, *told, f"-> {outcome}"]
    return "\n".join(_cut(line.rstrip()) for line in lines)


def redraw(pattern: Pattern, witness: Witness) -> bool:
    """Write the drawing of a witness into the file of its pattern; tell if it is new."""
    text = pattern.file.read_text(encoding="utf-8")
    _, _, rest = text.removeprefix('"""').partition('"""')
    head = f"{pattern.id}: {pattern.title}."
    new = f'"""{head}\n\n{draw(pattern, witness)}\n"""{rest}'
    if new != text:
        pattern.file.write_text(new, encoding="utf-8")
    return new != text


def _cut(line: str) -> str:
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 3]}..."


def _without_teardown(rows: list[_Row], witness: Witness) -> list[_Row]:
    """Leave out what the explorer did to tasks that do not end by themselves."""
    if witness.failure.kind != "deadlock":
        while rows and rows[-1] == _Row("worker", _CANCELLED):
            rows.pop()
        return rows
    cancels = [number for number, row in enumerate(rows) if row.text == _CANCELLED]
    own = sum(not isinstance(fault, Raise) for fault in witness.schedule.faults)
    return rows[: cancels[own]] if len(cancels) > own else rows


def _trace(pattern: Pattern, witness: Witness) -> list[_Row]:
    scenario = pattern.vulnerable
    rows: list[_Row] = []
    tasks: dict[object, str] = {}

    def setup() -> Any:
        # A replay first runs in the usual order, to have something to compare with.
        rows.clear()
        tasks.clear()
        tasks[asyncio.current_task()] = ""
        return scenario.setup()

    @functools.wraps(scenario.user)
    async def user(state: Any, number: int) -> None:  # as above
        _user.set(number)
        await scenario.user(state, number)

    def column() -> str:
        try:
            task = asyncio.current_task()
        except RuntimeError:  # a job of an executor
            return "thread"
        number = _user.get()
        if number is None:
            return tasks.get(task, "worker")
        if scenario.users > 1:
            return NAMES[number]
        alone = NAMES[number]
        return tasks.setdefault(
            task, f"{alone}, task {len(tasks)}" if len(tasks) > 1 else alone
        )

    before = sys.gettrace()
    sys.settrace(_recorder(pattern.file.parent, rows, column))
    try:
        traced: Scenario[Any] = dataclasses.replace(scenario, setup=setup, user=user)
        replay(traced, witness.schedule)
    finally:
        sys.settrace(before)
    return rows


def _recorder(folder: Path, rows: list[_Row], column: Callable[[], str]) -> _Tracing:
    last: dict[FrameType, ast.stmt] = {}

    def trace(frame: FrameType, event: str, arg: Any) -> Any:  # sys.settrace
        code = frame.f_code
        # Neither constructors nor the frames of comprehensions tell anything.
        if code.co_name.startswith(("__", "<")):
            return None
        if Path(code.co_filename).parent != folder or not column():
            return None
        if event == "exception":
            _note_exception(rows, column(), arg[0])
        elif event == "line":
            statement = _statements(code.co_filename).get(frame.f_lineno)
            if statement is not None:
                if _is_news(last.get(frame), statement):
                    rows.append(_Row(column(), _told(code.co_filename, statement)))
                last[frame] = statement
        return trace

    return trace


def _note_exception(rows: list[_Row], column: str, kind: type[BaseException]) -> None:
    if issubclass(
        kind, (AssertionError, GeneratorExit, StopIteration, StopAsyncIteration)
    ):
        return
    is_cancel = issubclass(kind, asyncio.CancelledError)
    row = _Row(column, _CANCELLED if is_cancel else f"<- {kind.__name__}")
    # It passes through every frame of the user.
    if row not in rows[-1:]:
        rows.append(row)


def _is_news(last: ast.stmt | None, now: ast.stmt) -> bool:
    """Tell a statement that begins from one that is gone on with, or left."""
    if last is now or isinstance(now, (ast.Try, ast.FunctionDef, ast.AsyncFunctionDef)):
        return False
    if isinstance(now, ast.Return) and now.value is None:
        return False
    if isinstance(now, ast.Expr) and isinstance(now.value, ast.Yield):
        return False
    if isinstance(now, ast.Assert):
        return any(isinstance(node, ast.Await) for node in ast.walk(now))
    if isinstance(now, (ast.With, ast.AsyncWith)) and last is not None:
        return not now.lineno <= last.lineno <= (now.end_lineno or now.lineno)
    return True


def _told(file: str, statement: ast.stmt) -> str:
    """Return a statement on one line, without its body."""
    body: list[ast.stmt] = getattr(statement, "body", [])
    end = body[0].lineno - 1 if body else statement.end_lineno
    lines = _lines(file)[statement.lineno - 1 : end]
    text = " ".join(" ".join(line.partition("  #")[0].split()) for line in lines)
    return re.sub(r"(?<=[(\[{]) | (?=[)\]}])|,(?= [)\]])", "", text)


@functools.cache
def _lines(file: str) -> list[str]:
    return Path(file).read_text(encoding="utf-8").splitlines()


@functools.cache
def _statements(file: str) -> dict[int, ast.stmt]:
    """Return the innermost statement of each line of a file."""
    found = {}
    for node in ast.walk(ast.parse("\n".join(_lines(file)))):
        if isinstance(node, ast.stmt) and not isinstance(node, ast.ClassDef):
            for line in range(node.lineno, (node.end_lineno or node.lineno) + 1):
                found[line] = node
    return found
