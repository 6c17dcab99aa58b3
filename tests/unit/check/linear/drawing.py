"""Small histories drawn at random, and their verdict by trying every order."""

import itertools
import random
from collections.abc import Sequence

from test_framework.check.linear import ILLEGAL, Call, Model


def draw_calls(rng: random.Random, *, count: int, values: int = 2) -> list[Call]:
    """Draw calls on a cas-register that overlap at random; some are of unknown outcome.

    Results are drawn as well, so that about half of the histories have no order.
    """
    calls = []
    for index in range(count):
        invoked = rng.randrange(3 * count)
        kind = rng.choice(("read", "write", "cas"))
        argument = {
            "read": None,
            "write": rng.randrange(values),
            "cas": (rng.randrange(values), rng.randrange(values)),
        }[kind]
        result = {
            "read": rng.choice((None, *range(values))),
            "write": True,
            "cas": rng.random() < 0.5,
        }[kind]
        is_known = rng.random() < 0.8
        completed = invoked + rng.randrange(1, 2 * count) if is_known else None
        calls.append(
            Call(index, kind, argument, result, invoked, completed, None, index)
        )
    return calls


def is_linearizable(model: Model, calls: Sequence[Call]) -> bool:
    """Try all orders of all subsets that hold every call of known outcome."""
    known = [call for call in calls if call.is_known]
    unknown = [call for call in calls if not call.is_known]
    return any(
        _is_explained(model, order)
        for size in range(len(unknown) + 1)
        for happened in itertools.combinations(unknown, size)
        for order in itertools.permutations([*known, *happened])
    )


def _is_explained(model: Model, order: Sequence[Call]) -> bool:
    for place, later in enumerate(order):
        for earlier in order[:place]:
            if later.completed is not None and later.completed < earlier.invoked:
                return False
    state: object = model.initial
    for call in order:
        state = model.step(state, call)
        if state is ILLEGAL:
            return False
    return True
