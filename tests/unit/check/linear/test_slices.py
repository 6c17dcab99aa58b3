"""What a witness leaves out proves nothing by its absence."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from test_framework.check.linear import (
    Call,
    CasRegister,
    DistinctSet,
    KeyValue,
    Mutex,
    Queue,
    Register,
)
from test_framework.check.linear.slices import _parts
from tests.unit.check.linear.drawing import (
    Act,
    draw_behaved,
    draw_holdings,
    is_linearizable,
)


def register(rng: random.Random, state: Any, fresh: int) -> Act:  # noqa: ANN401, ARG001  # of any value; few values say more
    """Write or swap one of three values, or read; a swap may fail."""
    value, expected = rng.randrange(3), rng.choice((state, rng.randrange(3)))
    kind = rng.choice(("read", "write", "cas"))
    if kind == "read":
        return kind, None, state, state
    if kind == "write":
        return kind, value, "ok", value
    matches = expected == state
    return kind, (expected, value), matches, value if matches else state


def plain(rng: random.Random, state: Any, fresh: int) -> Act:  # noqa: ANN401  # of any value
    """Write one of three values, or read."""
    act = register(rng, state, fresh)
    return act if act[0] != "cas" else ("read", None, state, state)


def queue(rng: random.Random, state: Any, fresh: int) -> Act:  # noqa: ANN401, ARG001  # of any value; few values say more
    """Put one of three values in, or take one out."""
    if rng.random() < 0.6:
        value = rng.randrange(3)
        return "enqueue", value, "ok", (*state, value)
    return "dequeue", None, state[0] if state else None, state[1:]


def elements(rng: random.Random, state: Any, fresh: int) -> Act:  # noqa: ANN401, ARG001  # of any value; few elements say more
    """Add, remove or look for one of two elements, or read all."""
    element = rng.randrange(2)
    kind = rng.choice(("add", "remove", "contains", "read"))
    held = element in state
    if kind == "read":
        return kind, None, state, state
    after = {"add": state | {element}, "remove": state - {element}}.get(kind, state)
    return kind, element, not held if kind == "add" else held, after


def store(rng: random.Random, state: Any, fresh: int) -> Act:  # noqa: ANN401  # of any value
    """Append to a text or put a new one, or get it."""
    kind = rng.choice(("get", "append", "append", "put"))
    if kind == "get":
        return kind, None, state, state
    return kind, f"{fresh}", "ok", f"{fresh}" if kind == "put" else f"{state}{fresh}"


def drawn(
    behaviour: Any,  # noqa: ANN401  # a function
    initial: Any,  # noqa: ANN401  # of any value
) -> Callable[[random.Random], list[Call]]:
    """Return what draws calls on a sound object."""
    return lambda rng: draw_behaved(rng, behaviour, initial, count=rng.randrange(3, 7))


@pytest.mark.parametrize(
    ("model", "draw"),
    [
        pytest.param(Register(), drawn(plain, None), id="register"),
        pytest.param(CasRegister(), drawn(register, None), id="cas-register"),
        pytest.param(Queue(), drawn(queue, ()), id="queue"),
        pytest.param(DistinctSet(), drawn(elements, frozenset()), id="set"),
        pytest.param(KeyValue(), drawn(store, ""), id="key-value"),
        pytest.param(Mutex(), lambda rng: draw_holdings(rng, count=6), id="mutex"),
    ],
)
def test_leaving_calls_out_never_makes_a_history_wrong(
    model: Any,  # noqa: ANN401  # one of several
    draw: Callable[[random.Random], list[Call]],
) -> None:
    """Each part that may be left out leaves an order an order.

    Fixed seeds. A rule that is wrong for one history of a hundred is missed with a
    chance of 0.99 ** 600, about one in four hundred; most histories have several parts.
    """
    tried = 0
    for seed in range(600):
        calls = [
            replace(one, index=n) for n, one in enumerate(draw(random.Random(seed)))
        ]
        calls.sort(key=lambda one: one.invoked)
        if not is_linearizable(model, calls):
            continue
        for part in _parts(model, calls):
            rest = [one for place, one in enumerate(calls) if place not in part]
            assert is_linearizable(model, rest), (seed, part)
            tried += 1
    assert tried > 300
