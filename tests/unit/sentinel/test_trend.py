"""Slopes are found, and flat noise is not one: with the odds of either."""

import math
import random
from collections.abc import Callable

import pytest

from test_framework.sentinel.outlook import (
    LEFT_BEHIND_TREND,
    MEMORY_TREND,
    P95_TREND,
    find_trends,
)
from test_framework.sentinel.rounds import Round
from test_framework.sentinel.trend import FEWEST, LEVEL, WINDOW, measure_trend
from tests.unit.sentinel.virtual import a_round, unknown


def noise(
    rng: random.Random, *, alike: float = 0.0, spread: float = 0.5
) -> list[float]:
    """Return a flat series of latencies, log-normal, each like the one before."""
    values, state = [], rng.gauss(0, 1)
    for _ in range(WINDOW):
        state = alike * state + math.sqrt(1 - alike**2) * rng.gauss(0, 1)
        values.append(100 * math.exp(spread * state))
    return values


def rounds_of(
    p95_ms: list[float], make: Callable[[int], dict[str, object]] = lambda _: {}
) -> list[Round]:
    """Return rounds with these latencies of one endpoint."""
    return [
        a_round(number, p95_ms={"GET /notes": value}, **make(number))
        for number, value in enumerate(p95_ms, 1)
    ]


def keys(rounds: list[Round]) -> list[str]:
    """Return the trends that are found."""
    return [symptom.key for symptom in find_trends(rounds, users=5)]


@pytest.mark.power
@pytest.mark.parametrize("alike", [0.0, 0.6])
def test_flat_noise_seldom_alarms(alike: float) -> None:
    """Of 300 flat noisy series at most three alarm, also when neighbours are alike.

    At the level of 1 in 1000, 0.3 are expected and more than three come up with one
    seed in 3700; measured on another 1000 series: 1 and 2 alarms.
    """
    rng = random.Random(20)

    alarms = sum(bool(keys(rounds_of(noise(rng, alike=alike)))) for _ in range(300))

    assert alarms <= 3


@pytest.mark.power
def test_doubling_is_found_in_noise() -> None:
    """Of 100 series that double in noise of 30 % at least 80 are found (92 expected)."""
    rng = random.Random(21)

    found = sum(
        keys(
            rounds_of(
                [
                    value * (1 + step / WINDOW)
                    for step, value in enumerate(noise(rng, spread=0.3))
                ]
            )
        )
        == [P95_TREND]
        for _ in range(100)
    )

    assert found >= 80


def test_slope_ignores_outliers() -> None:
    """With a quarter of wild values the slope is still that of the others."""
    values = [100.0 + 2 * step for step in range(60)]
    values[::4] = [5000.0] * 15

    trend = measure_trend(values)

    assert trend.slope == pytest.approx(2.0, abs=0.5)


def test_ties_are_no_evidence() -> None:
    """A constant series and one of two values by turns have no trend."""
    assert measure_trend([7.0] * 40).p_value == 1.0
    assert measure_trend([1.0, 2.0] * 20).p_value > 0.2


def test_known_series_has_its_published_count() -> None:
    """Ten rising values: 45 rising pairs, variance 125, z = 44 / 11.18 (Kendall 1975).

    Detrended they are all equal, so nothing widens the variance.
    """
    trend = measure_trend([float(value) for value in range(10)])

    assert trend.p_value == pytest.approx(math.erfc(44 / math.sqrt(250)) / 2)
    assert trend.slope == 1.0


def test_growth_from_nothing_is_a_trend() -> None:
    """A line from zero is certain, though only rounding is left beside it."""
    assert measure_trend([step / 6 for step in range(40)]).p_value < LEVEL


def test_falling_series_alarms_nobody() -> None:
    """What becomes faster is good news."""
    assert keys(rounds_of([200.0 - step for step in range(60)])) == []


def test_certain_but_tiny_growth_alarms_nobody() -> None:
    """A slope beyond doubt of 10 ms over an hour matters to nobody."""
    values = [100.0 + step / 6 for step in range(60)]

    assert measure_trend(values).p_value < LEVEL
    assert keys(rounds_of(values)) == []


def test_too_few_rounds_are_not_tested() -> None:
    """A steep slope over fewer rounds than are needed is not a trend yet."""
    steep = [100.0 * step for step in range(1, 61)]

    assert keys(rounds_of(steep[: FEWEST - 1])) == []
    assert keys(rounds_of(steep[:FEWEST])) == [P95_TREND]


def test_only_rounds_that_count_are_compared() -> None:
    """Rounds of the ramp, and those that proved nothing, make no trend."""
    rounds = []
    for number in range(1, 61):
        rounds.append(a_round(number, p95_ms={"GET /notes": 100.0}))
        rounds.append(
            a_round(number, users=5 + number, p95_ms={"GET /notes": 100.0 * number})
        )
        rounds.append(unknown(number))

    assert keys(rounds) == []


def test_growing_memory_is_found() -> None:
    """Memory that grows from 100 to 160 MB is a trend; one that stays is not."""
    grows = rounds_of([100.0] * 60, lambda n: {"memory_bytes": (100 + n) * 2.0**20})
    stays = rounds_of([100.0] * 60, lambda n: {"memory_bytes": (100 + n % 7) * 2.0**20})

    assert keys(grows) == [MEMORY_TREND]
    assert keys(stays) == []


def test_growing_residue_is_found() -> None:
    """More and more left behind is a trend; the same each round is not."""
    grows = rounds_of([100.0] * 60, lambda n: {"left_behind": n // 5})
    stays = rounds_of([100.0] * 60, lambda _: {"left_behind": 4})

    assert keys(grows) == [LEFT_BEHIND_TREND]
    assert keys(stays) == []


def test_trend_names_the_endpoint_and_its_figures() -> None:
    """The claim says which endpoint, from what to what, in how many rounds."""
    rounds = [
        a_round(n, p95_ms={"GET /a": 100.0, "GET /b": 100.0 + 5 * n}) for n in range(60)
    ]

    (symptom,) = find_trends(rounds, users=5)

    assert symptom.claim.startswith("P95 of GET /b: from 100 to 395 ms in 60 rounds")
