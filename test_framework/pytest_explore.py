"""What ``@pytest.mark.explore`` does: the async test is the scenario.

The fixtures of the test are made once and not per schedule, so state that a schedule
changes must be made in the body of the test.
"""

import contextlib
import inspect
import unittest
from pathlib import Path
from typing import Any

import pytest

from test_framework.core import IsolationError, UsageError
from test_framework.explore import (
    Conclusion,
    Schedule,
    explore,
    read_schedule,
    replay,
)
from test_framework.explore.loader import needs_pytest, options_of


def explore_item(item: pytest.Function, marker: pytest.Mark) -> None:
    """Explore one test, or follow the schedule that the command line names.

    Fails the test when something was found, and when nothing could be said.
    """
    problem = ""
    try:
        _run(item, marker)
    except IsolationError as exc:
        problem = str(exc)
    # Outside of the except block, or pytest prints the sentence twice.
    if problem:
        pytest.fail(problem, pytrace=False)


def refuse_unittest(item: pytest.Item) -> None:
    """Fail a method of unittest that is marked: unittest runs it, once, itself."""
    is_unittest = isinstance(item, pytest.Function) and (
        item.cls is not None and issubclass(item.cls, unittest.TestCase)
    )
    if is_unittest and item.get_closest_marker("explore") is not None:
        pytest.fail(
            f"{item.name} is marked explore and is a method of unittest.TestCase, which "
            "runs it once on a loop of its own. Make it a plain async function, or a "
            "method of a class that is no TestCase.",
            pytrace=False,
        )


def _run(item: pytest.Function, marker: pytest.Mark) -> None:
    # pytest-asyncio has put a synchronous wrapper around the test by now.
    test = inspect.unwrap(item.obj)
    if inspect.isasyncgenfunction(test):
        raise UsageError(
            f"{item.name} is marked explore and has a yield, which makes it no test: "
            "take the yield out."
        )
    if not inspect.iscoroutinefunction(test):
        raise UsageError(
            f"{item.name} is marked explore and is no async function. The body of "
            "the test is what is run under many orders: make it async def."
        )
    options = options_of(marker, item.name)
    arguments = {
        name: item.funcargs[name]
        for name in item._fixtureinfo.argnames  # noqa: SLF001  # as pytest itself calls a test
    }

    async def scenario() -> None:
        await test(**arguments)

    # What a refusal names is the test.
    scenario.__qualname__ = item.name
    schedule = item.config.getoption("--explore-replay")
    if schedule is not None:
        _follow(scenario, read_schedule(schedule))
    else:
        _search(item, scenario, options, reference=_reference(item))


def _reference(item: pytest.Function) -> str:
    """Return ``PATH::NAME`` of what the command line can load, else empty."""
    is_alone = item.cls is None and not item._fixtureinfo.argnames  # noqa: SLF001  # as above
    if not is_alone or needs_pytest(item.path):
        return ""
    path = item.path
    with contextlib.suppress(ValueError):
        # Of the folder in which the command will be typed, not of pytest's root.
        path = path.relative_to(Path.cwd())
    return f"{path}::{item.name}"


def _follow(scenario: Any, schedule: Schedule) -> None:  # noqa: ANN401  # a coroutine function
    outcome = replay(scenario, schedule)
    # What another order showed says nothing about the one that was asked for.
    if outcome.failure is not None or outcome.parted is not None:
        pytest.fail(outcome.text(), pytrace=False)


def _search(
    item: pytest.Function,
    scenario: Any,  # noqa: ANN401  # a coroutine function
    options: dict[str, Any],
    *,
    reference: str,
) -> None:
    budget = item.config.getoption("--explore-budget")
    if budget is not None:
        options["budget"] = budget
    options.setdefault("seed", item.config.getoption("--run-seed"))
    report = explore(scenario, reference=reference, **options)
    text = report.text()
    is_repeatable = report.witness is not None and options.get("io") != "live"
    if report.witness is not None and is_repeatable and not reference:
        token = report.witness.schedule.token()
        text += f'\n    Replay  pytest "{item.nodeid}" --explore-replay={token}'
    text += f'\n    Again   pytest "{item.nodeid}" --run-seed={report.seed}'
    item.user_properties.append(("explore", f"{report.conclusion}: {report.claim}"))
    if report.conclusion in {Conclusion.FOUND, Conclusion.INCONCLUSIVE}:
        pytest.fail(text, pytrace=False)
    item.add_report_section("call", "explore", text)
