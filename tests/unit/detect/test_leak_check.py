"""A block of a test that leaves something behind fails, and says what."""

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator

import pytest

from test_framework.canary import Mint, users_named
from test_framework.core import UsageError
from test_framework.detect.leaks import (
    LeakError,
    fit_trend,
    leak_check,
    measure_growth,
    open_files,
)
from tests.unit.detect import leaking_program as program

NAME = program.__name__
ALICE = Mint(8842).mint(7, 3)


@pytest.fixture(autouse=True)
def _clean_program() -> Iterator[None]:
    program.reset()
    yield
    program.reset()


async def wait_for_ever() -> None:
    """Wait for what never comes."""
    await asyncio.Event().wait()


@pytest.mark.power
async def test_a_task_left_behind_fails_the_block() -> None:
    """It says where the task waits."""
    with pytest.raises(LeakError, match="still runs wait_for_ever") as raised:
        async with leak_check(grace_s=0):
            task = asyncio.create_task(wait_for_ever())

    task.cancel()
    await asyncio.wait([task])
    (alarm,) = raised.value.alarms
    assert alarm.site.startswith("tests/unit/detect/test_leak_check.py:")


async def test_a_task_that_is_ending_has_a_grace() -> None:
    """What was cancelled as the block ended is awaited."""
    async with leak_check():
        task = asyncio.create_task(wait_for_ever())
        await asyncio.sleep(0)
        task.cancel()


@pytest.mark.power
async def test_a_file_left_open_fails_the_block() -> None:
    """A descriptor that was not there before is told by its folder."""
    with (
        contextlib.ExitStack() as stack,
        pytest.raises(LeakError, match="a file is still open") as raised,
    ):
        async with leak_check(grace_s=0):
            stack.enter_context(tempfile.TemporaryFile())

    assert raised.value.alarms[0].site == tempfile.gettempdir()


async def test_files_that_are_closed_leave_the_block_alone() -> None:
    """What was opened and closed inside is no leak, nor what was open before."""
    with tempfile.TemporaryFile():
        async with leak_check(grace_s=0):
            with tempfile.TemporaryFile():
                pass


@pytest.mark.power
async def test_data_left_behind_fails_the_block() -> None:
    """With a recogniser, memory is looked at as well."""
    with pytest.raises(LeakError, match="residue-of-departed"):
        async with leak_check(recognise=users_named, packages=[NAME], grace_s=0):
            program.MODULE_LIST.append(ALICE)


async def test_data_that_was_there_before_leaves_the_block_alone() -> None:
    """Only what the block added counts."""
    program.MODULE_LIST.append(ALICE)

    async with leak_check(recognise=users_named, packages=[NAME], grace_s=0):
        program.tidy(ALICE)


@pytest.mark.power
async def test_a_context_left_behind_fails_the_block() -> None:
    """A class that the user names must not outlive the block."""
    with pytest.raises(LeakError, match="context-kept-alive"):
        async with leak_check(classes=[f"{NAME}:Context"], packages=[NAME], grace_s=0):
            program.SERVICE.contexts.append(program.Context(""))


async def test_an_error_in_the_block_stays_what_it_was() -> None:
    """A block that failed is not blamed for what it left as well."""

    async def fail() -> None:
        async with leak_check(classes=[f"{NAME}:Context"], grace_s=0):
            program.SERVICE.contexts.append(program.Context(""))
            await asyncio.sleep(1 / 0)

    with pytest.raises(ZeroDivisionError):
        await fail()


def test_a_descriptor_has_a_kind() -> None:
    """Files are told by their folder, never by their name."""
    with tempfile.NamedTemporaryFile(prefix="secret") as file:
        (found,) = [one for one in open_files() if one.identity[0] == file.fileno()]

    assert (found.kind, found.place) == ("file", tempfile.gettempdir())


KEPT: list[bytes] = []


async def keep_a_little() -> None:
    """Keep something for each round."""
    KEPT.append(bytes(2000))
    await asyncio.sleep(0)


async def work_and_forget() -> None:
    """Allocate a lot and keep nothing; a bounded cache turns over."""
    KEPT[:] = [bytes(2000)]
    assert len([bytes(500) for _ in range(100)]) == 100
    await asyncio.sleep(0)


@pytest.mark.power
async def test_growth_is_told_with_the_line_that_allocates() -> None:
    """Each round keeps 2,000 bytes, and that is what the trend says."""
    growth = await measure_growth(keep_a_little)
    KEPT.clear()

    (alarm,) = growth.alarms()
    assert 2000 <= growth.trend.slope <= 2200
    assert alarm.rule == "memory-growth"
    assert alarm.site.startswith("tests/unit/detect/test_leak_check.py:")


async def test_work_that_keeps_nothing_does_not_grow() -> None:
    """A cache that turns over holds as much after each round."""
    growth = await measure_growth(work_and_forget)
    KEPT.clear()

    assert growth.alarms() == []
    assert abs(growth.trend.slope) < 100


def test_one_odd_round_does_not_bend_the_trend() -> None:
    """A table that doubled once is no growth; least squares would say 27 a round."""
    samples = [1000.0] * 11 + [2000.0]

    assert fit_trend(samples).slope == 0
    assert fit_trend([2000.0, *samples[:11]]).slope == 0


def test_a_steady_trend_has_a_narrow_interval() -> None:
    """Without noise the interval is the slope itself."""
    trend = fit_trend([100.0 * step for step in range(12)])

    assert (trend.low, trend.slope, trend.high) == (100, 100, 100)


def test_noise_without_trend_contains_zero() -> None:
    """The interval of samples that go up and down holds no growth."""
    trend = fit_trend([3.0, 9.0, 1.0, 7.0, 4.0, 8.0, 2.0, 6.0, 5.0, 3.0, 9.0, 1.0])

    assert trend.low < 0 < trend.high


@pytest.mark.parametrize(
    ("options", "message"),
    [({"rounds": 5}, "rounds=5"), ({"warm_up": 0}, "warm_up=0")],
)
async def test_too_few_rounds_are_refused(
    options: dict[str, int], message: str
) -> None:
    """A trend needs rounds."""
    with pytest.raises(UsageError, match=message):
        await measure_growth(work_and_forget, **options)


def test_one_sample_has_no_trend() -> None:
    """There is no slope through one point."""
    with pytest.raises(UsageError, match="at least two"):
        fit_trend([1.0])
