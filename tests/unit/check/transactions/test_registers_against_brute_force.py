"""The checker of registers never says of a level what trying all executions refutes.

What it says holds has an execution, what it says is broken has none; in between it says
that it does not know. A checker wrong on one history in 100 would pass 500 of them
once in 150 runs of fresh seeds: exp(-500 / 100).
"""

import random
from collections import Counter

import pytest

from test_framework.check.transactions import check_registers
from test_framework.check.transactions.levels import find_model, rules_out
from tests.unit.check.transactions.brute_force import MODELS, can_explain
from tests.unit.check.transactions.drawing import draw_wild_registers


def compare(seeds: range) -> Counter[tuple[str, str]]:
    """Compare all models on some histories, and return how often what was said."""
    said: Counter[tuple[str, str]] = Counter()
    for seed in seeds:
        log = draw_wild_registers(random.Random(seed))
        checked = check_registers(log)
        names = {one.name for one in checked.anomalies}
        for model, (strength, is_snapshot) in MODELS.items():
            can = can_explain(log, strength=strength, is_snapshot=is_snapshot)
            if model in checked.holds:
                assert can, (seed, model)
                said[model, "holds"] += 1
            elif any(rules_out(find_model(model), name) for name in names):
                assert not can, (seed, model)
                said[model, "broken"] += 1
            else:
                said[model, f"unknown, {can}"] += 1
    return said


def test_registers_never_say_what_an_execution_refutes() -> None:
    """Both verdicts are right, and are given."""
    said = compare(range(500))

    for model in MODELS:
        assert said[model, "holds"]
        assert said[model, "broken"]


@pytest.mark.long
def test_many_registers_never_say_what_an_execution_refutes() -> None:
    """The same for 5,000 histories."""
    said = compare(range(500, 5_500))

    assert said["serializable", "holds"]
