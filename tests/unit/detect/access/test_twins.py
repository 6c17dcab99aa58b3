"""Each defect is named by its rule, and its mend is left alone."""

import asyncio
import linecache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from test_framework.core import AlarmRecord
from tests.unit.detect.access.tracked import tracked
from tests.unit.detect.access.twins import (
    containers,
    handovers,
    placeholders,
    updates,
)

if TYPE_CHECKING:
    from tests.unit.detect.access.twins.pair import Pair

PACKAGE = "tests.unit.detect.access.twins"
MODULES: tuple[ModuleType, ...] = (updates, placeholders, containers, handovers)
USERS = 3
NAMED = [
    pytest.param(module.__name__, name, id=name)
    for module in MODULES
    for name in module.PAIRS
]


def run(module: str, name: str, twin: str) -> list[AlarmRecord]:
    """Let three users visit a twin at once; return the alarms."""
    with tracked(PACKAGE, module) as (tracker, (loaded,)):
        pair: Pair = loaded.PAIRS[name]
        visit = getattr(pair, twin)

        async def all_users() -> None:
            shared = pair.make()
            await asyncio.gather(*(visit(shared, user) for user in range(1, USERS + 1)))

        asyncio.run(all_users())
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
