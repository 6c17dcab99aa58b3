"""Sets of distinct elements: sorting agrees with trying every order."""

import random
from dataclasses import replace
from typing import Any

import pytest

from test_framework.check.linear import (
    Call,
    CallLog,
    DistinctSet,
    check_linearizability,
)
from test_framework.check.linear.sets import judge_sets
from tests.unit.check.linear.drawing import (
    Act,
    Behaviour,
    draw_behaved,
    is_linearizable,
)

HISTORIES = 2000


def elements(rng: random.Random, state: Any, fresh: int) -> Act:  # noqa: ANN401, ARG001  # of any value; few elements say more
    """Add, remove and look for one of two elements."""
    element = rng.randrange(2)
    kind = rng.choice(("add", "add", "contains", "contains", "remove"))
    held = element in state
    if kind == "add":
        return kind, element, not held, state | {element}
    if kind == "remove":
        return kind, element, held, state - {element}
    return kind, element, held, state


def growing(rng: random.Random, state: Any, fresh: int) -> Act:  # noqa: ANN401  # of any value
    """Add a fresh element, or read all."""
    if rng.random() < 0.5:
        return "add", fresh, "ok", state | {fresh}
    return "read", None, state, state


def test_element_read_twice_is_told() -> None:
    """Of what must be a set, a sequence with a repetition is none."""
    calls = [Call("a", "add", 1, "ok", 0, 1), Call("b", "read", None, (1, 1), 2, 3)]

    checked = check_linearizability(calls, DistinctSet())

    (one,) = checked.anomalies
    assert (checked.verdict, one.name) == ("invalid", "duplicate element")
    assert one.claim.startswith("1 was in")
    calls[1] = Call("b", "read", None, (1,), 2, 3)
    assert check_linearizability(calls, DistinctSet()).verdict == "valid"


@pytest.mark.slow
@pytest.mark.parametrize("behaviour", [elements, growing])
def test_sorting_agrees_with_every_order(behaviour: Behaviour) -> None:
    """On small histories of two sets the verdict is that of brute force.

    Fixed seeds. A defect that shows in one history of three hundred is missed with a
    chance of (299 / 300) ** 2000, about one in a thousand.
    """
    verdicts = []
    decided = 0
    for seed in range(HISTORIES):
        rng = random.Random(seed)
        parts = [
            draw_behaved(rng, behaviour, frozenset(), count=2 + seed % 5)
            for _ in range(2)
        ]
        calls = [replace(one, key=key) for key in range(2) for one in parts[key]]

        ruling = judge_sets(CallLog.of(calls), DistinctSet())

        right = [is_linearizable(DistinctSet(), part) for part in parts]
        if ruling.anomalies:
            assert not all(right), seed
        else:
            assert all(right[key] for key in range(2) if key not in ruling.undecided), (
                seed
            )
        decided += not ruling.undecided
        verdicts.append(all(right))
    assert 0.3 < sum(verdicts) / len(verdicts) < 0.9
    assert decided > HISTORIES / 2
