"""An interleaving is drawn from the run that the explorer found."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from test_framework.catalogue import Pattern, find_pattern
from test_framework.catalogue.drawing import draw, redraw
from test_framework.explore import Witness


def witness_of(pattern: Pattern) -> Witness:
    """Return what an exploration found."""
    witness = pattern.explore(schedules=400, seed=1).witness
    assert witness is not None
    return witness


@pytest.fixture
def undrawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pattern]:
    """A pattern in a file of its own whose docstring draws nothing yet."""
    text = find_pattern("P04").file.read_text(encoding="utf-8")
    _, _, program = text.removeprefix('"""').partition('"""')
    theme = tmp_path / "undrawn"
    theme.mkdir()
    (theme / "__init__.py").write_text("", encoding="utf-8")
    (theme / "p04_new.py").write_text(f'"""To do."""{program}', encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    pattern: Pattern = importlib.import_module("undrawn.p04_new").PATTERN
    yield pattern
    for name in ("undrawn", "undrawn.p04_new"):
        del sys.modules[name]


def test_drawing_is_written_into_the_file_of_its_pattern(undrawn: Pattern) -> None:
    """Id, title and drawing become the docstring; the program stays as it is."""
    program = undrawn.file.read_text(encoding="utf-8").removeprefix('"""To do."""')
    witness = witness_of(undrawn)

    is_new = redraw(undrawn, witness)

    assert is_new
    assert undrawn.file.read_text(encoding="utf-8") == (
        f'"""P04: {undrawn.title}.\n\n{draw(undrawn, witness)}\n"""{program}'
    )


def test_drawing_that_is_there_is_left_alone(undrawn: Pattern) -> None:
    """Who draws twice changes nothing the second time, although lines have moved."""
    redraw(undrawn, witness_of(undrawn))

    assert not redraw(undrawn, witness_of(undrawn))


def test_drawing_puts_the_trace_function_back() -> None:
    """Who measures coverage goes on doing so."""
    pattern = find_pattern("P04")
    witness = witness_of(pattern)
    before = sys.gettrace()

    draw(pattern, witness)

    assert sys.gettrace() is before


def test_lone_user_has_a_column_for_each_task() -> None:
    """Where one user starts tasks that overtake each other, they stand apart."""
    head, *_ = find_pattern("L10").interleaving.splitlines()

    assert head.split("  ")[0] == "alice"
    assert "alice, task 2" in head
    assert "alice, task 3" in head


def test_worker_and_thread_have_columns_of_their_own() -> None:
    """What no user has started is nobody's: the worker of a service, a thread."""
    assert find_pattern("B02").interleaving.splitlines()[0].split() == [
        "alice",
        "worker",
    ]
    assert "thread" in find_pattern("P18").interleaving.splitlines()[0]
