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

HOPELESS = """
import asyncio

async def two_await_each_other():
    tasks = []

    async def wait_for(number):
        await asyncio.sleep(0)
        await tasks[number]

    tasks += [asyncio.create_task(wait_for(1)), asyncio.create_task(wait_for(0))]
    await asyncio.gather(*tasks)

async def queue_is_never_done():
    queue = asyncio.Queue()
    queue.put_nowait(1)
    await queue.get()
    await queue.join()

async def event_is_never_set():
    await asyncio.Event().wait()

async def future_is_never_done():
    await asyncio.get_running_loop().create_future()

async def barrier_is_one_short():
    await asyncio.Barrier(2).wait()

async def thread_sets_it_late():
    loop, event = asyncio.get_running_loop(), asyncio.Event()

    def work():
        import time
        time.sleep(4)

    await asyncio.to_thread(work)

async def timer_sets_it_late():
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(4, event.set)
    await event.wait()

async def test_it():
    await {name}()
"""

INVERSION = """
import asyncio

async def test_in_turn():
    a, b = asyncio.Lock(), asyncio.Lock()

    async def take(first, second):
        async with first, second:
            pass

    await asyncio.create_task(take(a, b))
    await asyncio.create_task(take({first}, {second}))
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
        [
            "deadlock: task '*' and task '*' wait for each other*",
            "*holds Lock*waits for*",
        ]
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
    "name",
    [
        "two_await_each_other",
        "event_is_never_set",
        pytest.param("queue_is_never_done", marks=pytest.mark.long),
        pytest.param("future_is_never_done", marks=pytest.mark.long),
        pytest.param("barrier_is_one_short", marks=pytest.mark.long),
    ],
)
def test_test_that_nobody_can_end_is_ended(
    pytester: pytest.Pytester, name: str
) -> None:
    """Where no lock is held and nobody is left to go on, the wait is named."""
    result = run(pytester, HOPELESS.replace("{name}", name))

    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines([r".*(nobody is left|never go on)", f".* in {name}"])


@pytest.mark.parametrize(
    "name",
    [
        "thread_sets_it_late",
        pytest.param("timer_sets_it_late", marks=pytest.mark.long),
    ],
)
def test_long_wait_is_left_alone(pytester: pytest.Pytester, name: str) -> None:
    """What a thread or a timer will end is no stall, however long it takes."""
    run(pytester, HOPELESS.replace("{name}", name)).assert_outcomes(passed=1)


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


@pytest.mark.parametrize(
    ("mark", "arguments"),
    [('@pytest.mark.detect("access")', ()), ("", ("--detect=access",))],
)
def test_access_without_a_package_fails_with_a_sentence(
    pytester: pytest.Pytester, mark: str, arguments: tuple[str, ...]
) -> None:
    """Nothing would be followed, and a test that passes would promise it was."""
    result = run(pytester, deadlock(order="a, b", mark=mark), *arguments)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*Run pytest with --track PACKAGE.*"])


LEFT_BEHIND = """
import asyncio

async def test_work():
    task = asyncio.create_task(asyncio.sleep(60))
    await asyncio.sleep(0)
    {end}
"""


def test_task_left_behind_fails_under_leaks(pytester: pytest.Pytester) -> None:
    """With --detect leaks a task that outlives its test is named."""
    body = LEFT_BEHIND.format(end="")

    result = run(pytester, body, "--detect=locks,leaks")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*leaked-task*still runs*sleep*"])
    result.stdout.no_fnmatch_line("*checking.py*")


def test_task_that_is_ended_passes_under_leaks(pytester: pytest.Pytester) -> None:
    """The mended sibling is left alone."""
    body = LEFT_BEHIND.format(end="task.cancel()")

    run(pytester, body, "--detect=locks,leaks").assert_outcomes(passed=1)


SHOP = """
import asyncio

class Shop:
    def __init__(self):
        self.stock = 10
        self.lock = asyncio.Lock()

    async def buy(self):
        {lock}:
            left = self.stock
            await asyncio.sleep(0)
            self.stock = left - 1
"""

BUYING = """
import asyncio
from shop import Shop

async def test_two_buy():
    shop = Shop()
    await asyncio.gather(shop.buy(), shop.buy())

async def test_one_buys():
    await Shop().buy()
"""


def test_lost_update_fails_the_test_that_made_it(pytester: pytest.Pytester) -> None:
    """With --track PACKAGE the line is named, though no assertion looks."""
    pytester.makepyfile(shop=SHOP.format(lock="if True"))

    result = run(pytester, BUYING, "--track=shop", "-p", "no:cacheprovider")

    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["shared-update-lost*", "*at shop.py:*"])


def test_locked_update_passes_under_track(pytester: pytest.Pytester) -> None:
    """The mended sibling is left alone."""
    pytester.makepyfile(shop=SHOP.format(lock="async with self.lock"))

    run(pytester, BUYING, "--track=shop").assert_outcomes(passed=2)


def test_unknown_package_is_refused(pytester: pytest.Pytester) -> None:
    """A misspelt package would leave the tests unwatched."""
    result = run(pytester, BUYING, "--track=shpo")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*shpo*"])
