"""A natural run is plain asyncio, with a world outside that takes its time."""

import asyncio
import dataclasses

import pytest

from test_framework.catalogue import Needs, Pattern, Twin, find_pattern, load_patterns
from test_framework.catalogue.natural import run_naturally
from test_framework.detect import current_operation
from test_framework.explore import Scenario, external

SEEDS = range(20)


def problems(pattern: Pattern, twin: Twin = "vulnerable") -> list[str]:
    """Return what went wrong in each run; an empty text where nothing did."""
    found = [run_naturally(pattern, twin, seed=seed) for seed in SEEDS]
    return ["" if problem is None else repr(problem) for problem in found]


def test_same_seed_repeats_a_run_and_others_differ() -> None:
    """The seed alone decides who overtakes whom."""
    pattern = find_pattern("P16")

    once, again = problems(pattern), problems(pattern)

    assert once == again
    assert len(set(once)) > 1


@pytest.mark.power
def test_nearly_every_bug_shows_by_itself() -> None:
    """Users overlap as in a service, so that bugs of order and of faults come about.

    The others need a coincidence of two steps or show only to whoever looks at tasks.
    """
    hidden = {one.id for one in load_patterns() if not any(problems(one))}

    assert hidden <= {"C09", "O08", "R06", "X05", "X06", "X10"}


def test_safe_twins_go_well() -> None:
    """No mend fails in any natural run, whatever is cancelled or raises."""
    failed = {one.id for one in load_patterns() if any(problems(one, "safe"))}

    assert failed == set()


def test_users_that_never_end_are_told_before_they_are_cancelled() -> None:
    """At the end of a deadlock the tasks are still there to be looked at."""
    seen: list[tuple[bool, int]] = []

    def look(_state: object, is_stuck: bool) -> None:  # noqa: FBT001  # as AtEnd has it
        waiting = [task for task in asyncio.all_tasks() if task.get_name() == "user"]
        seen.append((is_stuck, len(waiting)))

    problem = run_naturally(find_pattern("B15"), seed=1, at_end=look)
    run_naturally(find_pattern("B15"), "safe", seed=1, at_end=look)

    assert isinstance(problem, TimeoutError)
    assert seen == [(True, 2), (False, 0)]


def test_each_user_runs_in_the_scope_of_an_operation() -> None:
    """Detectors tell users apart, also in the tasks that users start."""
    seen: list[tuple[int, int | None]] = []

    async def note(number: int) -> None:
        seen.append((number, current_operation()))

    async def user(_state: object, number: int) -> None:
        await asyncio.create_task(note(number))

    scenario = Scenario(object, user, users=3)
    pattern = dataclasses.replace(find_pattern("P03"), vulnerable=scenario)

    run_naturally(pattern, seed=1)

    assert sorted(seen) == [(0, 0), (1, 1), (2, 2)]


def test_child_that_a_pattern_names_is_cancelled_and_not_its_user() -> None:
    """Of ``user*/upload*`` it is the upload that a seed strikes."""
    ends: list[str] = []

    async def upload() -> None:
        try:
            await external("PUT")
        except asyncio.CancelledError:
            ends.append("upload")
            raise

    async def user(_state: object, _number: int) -> None:
        task = asyncio.create_task(upload())
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            ends.append("user")
            raise

    pattern = dataclasses.replace(
        find_pattern("P03"),
        vulnerable=Scenario(object, user),
        needs=Needs(cancel="user*/upload*"),
    )

    for seed in SEEDS:
        run_naturally(pattern, seed=seed)

    assert set(ends) == {"upload"}


def test_world_answers_with_the_errors_that_a_pattern_names() -> None:
    """Some answers are errors, of the kinds that are named and no other."""
    answers: list[str] = []

    async def user(_state: object, _number: int) -> None:
        try:
            await external("GET")
        except OSError as exc:
            answers.append(type(exc).__name__)
        else:
            answers.append("")

    pattern = dataclasses.replace(
        find_pattern("P03"),
        vulnerable=Scenario(object, user),
        needs=Needs(errors=("ConnectionResetError",)),
    )

    for seed in SEEDS:
        run_naturally(pattern, seed=seed)

    # 40 answers, each an error with odds of 0.3: none or all is one in a million.
    assert set(answers) == {"", "ConnectionResetError"}
