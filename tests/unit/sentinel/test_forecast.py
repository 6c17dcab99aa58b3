"""Capacity is foretold where the rounds say enough, and refused where they do not."""

import math
import random

import pytest

from test_framework.sentinel.forecast import Forecast, Point, Refusal, foretell
from test_framework.sentinel.outlook import forecast_capacity
from tests.unit.sentinel.virtual import a_round, unknown

LOADS = (5, 10, 20)


def curve(load: float) -> float:
    """Return the P95 of a service that obeys the law: 50, 1 and 0.1 ms."""
    return 50 + (load - 1) + 0.1 * load * (load - 1)


def crossing(limit: float) -> float:
    """Return where the curve reaches a limit, by solving 0.1 N^2 + 0.9 N + 49."""
    return (-0.9 + math.sqrt(0.81 - 0.4 * (49 - limit))) / 0.2


def measured(
    rng: random.Random, *, loads: tuple[int, ...] = LOADS, noise: float = 0.0
) -> list[Point]:
    """Return ten rounds at each load."""
    return [
        (load, curve(load) * math.exp(rng.gauss(0, noise)))
        for load in loads
        for _ in range(10)
    ]


def test_exact_rounds_give_the_exact_crossing() -> None:
    """Without noise the curve is found, and so is where it reaches a second."""
    rng = random.Random(1)

    found = foretell(measured(rng), limit=1000, rng=rng)

    assert isinstance(found, Forecast)
    assert found.estimate == pytest.approx(crossing(1000), rel=1e-6)


@pytest.mark.power
def test_interval_holds_the_truth() -> None:
    """In noise of 10 % the interval of nine in ten holds the truth 18 times in 25.

    With ten rounds a level it is narrower than it should be: 22 would be nominal.
    """
    rng = random.Random(2)
    truth = crossing(150)

    found = [foretell(measured(rng, noise=0.1), limit=150, rng=rng) for _ in range(25)]

    held = [f for f in found if isinstance(f, Forecast) and f.low <= truth <= f.high]
    assert len(held) >= 18


def test_pool_grows_in_a_straight_line() -> None:
    """A pool of which each user takes half a connection is used up at forty."""
    points = [(float(load), load / 2) for load in LOADS for _ in range(3)]

    found = foretell(points, limit=20, rng=random.Random(3), is_linear=True)

    assert isinstance(found, Forecast)
    assert found.estimate == pytest.approx(40)


def test_measured_load_is_put_into_levels() -> None:
    """Loads that never repeat, as a gauge gives them, are grouped and fitted."""
    rng = random.Random(4)
    points = [(load, curve(load)) for load in (rng.uniform(5, 40) for _ in range(80))]

    found = foretell(points, limit=500, rng=rng)

    assert isinstance(found, Forecast)
    assert found.estimate == pytest.approx(crossing(500), rel=0.1)


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        ([], "0 levels of load"),
        ([(5.0, 100.0)] * 50, "1 levels of load"),
        ([(5.0, 1.0), (10.0, 2.0), (20.0, 3.0)] * 2, "0 levels of load"),
        ([(10.0, 1.0), (11.0, 2.0), (12.0, 3.0)] * 5, "lie between 10 and 12"),
        ([(5.0, 80.0), (10.0, 80.0), (20.0, 80.0)] * 5, "Nothing that was measured"),
        ([(5.0, 80.0), (10.0, 70.0), (20.0, 60.0)] * 5, "Nothing that was measured"),
    ],
    ids=["none", "one load", "few rounds", "alike", "flat", "falling"],
)
def test_too_little_is_refused(points: list[Point], reason: str) -> None:
    """Without levels, rounds, spread or growth there is a sentence and no number."""
    found = foretell(points, limit=1000, rng=random.Random(5))

    assert isinstance(found, Refusal)
    assert reason in found.reason


def test_first_endpoint_to_reach_its_gate_is_told() -> None:
    """Of two endpoints with their own gates the one that crosses first counts."""
    rounds = [
        a_round(
            number,
            users=load,
            p95_ms={"GET /quick": load * 10.0, "GET /slow": load * 20.0},
        )
        for number, load in enumerate(LOADS * 5)
    ]

    told = forecast_capacity(
        rounds, gates_s={"GET /quick": 0.5, "*": 2.0}, pool_size=None, seed=1
    )

    assert isinstance(told["p95"], Forecast)
    assert told["p95"].estimate == pytest.approx(50)
    assert "pool" not in told


def test_rounds_that_prove_nothing_foretell_nothing() -> None:
    """Capacity is read from rounds that count only."""
    told = forecast_capacity(
        [unknown(number) for number in range(50)],
        gates_s={"*": 5.0},
        pool_size=10,
        seed=1,
    )

    assert isinstance(told["p95"], Refusal)
    assert isinstance(told["pool"], Refusal)
