"""Detectors around async tests, in pytest runs of their own."""

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PROJECT = """
[tool.pytest.ini_options]
asyncio_mode = "auto"
asyncio_default_fixture_loop_scope = "function"
"""

DEADLOCK = """
import asyncio
import pytest

{mark}
async def test_transfer():
    a, b = asyncio.Lock(), asyncio.Lock()

    async def move(first, second):
        async with first:
            await asyncio.sleep(0)
            async with second:
                pass

    async with asyncio.timeout({limit_s}), asyncio.TaskGroup() as group:
        group.create_task(move(a, b), name="pay")
        group.create_task(move({order}), name="refund")
"""

INVERSION = """
import asyncio

async def test_in_turn():
    a, b = asyncio.Lock(), asyncio.Lock()
    async with a:
        async with b:
            pass
    async with {first}:
        async with {second}:
            pass
"""


def run(pytester: pytest.Pytester, body: str, *arguments: str) -> pytest.RunResult:
    """Run one test file in a process of its own."""
    pytester.makefile(".toml", pyproject=PROJECT)
    pytester.makepyfile(body)
    return pytester.runpytest_subprocess("-q", *arguments, timeout=60)


def deadlock(*, mark: str = "", limit_s: float = 300, order: str = "b, a") -> str:
    """Return a test whose tasks take two locks."""
    return DEADLOCK.format(mark=mark, limit_s=limit_s, order=order)


def test_deadlocked_test_is_ended_and_told(pytester: pytest.Pytester) -> None:
    """A test that would hang for five minutes fails in seconds, with both parties."""
    result = run(pytester, deadlock())

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["deadlock: tasks '*', '*' wait for each other*", "*holds Lock*waits for*"]
    )


def test_deadlock_that_a_timeout_breaks_is_told_too(pytester: pytest.Pytester) -> None:
    """The test fails of its timeout, and says of which circle."""
    result = run(pytester, deadlock(limit_s=0.2))

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*TimeoutError*", "*wait for each other*"])


def test_locks_in_one_order_pass(pytester: pytest.Pytester) -> None:
    """The mended sibling is left alone."""
    run(pytester, deadlock(order="a, b")).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("mark", "arguments"),
    [("@pytest.mark.detect()", ()), ("", ("--detect=none",))],
    ids=["marker", "option"],
)
def test_detectors_can_be_turned_off(
    pytester: pytest.Pytester, mark: str, arguments: tuple[str, ...]
) -> None:
    """Who wants none says so, and the test fails by itself alone."""
    result = run(pytester, deadlock(mark=mark, limit_s=0.2), *arguments)

    result.assert_outcomes(failed=1)
    result.stdout.no_fnmatch_line("*wait for each other*")


def test_order_that_could_deadlock_is_a_warning(pytester: pytest.Pytester) -> None:
    """One task in turn never hangs; that two would is told in the summary."""
    result = run(pytester, INVERSION.format(first="b", second="a"))

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*isolation-audit warnings*", "lock-order*"])


def test_one_order_warns_of_nothing(pytester: pytest.Pytester) -> None:
    """The mended sibling has no summary."""
    result = run(pytester, INVERSION.format(first="a", second="b"))

    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*isolation-audit warnings*")


def test_unknown_detector_fails_with_a_sentence(pytester: pytest.Pytester) -> None:
    """A misspelt name would leave the test unwatched."""
    result = run(pytester, deadlock(order="a, b"), "--detect=lokcs")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*'lokcs' is no detector*"])
