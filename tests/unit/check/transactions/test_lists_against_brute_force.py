"""The checker of lists agrees with trying all executions, on tiny histories.

Every instance is judged for six models: serializable and snapshot isolation, without
order, with that of sessions, and in real time. A checker that were wrong on one history
in 200 would pass 1,000 of them once in 150 runs of fresh seeds: exp(-1000 / 200).
"""

import random
from collections import Counter
from collections.abc import Callable

import pytest

from test_framework.check.transactions import TransactionLog, check_list_append
from tests.unit.check.transactions.brute_force import MODELS, can_explain
from tests.unit.check.transactions.drawing import (
    draw_scanned_lists,
    draw_versioned_lists,
    draw_wild_lists,
)

Draw = Callable[[random.Random], TransactionLog]


def compare(draw: Draw, seeds: range) -> Counter[str]:
    """Compare all models on some histories, and return how often each one held."""
    held: Counter[str] = Counter()
    for seed in seeds:
        log = draw(random.Random(seed))
        checked = check_list_append(log)
        if checked.reason:
            continue
        expected = {
            model
            for model, (strength, is_snapshot) in MODELS.items()
            if can_explain(log, strength=strength, is_snapshot=is_snapshot)
        }
        assert expected == MODELS.keys() & set(checked.holds), (seed, draw.__name__)
        held.update(expected)
        held["all"] += 1
    return held


@pytest.mark.parametrize(
    "draw", [draw_wild_lists, draw_versioned_lists, draw_scanned_lists]
)
def test_lists_hold_what_an_execution_explains(draw: Draw) -> None:
    """Each model holds if and only if some execution gives what was read."""
    held = compare(draw, range(500))

    assert all(0 < held[model] < held["all"] for model in MODELS)


@pytest.mark.long
@pytest.mark.parametrize(
    "draw", [draw_wild_lists, draw_versioned_lists, draw_scanned_lists]
)
def test_many_lists_hold_what_an_execution_explains(draw: Draw) -> None:
    """The same for 5,000 histories."""
    held = compare(draw, range(500, 5_500))

    assert all(0 < held[model] < held["all"] for model in MODELS)
