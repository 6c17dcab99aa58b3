"""Users one after the other foretell what would happen at once, and trials confirm it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from test_framework.core import AlarmRecord, Level
from test_framework.detect import operation_scope
from tests.unit.detect.access.tracked import tracked
from tests.unit.detect.access.twins import handovers, placeholders, updates

PACKAGE = "tests.unit.detect.access.twins"
# A trial holds a task for half a second at most; these end it after a few turns.
HOLD_S = 0.5


async def one_by_one(pair: Any, twin: str) -> Any:  # a pair of another import
    """Let users come one after the other; return what they share."""
    shared = pair.make()
    for user in (1, 2, 3):
        await asyncio.ensure_future(getattr(pair, twin)(shared, user))
    return shared


def alarms_of(
    module: Any, name: str, twin: str
) -> list[AlarmRecord]:  # a module with pairs
    """Return what sequential users show of a twin."""
    with tracked(PACKAGE, module.__name__) as (tracker, (loaded,)):
        asyncio.run(one_by_one(loaded.PAIRS[name], twin))
        return tracker.alarms()


async def requests_of(pair: Any, twin: str, users: Sequence[int | None]) -> None:
    """Let requests of some users come one after the other; one is of nobody known."""
    shared = pair.make()
    for number, user in enumerate(users):

        async def visit(number: int = number, user: int | None = user) -> None:
            with operation_scope(number, user=user):
                await getattr(pair, twin)(shared, number)

        await asyncio.ensure_future(visit())


def levels_of(users: Sequence[int | None]) -> list[Level]:
    """Return what requests of some users foretell of an update that may be lost."""
    with tracked(PACKAGE, updates.__name__) as (tracker, (loaded,)):
        pair = loaded.PAIRS["read await write"]
        asyncio.run(requests_of(pair, "vulnerable", users))
        return [alarm.level for alarm in tracker.alarms()]


@pytest.mark.power
@pytest.mark.parametrize("users", [(7, 8), (7, 7, 7, 8), (7, None), (None, None)])
def test_two_users_who_may_meet_are_a_warning(users: Sequence[int | None]) -> None:
    """Also where the first two requests were of one user; who is unknown is another."""
    assert levels_of(users) == ["warning"]


def test_one_user_who_may_meet_itself_is_a_note() -> None:
    """It loses an update of its own, if anything."""
    assert levels_of((7, 7, 7)) == ["note"]


CASES = [
    (updates, "read await write"),
    (updates, "two short sections"),
    (updates, "check then add"),
    (placeholders, "attribute of a service"),
    (placeholders, "global"),
]


@pytest.mark.power
@pytest.mark.parametrize(("module", "name"), CASES)
def test_sequential_users_are_warned_of(
    module: Any, name: str
) -> None:  # a module with pairs
    """Nothing has happened: a warning of the rule that would be, or of a stale check."""
    alarms = alarms_of(module, name, "vulnerable")

    assert {alarm.level for alarm in alarms} == {"warning"}
    foretold = {module.PAIRS[name].rule, "shared-check-stale"}
    assert foretold & {alarm.rule for alarm in alarms}
    assert all(alarm.claim.startswith("It could happen that ") for alarm in alarms)


@pytest.mark.parametrize(
    ("module", "name"), [*CASES, (handovers, "lazy pool"), (handovers, "token refresh")]
)
def test_sequential_users_of_safe_twin_are_quiet(
    module: Any, name: str
) -> None:  # a module with pairs
    """Locks that both hold throughout, and single steps, leave no window."""
    assert alarms_of(module, name, "safe") == []


async def crowd(
    pair: Any, twin: str, arrive: Callable[[], AsyncIterator[int]]
) -> None:  # a pair of another import
    """Let users overlap who would not meet by themselves."""
    shared = await one_by_one(pair, twin)
    visit = getattr(pair, twin)
    await asyncio.gather(
        *[asyncio.ensure_future(visit(shared, user)) async for user in arrive()]
    )


async def far_apart() -> AsyncIterator[int]:
    """Each comes when the one before would long be gone, were it not held."""
    for user in (4, 5):
        yield user
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.mark.power
def test_trial_makes_what_was_foretold_happen() -> None:
    """A task that is held at the named await meets the next user: now it is an error."""
    module, name = updates, "read await write"
    with tracked(PACKAGE, module.__name__, hold_s=HOLD_S) as (tracker, (loaded,)):
        asyncio.run(crowd(loaded.PAIRS[name], "vulnerable", far_apart))
        alarms = tracker.alarms()

    assert [(alarm.level, alarm.rule) for alarm in alarms] == [
        ("error", "shared-update-lost")
    ]


def test_without_trials_nobody_is_held() -> None:
    """With ``hold_s=0`` the same users do not meet, and it stays a warning."""
    module, name = updates, "read await write"
    with tracked(PACKAGE, module.__name__, hold_s=0) as (tracker, (loaded,)):
        asyncio.run(crowd(loaded.PAIRS[name], "vulnerable", far_apart))
        alarms = tracker.alarms()

    assert [alarm.level for alarm in alarms] == ["warning"]


def test_failed_trials_are_told() -> None:
    """What nobody contradicts stays a warning that says how often it was tried."""
    module, name = updates, "read await write"
    with tracked(PACKAGE, module.__name__, hold_s=0.001) as (tracker, (loaded,)):

        async def once_more() -> None:
            shared = await one_by_one(loaded.PAIRS[name], "vulnerable")
            await loaded.PAIRS[name].vulnerable(shared, 4)

        asyncio.run(once_more())
        (alarm,) = tracker.alarms()

    assert alarm.level == "warning"
    assert "Tasks were held 2 times at that await" in alarm.evidence[-1]
