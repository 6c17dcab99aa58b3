"""Atomic cells in Redis and Postgres: sound ones pass, twins are caught.

A twin is missed by at most 1 of 20 seeds (measured: docs/battery.md), so that all of
five miss it happens once in three million runs at most.
"""

import pytest

from test_framework.battery import AtomicRaceTest, RaceTestConfig, WorkerKind
from test_framework.battery.cells import (
    PostgresCell,
    PostgresLockedCell,
    PostgresSerializableCell,
    PostgresVersionedCell,
    RedisCell,
    RedisScriptCell,
    RedisWatchCell,
)
from test_framework.core import TargetError, Verdict
from tests.integration.battery import server_cell_twins as twins

pytestmark = pytest.mark.integration

ATTEMPTS = 5
BLOCKS = [range(at, at + 25) for at in range(0, 100, 25)]
"""A hundred seeds, in parts that several processes can share."""
WORKERS = 4
TURNS = 12

ServerCell = type[RedisCell] | type[PostgresCell]

SOUND: list[ServerCell] = [
    RedisCell,
    RedisScriptCell,
    RedisWatchCell,
    PostgresCell,
    PostgresVersionedCell,
    PostgresLockedCell,
    PostgresSerializableCell,
]

TWINS: list[tuple[ServerCell, str, str]] = [
    (twins.RedisLostUpdate, "increments", "lost update"),
    (twins.RedisDuplicateTicket, "increments", "duplicate ticket"),
    (twins.RedisOverCount, "increments", "over-count"),
    (twins.RedisStaleRead, "mixed", "non-linearizable"),
    (twins.RedisTornSwap, "swaps", "lost update"),
    (twins.PostgresLostUpdate, "increments", "lost update"),
    (twins.PostgresDuplicateTicket, "increments", "duplicate ticket"),
    (twins.PostgresOverCount, "increments", "over-count"),
    (twins.PostgresStaleRead, "mixed", "non-linearizable"),
    (twins.PostgresTornSwap, "swaps", "lost update"),
    (twins.PostgresCancelledBegin, "cancellations", "lost update"),
]


def conformance(cell: ServerCell, database_url: str, redis_url: str) -> AtomicRaceTest:
    """Return the test of a cell on the service that it needs."""
    url = redis_url if issubclass(cell, RedisCell) else database_url

    def make() -> RedisCell | PostgresCell:
        return cell(url)

    return AtomicRaceTest(make, name=cell.__name__)


def config(seed: int, kind: WorkerKind = "task") -> RaceTestConfig:
    """Return a small run; how often it finds each twin is what was measured."""
    return RaceTestConfig(kind=kind, workers=WORKERS, iterations=TURNS, seed=seed)


@pytest.mark.parametrize("cell", SOUND)
async def test_sound_cell_of_server_is_valid(
    cell: ServerCell, database_url: str, redis_url: str
) -> None:
    """Nothing is found wrong with a cell that is right."""
    report = await conformance(cell, database_url, redis_url).run(config(1))

    assert report.verdict is Verdict.VALID


@pytest.mark.parametrize("cell", [RedisCell, PostgresCell])
async def test_processes_share_cell_of_server(
    cell: ServerCell, database_url: str, redis_url: str
) -> None:
    """Workers that are processes connect by themselves and count together."""
    test = conformance(cell, database_url, redis_url)

    report = await test.run(config(1, "process"), scenarios=["increments"])

    assert report.verdict is Verdict.VALID
    assert report.runs[0].overlap.operations == WORKERS * TURNS


@pytest.mark.long
@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("seeds", BLOCKS, ids=str)
@pytest.mark.parametrize("cell", SOUND)
async def test_sound_cell_of_server_is_valid_over_100_seeds(
    cell: ServerCell, database_url: str, redis_url: str, seeds: range
) -> None:
    """The same for each of a hundred seeds: ``run`` raises what is not valid."""
    for seed in seeds:
        await conformance(cell, database_url, redis_url).run(config(seed))


@pytest.mark.power
@pytest.mark.parametrize(("cell", "scenario", "anomaly"), TWINS)
async def test_twin_of_server_cell_is_caught(
    cell: ServerCell, scenario: str, anomaly: str, database_url: str, redis_url: str
) -> None:
    """Each wrong cell is told by the name of what it does wrong."""
    found: set[str] = set()
    for seed in range(ATTEMPTS):
        report = await conformance(cell, database_url, redis_url).check(
            config(seed), scenarios=[scenario]
        )
        found |= {one.name for one in report.anomalies}
        if anomaly in found:
            break

    assert anomaly in found


@pytest.mark.long
@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("seeds", BLOCKS, ids=str)
@pytest.mark.power
@pytest.mark.parametrize(("cell", "scenario", "anomaly"), TWINS)
async def test_twin_of_server_cell_is_caught_by_most_seeds(
    cell: ServerCell,
    scenario: str,
    anomaly: str,
    database_url: str,
    redis_url: str,
    seeds: range,
) -> None:
    """At least 20 of 25 seeds catch it; docs/battery.md says how many of 100 did."""
    caught = 0
    for seed in seeds:
        report = await conformance(cell, database_url, redis_url).check(
            config(seed), scenarios=[scenario]
        )
        caught += anomaly in {one.name for one in report.anomalies}

    print(f"{cell.__name__}: {caught} of {len(seeds)} seeds")  # noqa: T201  # the measurement
    assert caught >= 20


async def test_server_that_is_down_is_told() -> None:
    """A service that nobody reaches is no matter of the cell, and told as such."""
    nowhere = "127.0.0.1:1/0"
    for cell, scheme in ((RedisCell, "redis"), (PostgresCell, "postgresql")):
        test = conformance(cell, f"{scheme}://{nowhere}", f"{scheme}://{nowhere}")

        with pytest.raises(TargetError, match="does not answer"):
            await test.check(config(1))
