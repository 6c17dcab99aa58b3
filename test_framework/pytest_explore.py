"""What ``@pytest.mark.explore`` does: the async test is the scenario.

The fixtures of the test are made once and not per schedule, so state that a schedule
changes must be made in the body of the test.
"""

import inspect
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


def explore_item(item: pytest.Function, marker: pytest.Mark) -> None:
    """Explore one test, or follow the schedule that the command line names.

    Fails the test when something was found, and when nothing could be said.
    """
    # pytest-asyncio has put a synchronous wrapper around the test by now.
    test = inspect.unwrap(item.obj)
    arguments = {
        name: item.funcargs[name]
        for name in item._fixtureinfo.argnames  # noqa: SLF001  # as pytest itself calls a test
    }

    async def scenario() -> None:
        await test(**arguments)

    try:
        if not inspect.iscoroutinefunction(test):
            raise UsageError(
                f"{item.name} is marked explore and is no async function. The body of "
                "the test is what is run under many orders: make it async def."
            )
        if marker.args:
            raise UsageError(
                f"The explore marker of {item.name} got {marker.args!r}: it takes the "
                "options of explore() by name, such as budget='5s'."
            )
        schedule = item.config.getoption("--explore-replay")
        if schedule is not None:
            _follow(scenario, read_schedule(schedule))
            return
        _search(item, scenario, dict(marker.kwargs), is_alone=not arguments)
    except IsolationError as exc:
        pytest.fail(str(exc), pytrace=False)
    except TypeError as exc:
        if "explore()" not in str(exc):
            raise
        pytest.fail(f"The explore marker of {item.name}: {exc}.", pytrace=False)


def _follow(scenario: Any, schedule: Schedule) -> None:  # noqa: ANN401  # a coroutine function
    outcome = replay(scenario, schedule)
    if outcome.failure is not None:
        pytest.fail(outcome.text(), pytrace=False)


def _search(
    item: pytest.Function,
    scenario: Any,  # noqa: ANN401  # a coroutine function
    options: dict[str, Any],
    *,
    is_alone: bool,
) -> None:
    budget = item.config.getoption("--explore-budget")
    if budget is not None:
        options["budget"] = budget
    options.setdefault("seed", item.config.getoption("--run-seed"))
    report = explore(scenario, reference=item.nodeid if is_alone else "", **options)
    text = report.text()
    if report.witness is not None and not is_alone:
        token = report.witness.schedule.token()
        text += f'\n    Replay  pytest "{item.nodeid}" --explore-replay={token}'
    text += f'\n    Again   pytest "{item.nodeid}" --run-seed={report.seed}'
    item.user_properties.append(("explore", f"{report.conclusion}: {report.claim}"))
    if report.conclusion in {Conclusion.FOUND, Conclusion.INCONCLUSIVE}:
        pytest.fail(text, pytrace=False)
    item.add_report_section("call", "explore", text)
