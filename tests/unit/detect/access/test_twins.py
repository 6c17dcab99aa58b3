"""Each defect is named by its rule, and its mend is left alone."""

import asyncio
import linecache
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import uvloop

from test_framework.core import AlarmRecord
from tests.unit.detect.access.tracked import tracked
from tests.unit.detect.access.twins import (
    containers,
    contents,
    evidence,
    handovers,
    parts,
    placeholders,
    updates,
)
from tests.unit.detect.access.twins.pair import Pair

PACKAGE = "tests.unit.detect.access.twins"
MODULES: tuple[ModuleType, ...] = (
    updates,
    evidence,
    placeholders,
    containers,
    handovers,
    parts,
    contents,
)
USERS = 3
NAMED = [
    pytest.param(module.__name__, name, id=name)
    for module in MODULES
    for name in module.PAIRS
]


def visit_all(
    pair: "Pair", twin: str, loop: Callable[[], asyncio.AbstractEventLoop] | None = None
) -> None:
    """Let three users visit a twin at once."""
    visit = getattr(pair, twin)

    async def all_users() -> None:
        shared = pair.make()
        await asyncio.gather(*(visit(shared, user) for user in range(1, USERS + 1)))

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(all_users())


def run(module: str, name: str, twin: str) -> list[AlarmRecord]:
    """Let three users visit a twin at once; return the alarms."""
    with tracked(PACKAGE, module) as (tracker, (loaded,)):
        visit_all(loaded.PAIRS[name], twin)
        return tracker.alarms()


@pytest.mark.power
@pytest.mark.parametrize(("module", "name"), NAMED)
def test_vulnerable_twin_is_caught(module: str, name: str) -> None:
    """The first error names the rule and a line of the twin."""
    alarms = run(module, name, "vulnerable")

    errors = [alarm for alarm in alarms if alarm.level == "error"]
    assert [alarm.rule for alarm in errors[:1]] == [
        next(one for one in MODULES if one.__name__ == module).PAIRS[name].rule
    ]
    path, _, line = errors[0].site.rpartition(":")
    assert linecache.getline(str(Path(path).resolve()), int(line)).strip()


@pytest.mark.parametrize(("module", "name"), NAMED)
def test_safe_twin_is_left_alone(module: str, name: str) -> None:
    """There is no error and no warning."""
    alarms = run(module, name, "safe")

    assert [alarm for alarm in alarms if alarm.level != "note"] == []


@pytest.mark.parametrize("visit", [visit.__name__ for visit in evidence.OUTLIVED])
def test_check_that_is_outlived_is_no_error(visit: str) -> None:
    """Nothing was lost; that the check is of before the await is told in its words."""
    with tracked(PACKAGE, evidence.__name__) as (tracker, (loaded,)):
        pair = Pair(loaded.Shop, getattr(loaded, visit), getattr(loaded, visit), "")
        visit_all(pair, "safe")
        alarms = tracker.alarms()

    assert {(alarm.rule, alarm.level) for alarm in alarms} == {
        ("shared-check-stale", "warning")
    }


def eager_loop() -> asyncio.AbstractEventLoop:
    """Return a loop whose tasks begin where they are made (Python 3.12)."""
    loop = asyncio.new_event_loop()
    loop.set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009  # not in 3.11
    return loop


@pytest.mark.power
@pytest.mark.parametrize(
    "loop",
    [
        pytest.param(uvloop.new_event_loop, id="uvloop"),
        pytest.param(
            eager_loop,
            id="eager tasks",
            marks=pytest.mark.skipif(
                sys.version_info < (3, 12), reason="eager tasks came with Python 3.12"
            ),
        ),
    ],
)
def test_other_loops_change_nothing(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """On uvloop and with eager tasks each twin is judged as on the loop of asyncio."""
    judged = {}
    with tracked(PACKAGE, *(module.__name__ for module in MODULES)) as (
        tracker,
        modules,
    ):
        for twin, name, pair in twins(modules):
            visit_all(pair, twin, loop)
            errors = [alarm for alarm in tracker.alarms() if alarm.level == "error"]
            judged[twin, name] = [alarm.rule for alarm in errors][:1]
            # Some twins are told by lines that are in several.
            tracker._ledger.judge.found.clear()

    assert judged == {
        (twin, name): [pair.rule] if twin == "vulnerable" else []
        for twin, name, pair in twins(MODULES)
    }


def twins(modules: Iterable[ModuleType]) -> Iterator[tuple[str, str, "Pair"]]:
    """Yield which twin, the name of its pair, and the pair."""
    for module in modules:
        for name, pair in module.PAIRS.items():
            yield "vulnerable", name, pair
            yield "safe", name, pair
