"""Every case gets its one right verdict: conclusion, kind of failure, and line.

A wrong verdict is worse than none: a proof of what is broken, an accusation of what is
right, a hang, or a sentence that leads nowhere. Where the explorer is known to be wrong,
the case stands in ``KNOWN_GAPS`` and turns red when the gap is mended.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from test_framework.core import UsageError
from test_framework.explore import Conclusion, Report, Scenario, explore, external
from test_framework.explore.execution import EVERYTHING, Runner
from test_framework.explore.failures import Failure
from test_framework.explore.scenario import main_of
from test_framework.explore.schedulers import Stock
from test_framework.explore.stock import StockLoop
from tests.unit.explore import (  # noqa: F401  # they fill the list of cases
    programs_attacked,
    programs_channels,
    programs_deadlocks,
    programs_executors,
    programs_faults,
    programs_limits,
    programs_sets,
    programs_tasks,
    programs_timeouts,
    programs_users,
    programs_waits,
    programs_weak,
)
from tests.unit.explore.verdict_case import CASES, Case, ExploreOptions

KNOWN_GAPS: dict[str, str] = {}


def _marked(names: Iterable[str]) -> list[Any]:
    """Return names as parameters; those of known gaps must fail."""
    return [
        pytest.param(
            name,
            id=name,
            marks=[pytest.mark.xfail(strict=True, reason=KNOWN_GAPS[name])]
            if name in KNOWN_GAPS
            else [],
        )
        for name in names
    ]


def verdict(case: Case) -> Report:
    """Explore a case, and see that the exploration puts everything back."""
    # Schedules end it: time is for machines that others keep busy.
    options: ExploreOptions = {"budget": 90, "schedules": 12_000}
    options.update(case.options)
    try:
        return explore(case.scenario(), seed=1, **options)
    except SystemExit as exc:
        pytest.fail(f"The program ended the exploration: {exc!r}.")
    finally:
        left = asyncio._get_running_loop()
        # Whatever comes of this case, the next one starts without a loop.
        asyncio._set_running_loop(None)
        assert left is None


def failure_on_cpython(case: Case) -> Failure | None:
    """Run a case once on another loop than that of a proof, and judge it."""
    runner = Runner(main_of(case.scenario(), case.options.get("users")), StockLoop())
    runner.usual_left = EVERYTHING
    return runner.run(Stock())


@pytest.mark.power
@pytest.mark.parametrize("name", _marked(CASES))
def test_case_gets_its_one_verdict(name: str) -> None:
    """The conclusion is right, and so are kind, line and words of what is said."""
    case = CASES[name]
    report = verdict(case)

    text = report.text()
    assert report.conclusion is case.conclusion, text
    assert [words for words in case.says if words not in text] == [], text
    if report.conclusion is Conclusion.PROVEN:
        assert failure_on_cpython(case) is None
    if report.witness is None:
        assert any(place in report.claim for place in case.places()) or (
            report.conclusion is not Conclusion.INCONCLUSIVE
        ), text
    else:
        failure = report.witness.failure
        assert failure.kind == case.kind, text
        # A place of its own, or none: never that of asyncio or of the explorer.
        assert failure.where.rpartition("/")[2] in (case.places() or {""}), text
        assert report.witness.is_confirmed is not False, text


async def two_answers() -> None:
    """A scenario that nothing is wrong with."""
    await asyncio.gather(external("a"), external("b"))


def plain() -> None:
    """Not async."""


async def with_argument(user: str) -> None:
    """Nobody gives the argument."""
    await external(user)


async def with_default(user: str = "alice") -> None:
    """The argument is not needed."""
    await external(user)


async def one_user(state: list[int], user: int) -> None:
    """A user that nothing is wrong with."""
    state.append(user)


def plain_user(state: list[int], user: int) -> None:
    """Not async."""
    state.append(user)


async def async_check(state: list[int]) -> None:
    """Nobody would await it."""
    assert state


async def generated() -> Any:  # noqa: ANN401  # an async generator
    """A generator and not a coroutine."""
    yield 1


USERS = Scenario(list, one_user)


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "sync function": (plain, {}, "plain.*async function"),
    "async generator": (generated, {}, "generated.*async function"),
    "nothing": (None, {}, "None.*async function"),
    "required argument": (with_argument, {}, "with_argument.*takes user"),
    "sync user": (Scenario(list, plain_user), {}, "plain_user.*not async"),  # type: ignore[arg-type]  # wrong on purpose
    "async check": (Scenario(list, one_user, async_check), {}, "async_check.*is async"),
    "no users": (USERS, {"users": 0}, "users=0"),
    "less than no users": (USERS, {"users": -1}, "users=-1"),
    "users of a plain test": (two_answers, {"users": 2}, "users=2.*plain test"),
    "no schedules": (two_answers, {"schedules": 0}, "schedules=0"),
    "less than no schedules": (two_answers, {"schedules": -3}, "schedules=-3"),
    "no steps": (two_answers, {"max_steps": 0}, "max_steps=0"),
    "no budget": (two_answers, {"budget": "0s"}, "budget='0s'"),
    "less than no budget": (two_answers, {"budget": -1}, "budget=-1"),
    "budget that is no time": (two_answers, {"budget": "soon"}, "budget='soon'"),
    "budget of a unit alone": (two_answers, {"budget": "s"}, "budget='s'.*'5s'"),
    "budget left empty": (two_answers, {"budget": None}, "budget=None"),
    "endless budget": (two_answers, {"budget": float("inf")}, "budget=inf"),
    "unknown fidelity": (
        two_answers,
        {"fidelity": "best"},
        "fidelity='best'.*fifo, await, any",
    ),
    "unknown error": (two_answers, {"errors": ("NoSuch",)}, "'NoSuch'.*builtin"),
    "error that is none": (two_answers, {"errors": ("int",)}, "'int'.*exception"),
    "error of no module": (two_answers, {"errors": ("no.such:Error",)}, "no.such"),
    "errors as one text": (two_answers, {"errors": "OSError"}, "errors='OSError'"),
}


@pytest.mark.parametrize("mistake", _marked(REFUSED))
def test_bad_input_is_refused_with_its_value(mistake: str) -> None:
    """The sentence names the value that is wrong and what was expected."""
    scenario, options, words = REFUSED[mistake]

    with pytest.raises(UsageError, match=words):
        explore(scenario, **{"budget": 1, **options})


@pytest.mark.parametrize("scenario", [two_answers, with_default, USERS])
def test_good_input_is_not_refused(
    scenario: Any,  # noqa: ANN401  # functions and scenarios
) -> None:
    """The safe twins of the refusals are proven."""
    assert explore(scenario, budget=60).conclusion is Conclusion.PROVEN


def test_every_known_gap_is_a_case() -> None:
    """No gap outlives its case."""
    assert set(KNOWN_GAPS) <= {*CASES, *REFUSED}


def test_verdict_suite_is_as_large_as_promised() -> None:
    """Eighty cases, and each of the four conclusions among them."""
    assert len(CASES) >= 80
    assert {case.conclusion for case in CASES.values()} == set(Conclusion)
