"""Litmus tests on Redis and Postgres: each level allows what it is known for.

A twin is missed by at most 1 of 10 seeds (measured: docs/battery.md), so that all of
three miss it happens once in 1,000 runs at most.
"""

from collections.abc import Callable
from typing import Any

import pytest

from test_framework.battery import OrderingRaceTest, OrderingReport, RaceTestConfig
from test_framework.battery.registers import (
    PostgresRegisters,
    RedisMultiRegisters,
    RedisRegisters,
)
from test_framework.battery.registers.postgres import Level
from test_framework.core import TargetError, Verdict
from tests.integration.battery import server_register_twins as twins

# Two writers that lock two rows crosswise are one of the litmus tests.
pytestmark = [pytest.mark.integration, pytest.mark.detect()]

SEEDS = 3

LEVELS: tuple[Level, ...] = ("read committed", "repeatable read", "serializable")

TWINS = [
    (twins.RedisReplica, "CoRR", "stale read"),
    (twins.RedisUnwrapped, "MP", "forbidden outcome"),
    (twins.PostgresAutocommit, "MR", "forbidden outcome"),
    (twins.PostgresNotRepeatable, "MP", "forbidden outcome"),
    (twins.PostgresSkewed, "SB", "forbidden outcome"),
    (twins.PostgresCached, "CoRR", "stale read"),
]


@pytest.fixture
def conformance(database_url: str, redis_url: str) -> Callable[..., OrderingRaceTest]:
    """Return what makes the tests of registers on the service that they need."""

    def conformance(registers: type, *tests: str) -> OrderingRaceTest:
        url = redis_url if issubclass(registers, RedisRegisters) else database_url
        make: Callable[[str], Any] = registers
        return OrderingRaceTest(
            lambda: make(url), name=registers.__name__, tests=tests or None
        )

    return conformance


def config(seed: int, iterations: int = 30) -> RaceTestConfig:
    """Return a small run; how often it finds each twin is what was measured."""
    return RaceTestConfig(iterations=iterations, seed=seed)


@pytest.mark.parametrize("registers", [RedisRegisters, RedisMultiRegisters])
async def test_redis_shows_nothing_that_is_forbidden(
    registers: type, conformance: Callable[..., OrderingRaceTest]
) -> None:
    """Commands are atomic, and so are batches between MULTI and EXEC."""
    report = await conformance(registers).run(config(1, iterations=6))

    assert report.verdict is Verdict.VALID


@pytest.mark.parametrize("level", LEVELS)
async def test_postgres_shows_nothing_that_its_level_forbids(
    level: Level, database_url: str
) -> None:
    """At every isolation level, all litmus tests."""
    test = OrderingRaceTest(lambda: PostgresRegisters(database_url, level), name=level)

    report = await test.run(config(1, iterations=4))

    assert report.verdict is Verdict.VALID


async def seen(level: Level, database_url: str, *tests: str) -> OrderingReport:
    """Return what a level showed in a few litmus tests."""
    test = OrderingRaceTest(lambda: PostgresRegisters(database_url, level), tests=tests)
    return await test.run(config(2, iterations=60))


async def test_levels_of_postgres_show_what_they_are_known_for(
    database_url: str,
) -> None:
    """Torn reads at READ COMMITTED, write skew below SERIALIZABLE, and neither there.

    30 executions drive orders of 20 at random without repeating, so all 20 come.
    """
    by_level = {level: await seen(level, database_url, "SB", "MP") for level in LEVELS}

    skew = {level: report.tables[0].seen[0, 0] for level, report in by_level.items()}
    torn = {level: report.tables[1].seen[0, 1] for level, report in by_level.items()}
    assert skew["read committed"] > 0
    assert skew["repeatable read"] > 0
    assert skew["serializable"] == 0
    assert torn["read committed"] > 0
    assert torn["repeatable read"] == torn["serializable"] == 0


@pytest.mark.long
@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("registers", [RedisRegisters, RedisMultiRegisters])
async def test_redis_is_valid_over_100_seeds(
    registers: type, conformance: Callable[..., OrderingRaceTest]
) -> None:
    """The same for each of a hundred seeds: ``run`` raises what is not valid."""
    for seed in range(100):
        await conformance(registers).run(config(seed, iterations=12))


@pytest.mark.long
@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("level", LEVELS)
async def test_postgres_is_valid_over_100_seeds(
    level: Level, database_url: str
) -> None:
    """The same for each of a hundred seeds: ``run`` raises what is not valid."""
    test = OrderingRaceTest(lambda: PostgresRegisters(database_url, level), name=level)
    for seed in range(100):
        await test.run(config(seed, iterations=12))


@pytest.mark.power
@pytest.mark.parametrize(("registers", "test", "anomaly"), TWINS)
async def test_register_twin_of_server_is_caught(
    registers: type,
    test: str,
    anomaly: str,
    conformance: Callable[..., OrderingRaceTest],
) -> None:
    """Wrong registers are told by a litmus test and the name of what they show."""
    found: set[str] = set()
    for seed in range(SEEDS):
        report = await conformance(registers, test).check(config(seed))
        found |= {one.name for one in report.anomalies}
        if anomaly in found:
            break

    assert anomaly in found


@pytest.mark.long
@pytest.mark.usefixtures("patient")
@pytest.mark.power
@pytest.mark.parametrize(("registers", "test", "anomaly"), TWINS)
async def test_register_twin_of_server_is_caught_by_most_seeds(
    registers: type,
    test: str,
    anomaly: str,
    conformance: Callable[..., OrderingRaceTest],
) -> None:
    """At least 80 of 100 seeds catch it; docs/battery.md says how many did."""
    caught = 0
    for seed in range(100):
        report = await conformance(registers, test).check(config(seed))
        caught += anomaly in {one.name for one in report.anomalies}

    print(f"{registers.__name__}: {caught} of 100 seeds")  # noqa: T201  # the measurement
    assert caught >= 80


@pytest.mark.parametrize(
    "registers",
    [
        RedisRegisters("redis://127.0.0.1:1/0"),
        PostgresRegisters("postgresql://127.0.0.1:1/none"),
    ],
)
async def test_registers_of_service_that_is_down_say_so(registers: Any) -> None:  # noqa: ANN401  # either
    """Nobody listens there: it is told, and what to do."""
    with pytest.raises(TargetError, match="does not answer"):
        await OrderingRaceTest(lambda: registers).check(config(1))
