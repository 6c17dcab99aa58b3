"""Atomic cells of tasks, threads and processes: sound ones pass, twins are caught.

A twin is missed by at most 1 of 20 seeds (measured: docs/battery.md), so that all of
five miss it happens once in three million runs at most.
"""

import asyncio
import sys
from typing import Any, cast

import pytest

from test_framework.battery import (
    AtomicRaceTest,
    RaceFailure,
    RaceTestConfig,
    WorkerKind,
)
from test_framework.battery.cells import AsyncioCell, Cell, ProcessCell, ThreadCell
from test_framework.core import UsageError, Verdict
from tests.unit.battery import cell_twins as twins

SEEDS = 3
ATTEMPTS = 5
BLOCKS = [range(at, at + 25) for at in range(0, 100, 25)]
"""A hundred seeds, in parts that several processes can share."""
QUIET_S = 1.0
"""A twin that hangs is given up after it; a sound cell has more time."""

SOUND: list[tuple[WorkerKind, type[Cell]]] = [
    ("task", AsyncioCell),
    ("thread", ThreadCell),
    ("process", ProcessCell),
]

TWINS: list[tuple[WorkerKind, type[Cell], str, str]] = [
    ("task", twins.TaskLostUpdate, "increments", "lost update"),
    ("task", twins.TaskDuplicateTicket, "increments", "duplicate ticket"),
    ("task", twins.TaskOverCount, "increments", "over-count"),
    ("task", twins.TaskStaleRead, "mixed", "non-linearizable"),
    ("task", twins.TaskTornSwap, "swaps", "lost update"),
    ("task", twins.TaskCancelledTwice, "cancellations", "over-count"),
    ("task", twins.TaskCancelledLock, "cancellations", "lock-held-at-end"),
    ("thread", twins.ThreadLostUpdate, "increments", "lost update"),
    ("thread", twins.ThreadDuplicateTicket, "increments", "duplicate ticket"),
    ("thread", twins.ThreadOverCount, "increments", "over-count"),
    ("thread", twins.ThreadStaleRead, "swaps", "non-linearizable"),
    ("thread", twins.ThreadTornSwap, "swaps", "lost update"),
    ("process", twins.ProcessLostUpdate, "increments", "lost update"),
    ("process", twins.ProcessDuplicateTicket, "increments", "duplicate ticket"),
    ("process", twins.ProcessOverCount, "increments", "over-count"),
    ("process", twins.ProcessStaleRead, "mixed", "non-linearizable"),
    ("process", twins.ProcessTornSwap, "swaps", "lost update"),
]


def config(kind: WorkerKind, seed: int, *, quiet_s: float = 5.0) -> RaceTestConfig:
    """Return a small run; how often it finds each twin is what was measured."""
    return RaceTestConfig(
        kind=kind, workers=4, iterations=100, seed=seed, quiet_s=quiet_s
    )


@pytest.mark.parametrize(("kind", "cell"), SOUND)
async def test_sound_cell_is_valid(kind: WorkerKind, cell: type[Cell]) -> None:
    """No seed finds anything wrong with a cell that is right."""
    # Starting processes is what takes long.
    for seed in range(1 if kind == "process" else SEEDS):
        report = await AtomicRaceTest(cell).run(config(kind, seed))

        assert report.verdict is Verdict.VALID


@pytest.mark.long
@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("seeds", BLOCKS, ids=str)
@pytest.mark.parametrize(("kind", "cell"), SOUND)
async def test_sound_cell_is_valid_over_100_seeds(
    kind: WorkerKind, cell: type[Cell], seeds: range
) -> None:
    """The same for each of a hundred seeds: ``run`` raises what is not valid."""
    for seed in seeds:
        await AtomicRaceTest(cell).run(config(kind, seed))


@pytest.mark.power
@pytest.mark.parametrize(("kind", "cell", "scenario", "anomaly"), TWINS)
async def test_twin_is_caught(
    kind: WorkerKind, cell: type[Cell], scenario: str, anomaly: str
) -> None:
    """Each wrong cell is told by the name of what it does wrong."""
    found: set[str] = set()
    for seed in range(ATTEMPTS):
        report = await AtomicRaceTest(cell).check(
            config(kind, seed, quiet_s=QUIET_S), scenarios=[scenario]
        )
        found |= {one.name for one in report.anomalies}
        if anomaly in found:
            break

    assert anomaly in found


@pytest.mark.long
@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("seeds", BLOCKS, ids=str)
@pytest.mark.power
@pytest.mark.parametrize(("kind", "cell", "scenario", "anomaly"), TWINS)
async def test_twin_is_caught_by_most_seeds(
    kind: WorkerKind, cell: type[Cell], scenario: str, anomaly: str, seeds: range
) -> None:
    """At least 20 of 25 seeds catch it; docs/battery.md says how many of 100 did."""
    caught = 0
    for seed in seeds:
        report = await AtomicRaceTest(cell).check(
            config(kind, seed, quiet_s=QUIET_S), scenarios=[scenario]
        )
        caught += anomaly in {one.name for one in report.anomalies}

    print(f"{cell.__name__}: {caught} of {len(seeds)} seeds")  # noqa: T201  # the measurement
    assert caught >= 20


async def test_lost_history_is_no_anomaly() -> None:
    """What a dead worker did is missing everywhere: that proves nothing of the cell."""
    report = await AtomicRaceTest(twins.ProcessCrash).check(
        config("process", 1), scenarios=["increments"]
    )

    assert not report.runs[0].is_complete
    assert report.verdict is Verdict.UNKNOWN


async def test_own_cell_takes_five_lines() -> None:
    """A cell of a user gets the whole suite; what it lacks is named, not passed."""

    class Mine:
        value = 0

        def get(self) -> int:
            return self.value

        def increment(self) -> int:
            value = self.value + 1
            self.value = value
            return value

    with pytest.raises(AssertionError, match="lost update") as caught:
        await AtomicRaceTest(Mine).run(config("thread", 1))  # type: ignore[arg-type]  # it lacks two methods

    assert "Mine: invalid" in str(caught.value)
    assert "not tested: swaps: it has no compare_and_swap" in str(caught.value)
    assert isinstance(caught.value, RaceFailure)
    assert caught.value.report.verdict is Verdict.INVALID


async def test_witness_names_the_calls() -> None:
    """A duplicate ticket is shown as the two calls that got it, with their times."""
    report = await AtomicRaceTest(twins.TaskLostUpdate).check(
        config("task", 1), scenarios=["increments"]
    )

    (duplicate,) = [one for one in report.anomalies if one.name == "duplicate ticket"]
    one, other = duplicate.items
    assert one.lane != other.lane
    assert one.text.rpartition("-> ")[2] == other.text.rpartition("-> ")[2]
    assert f"T1 [0.0 .. {((one.end or 0) - one.begin) / 1000:,.1f} us]" in str(report)


async def test_order_is_judged_unless_turned_off() -> None:
    """Without ordering checks, a stale read is no matter; with them it is."""
    cell = AtomicRaceTest(twins.TaskStaleRead)
    off = RaceTestConfig(workers=4, iterations=100, seed=1, check_ordering=False)

    without = await cell.check(off, scenarios=["mixed"])
    judged = await cell.check(config("task", 1), scenarios=["mixed"])

    assert without.verdict is Verdict.VALID
    assert judged.verdict is Verdict.INVALID


async def test_cell_that_exits_is_an_error_of_its_worker() -> None:
    """It does not end the test run, not even from a task that is cancelled."""

    class Exiting:
        async def get(self) -> int:
            return 0

        async def increment(self) -> int:
            await asyncio.sleep(0)
            sys.exit(3)

    report = await AtomicRaceTest(cast("Any", Exiting)).check(
        RaceTestConfig(workers=2, iterations=4, cancellations=0.5)
    )

    assert report.verdict is Verdict.INVALID
    assert "increment called sys.exit(3)" in str(report)
    assert "  increments: 2 task workers x 4 turns" in str(report)
    assert "  cancellations: 2 task workers x 4 turns" in str(report)


async def test_cell_of_tasks_that_never_awaits_is_unknown() -> None:
    """Nothing can come between in a task: a green run would be a lie."""
    report = await AtomicRaceTest(ThreadCell).check(config("task", 1))

    assert report.verdict is Verdict.UNKNOWN
    assert 'use kind="thread"' in str(report)


@pytest.mark.parametrize(
    ("make", "scenarios", "said"),
    [
        (AsyncioCell(), None, "cannot be called"),
        (AsyncioCell, ["swop"], "'swop' is no scenario of AtomicRaceTest"),
        (object, None, "there is nothing to test"),
    ],
)
async def test_wrong_use_is_a_usage_error(
    make: type[Cell], scenarios: list[str] | None, said: str
) -> None:
    """What cannot be tested is said in a sentence."""
    with pytest.raises(UsageError, match=said):
        await AtomicRaceTest(make).run(config("task", 1), scenarios=scenarios)


class Silent:
    """Increments, and tells nobody to what."""

    def __init__(self, value: int = 0) -> None:
        self.value = value

    async def get(self) -> int:
        """Return the value."""
        return self.value

    async def increment(self) -> None:
        """Add one."""
        await asyncio.sleep(0)
        self.value += 1


class Wired(Silent):
    """Each worker has a connection of its own, made the wrong way."""

    async def connect(self) -> "Wired":
        """Return a connection, where a context manager is due."""
        return self


def needs_a_value(value: int) -> Silent:
    """Make a cell, but of what?"""
    return Silent(value)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Silent, r"increment\(\) returned None \(NoneType\). It must return the new"),
        (Wired, r"connect\(\) of Wired returned a coroutine. It must return an async"),
        (needs_a_value, r"needs_a_value\(\) cannot be called without arguments"),
    ],
)
async def test_mistake_of_an_own_cell_is_one_sentence(make: Any, words: str) -> None:  # noqa: ANN401  # wrong on purpose
    """What a cell lacks is said with its name, and is no verdict."""
    with pytest.raises(UsageError, match=words):
        await AtomicRaceTest(make).check(
            RaceTestConfig(kind="task", workers=2, iterations=5, seed=1)
        )
