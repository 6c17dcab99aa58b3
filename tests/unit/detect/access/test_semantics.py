"""A rewritten program does what it did: values, order, tracebacks, lifetimes."""

import ast
import asyncio
import doctest
import inspect
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from test_framework.detect.access.survey import Survey
from tests.unit.detect.access.semantics import programs
from tests.unit.detect.access.tracked import tracked

PACKAGE = "tests.unit.detect.access.semantics"


@pytest.fixture(scope="module", params=["what is assigned", "everything"])
def rewritten(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """The programs with probes: as the tracker puts them, and at each attribute."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "everything":
            patch.setattr(Survey, "add", add_all)
        with tracked(PACKAGE, programs.__name__) as (_, (module,)):
            yield module


def add_all(survey: Survey, tree: ast.Module) -> None:
    """Take every attribute for one that somebody assigns."""
    survey.attributes.update(
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)
    )


def outcome(module: ModuleType, name: str) -> tuple[object, str]:
    """Run a program in a task; return its diary and what it returned or raised."""
    seen: list[Any] = []

    async def main() -> object:
        result = getattr(module, name)(seen)
        return await result if inspect.isawaitable(result) else result

    try:
        result = asyncio.run(main())
    except Exception as exc:  # noqa: BLE001  # compared with the other's
        result = module.lines_of(exc)
    return [plain(one) for one in seen], plain(result)


def plain(value: object) -> str:
    """Return what a value looks like, without addresses."""
    text = repr(value)
    head, *rest = text.split(" at 0x")
    return head + "".join(part[part.find(">") :] for part in rest)


@pytest.mark.parametrize("name", [one.__name__ for one in programs.PROGRAMS])
def test_program_does_what_it_did(rewritten: ModuleType, name: str) -> None:
    """Diary, result and tracebacks are equal, and something was compared."""
    before = outcome(programs, name)

    after = outcome(rewritten, name)

    assert after == before
    assert before[0] or before[1] != "None"


def test_programs_have_probes(rewritten: ModuleType) -> None:
    """What is compared is really the rewritten code."""
    names = {
        name
        for function in vars(rewritten).values()
        if inspect.isfunction(function) and function.__module__ == rewritten.__name__
        for name in function.__code__.co_names
    }

    assert {"_@attribute", "_@item", "_@hold", "_@variable", "_@resumed"} <= names
    assert not any(name.startswith("_@") for name in dir(programs))


def test_doctests_are_found_and_hold(rewritten: ModuleType) -> None:
    """The finder sees the documented function and nothing of ours."""
    tests = [test for test in doctest.DocTestFinder().find(rewritten) if test.examples]

    results = [doctest.DocTestRunner(verbose=False).run(test) for test in tests]

    assert [test.name.rpartition(".")[2] for test in tests] == ["doctested"]
    assert [result.failed for result in results] == [0]


def test_lines_that_coverage_counts_are_the_same(rewritten: ModuleType) -> None:
    """Each function has code on the lines it had code on."""

    def lines(function: Callable[..., Any]) -> set[int | None]:
        return {line for *_, line in function.__code__.co_lines()}

    for one in programs.PROGRAMS:
        assert lines(getattr(rewritten, one.__name__)) == lines(one)
