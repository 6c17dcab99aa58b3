"""The story of a run: what a reader sees of witnesses and replays."""

import asyncio

import pytest

from test_framework.explore import Scenario, Witness, explore, external, replay
from test_framework.explore.failures import Failure
from test_framework.explore.report import Line, failure_lines, story_lines


class Quota:
    """One seat for two buyers."""

    def __init__(self) -> None:
        self.sold = 0


async def buy(quota: Quota, user: int) -> None:  # noqa: ARG001  # the face of a user
    """Look, pay and only then count."""
    if quota.sold < 1:
        await external("pay")
        quota.sold += 1


def sold_once(quota: Quota) -> None:
    """Expect what one seat allows."""
    assert quota.sold <= 1, f"{quota.sold} sold"


SHOP = Scenario(Quota, buy, sold_once)


def witness_of(scenario: Scenario[Quota]) -> Witness:
    """Return the proof of what is wrong with a scenario."""
    witness = explore(scenario, seed=1).witness
    assert witness is not None
    return witness


def test_user_that_has_not_begun_waits_to_arrive() -> None:
    """It has no line yet, and the story says what it waits for."""
    witness = witness_of(SHOP)

    text = witness.text()

    assert "user[0]  1 step   waits to arrive" in text
    assert "?" not in text


def test_task_without_a_line_of_the_program_is_told_in_words() -> None:
    """A task of asyncio alone stands at no line that could be shown."""

    async def wait(event: asyncio.Event, user: int) -> None:  # noqa: ARG001  # the face of a user
        waiter = asyncio.create_task(event.wait())
        await waiter

    report = explore(Scenario(asyncio.Event, wait, users=1), seed=1)

    assert report.witness is not None
    text = report.witness.text()
    assert "user[0]/wait[0]  1 step   outside of the program" in text
    assert "?" not in text


def test_replay_is_told_as_the_witness_is() -> None:
    """First the verdict, then the very lines of the witness."""
    witness = witness_of(SHOP)

    told = replay(SHOP, witness.schedule).text().splitlines()

    assert told[0].startswith("FOUND  assertion: 2 sold")
    shown = witness.text().splitlines()
    assert told[1:] == shown[1 : len(told)]
    assert any("  1 step   " in line for line in told)


def test_replay_that_passes_says_so_first() -> None:
    """The verdict line is there without a failure too, and the lines follow."""
    told = replay(SHOP, "fidelity = fifo\nusers = 1\n").text().splitlines()

    assert told[0].startswith("passes")
    assert told[-1] == "    main     1 step   to its end"


@pytest.mark.parametrize("users", [2, 3])
def test_every_line_of_a_story_has_the_word_step(users: int) -> None:
    """In singular or plural, in one column."""
    shop = Scenario(Quota, buy, sold_once, users=users)
    witness = witness_of(shop)
    heading, *told = replay(shop, witness.schedule).text().splitlines()[1:]

    starts = {line.index(" step") for line in told}

    assert heading.endswith("where it then waits:")
    assert len(starts) == 1


def test_places_stand_in_one_column_however_many_steps() -> None:
    """Tens of steps, none but a request, and one."""
    story = [
        Line("main", 13, "", "a.py:1", "x"),
        Line("user[0]", 0, "", "a.py:2", "y", requests=("GET k", "GET k", "SET k")),
        Line("user[0]", 1, "", "a.py:3", "z", fault="cancel"),
    ]

    assert story_lines(story) == [
        "    Who goes on, how far, and the line where it then waits:",
        "    main     13 steps  a.py:1  x",
        "    user[0]  sends     a.py:2  y   -> 2x GET k, SET k",
        "    user[0]  1 step    a.py:3  z   <- cancel",
    ]


def test_deadlock_is_called_by_its_name_once() -> None:
    """The kind stands before a message that does not begin with it, and only there."""
    stuck = Failure("deadlock", "Deadlock: nothing can go; main wait for ever.")
    sold = Failure("assertion", "2 sold")

    assert failure_lines(stuck) == ["Deadlock: nothing can go; main wait for ever."]
    assert failure_lines(sold) == ["assertion: 2 sold"]
