"""The suites as people use them: a class with one line in a file of tests."""

from pathlib import Path
from typing import Any

import pytest

# Imported here, numpy is not dropped with what a run of pytest inside of this one imports.
from test_framework.battery import RaceFailure

pytestmark = pytest.mark.slow

_FILE = """
import threading
from test_framework.battery import RaceTestConfig
from test_framework.battery.suites import AtomicRaceSuite, MutexRaceSuite

CONFIG = RaceTestConfig(kind="thread", workers=4, iterations=50, seed=1)


class Racy:
    value = 0

    def get(self):
        return self.value

    def increment(self):
        value = self.value + 1
        self.value = value
        return value


class TestRacy(AtomicRaceSuite):
    config = CONFIG
    make = Racy


class TestLock(MutexRaceSuite):
    config = CONFIG

    def make(self):
        return threading.Lock()


class TestNothing(MutexRaceSuite):
    config = CONFIG
    make = dict
"""


def test_suite_tests_what_is_made(pytester: pytest.Pytester) -> None:
    """What is wrong fails, what is not offered is skipped, what offers nothing fails."""
    pytester.makepyfile(_FILE)

    done = pytester.runpytest(
        "-rA", "-o", "asyncio_default_fixture_loop_scope=function"
    )

    summary = [
        line.partition("::")
        for line in done.outlines
        if line.startswith(("PASSED", "FAILED"))
    ]
    outcomes = {
        name.split(" ")[0]: outcome.split(" ")[0] for outcome, _, name in summary
    }
    assert outcomes == {
        "TestRacy::test_cell_conforms[increments]": "FAILED",
        "TestRacy::test_cell_offers_something": "PASSED",
        "TestLock::test_lock_conforms[exclusion]": "PASSED",
        "TestLock::test_lock_conforms[rounds]": "PASSED",
        "TestLock::test_lock_offers_something": "PASSED",
        "TestNothing::test_lock_offers_something": "FAILED",
    }
    done.stdout.fnmatch_lines(["*TestRacy: invalid*", "*lost update: *"])
    done.stdout.fnmatch_lines(["*SKIPPED*what does not await cannot be cancelled*"])


async def test_first_example_of_the_docs_is_caught() -> None:
    """docs/battery.md opens with a cell that fails as the page says."""
    page = Path(__file__).parents[3] / "docs" / "battery.md"
    code = page.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102  # the page's own program

    with pytest.raises(RaceFailure, match="lost update: 800 increments returned"):
        await names["test_my_cell"]()
