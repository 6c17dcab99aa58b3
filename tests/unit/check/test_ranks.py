"""The rank test, against published values and by its properties."""

import math
import random

import pytest

from test_framework.check.ranks import compare_ranks, shift, thin

SEED = 7


def test_rank_test_agrees_with_its_textbook() -> None:
    """Tortoises and hares: U = 11 of 36, so the odds of the other side are 0.87.

    The normal approximation without correction for continuity: z = (11 - 18) / 6.245.
    """
    tortoises = [1.0, 7, 8, 9, 10, 11]
    hares = [2.0, 3, 4, 5, 6, 12]

    test = compare_ranks([(tortoises, hares)])

    assert test.superiority == pytest.approx(11 / 36)
    assert test.p_value == pytest.approx(0.8689, abs=1e-4)


def test_ties_count_by_half_and_narrow_the_variance() -> None:
    """Equal values on both sides are no difference; the tie term is that of Lehmann.

    U = 8 of 9; variance 9/12 * (7 - (24 + 6) / 30) = 4.5; z = 3.5 / 2.1213.
    """
    test = compare_ranks([([1.0, 2, 2], [2.0, 3, 3])])

    assert test.superiority == pytest.approx(8 / 9)
    assert test.p_value == pytest.approx(0.0495, abs=1e-4)
    assert compare_ranks([([5.0] * 9, [5.0] * 9)]).superiority == 0.5


def test_strata_hide_no_shift_and_make_none() -> None:
    """A shift shows in strata that differ tenfold; a difference of strata does not."""
    calm = [10.0 + n for n in range(30)]
    crowded = [100.0 + 10 * n for n in range(30)]
    shifted = [
        (sample, [1.2 * value for value in sample]) for sample in (calm, crowded)
    ]
    pooled = (calm + crowded, shifted[0][1] + shifted[1][1])
    uneven = [(calm, calm[::3]), (crowded[::3], crowded)]
    mixed = (calm + crowded[::3], calm[::3] + crowded)

    assert compare_ranks(shifted).p_value < 0.01
    assert compare_ranks([pooled]).p_value > 0.05
    assert compare_ranks(uneven).p_value > 0.3
    assert compare_ranks([mixed]).p_value < 0.001


def test_nothing_to_compare_is_no_difference() -> None:
    """Empty samples, and single values that are equal, raise no alarm."""
    assert compare_ranks([]).p_value == 1.0
    assert compare_ranks([([], [1.0]), ([1.0], [])]).superiority == 0.5
    assert compare_ranks([([1.0], [1.0])]).p_value == 1.0


def test_shift_is_the_ratio_whatever_the_tail() -> None:
    """One answer of an hour moves the typical ratio of fifty by little."""
    rng = random.Random(SEED)
    before = [rng.lognormvariate(3, 0.5) for _ in range(50)]
    after = [value * 2 for value in before]

    assert math.exp(shift(before, after)) == pytest.approx(2)
    assert math.exp(shift(before, [*after, 3.6e6])) == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("size", [1, 7, 25])
def test_thinned_sample_keeps_its_quantiles(size: int) -> None:
    """What is left are order statistics, evenly spaced and ascending."""
    kept = thin([float(n) for n in range(1000)], size)

    assert len(kept) == size
    assert kept == sorted(kept)
    assert kept[size // 2] == pytest.approx(500, abs=1)
    assert thin([1.0, 2.0], size=5) == [1.0, 2.0]
