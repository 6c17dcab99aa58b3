"""Small histories drawn at random, and their verdict by trying every order."""

import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

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


Act = tuple[str, Any, Any, Hashable]
"""Kind, argument and result of a call, and the state after it."""

Behaviour = Callable[[random.Random, Any, int], Act]
"""Draws what a sound object does next: of a generator, its state, a fresh number."""


def draw_behaved(
    rng: random.Random,
    behaviour: Behaviour,
    initial: Hashable,
    *,
    count: int,
    unknown: float = 0.15,
) -> list[Call]:
    """Draw calls on a sound object, and in half of the cases spoil one of them.

    Each call takes effect at a point; its ends are drawn around it, so most overlap.
    One of unknown outcome may have taken effect or not.
    """
    calls: list[Call] = []
    state, width = initial, rng.choice((3, 6, 12))
    for index in range(count):
        point = 20 + 4 * index
        kind, argument, result, after = behaviour(rng, state, index)
        invoked = point - rng.randrange(width)
        completed: int | None = point + rng.randrange(width)
        if rng.random() < unknown:
            completed = None
        if completed is not None or rng.random() < 0.5:
            state = after
        calls.append(
            Call(f"p{index}", kind, argument, result, invoked, completed, None, index)
        )
    for _ in range(rng.choice((0, 1, 2))):
        _spoil(rng, calls)
    return calls


def _spoil(rng: random.Random, calls: list[Call]) -> None:
    """Move a call in time, or have it answer what another one did."""
    at = rng.randrange(len(calls))
    call = calls[at]
    if rng.random() < 0.6:
        shift = rng.choice((-1, 1)) * rng.randrange(4, 20)
        completed = None if call.completed is None else call.completed + shift
        calls[at] = replace(call, invoked=call.invoked + shift, completed=completed)
        return
    alike = [other for other in calls if other.kind == call.kind]
    calls[at] = replace(call, result=rng.choice(alike).result)


def draw_holdings(rng: random.Random, *, count: int, holders: int = 3) -> list[Call]:
    """Draw calls of a few processes that take a lock and release it, in turn.

    A sound lock is held from a point to a point; then one end of a call may be moved.
    """
    calls: list[Call] = []
    now = {f"p{n}": 0 for n in range(holders)}
    point = 20
    while len(calls) < count:
        process = rng.choice(sorted(now))
        for kind in ("acquire", "release"):
            point += 4
            invoked = max(now[process] + 1, point - rng.randrange(8))
            completed = max(invoked, point) + rng.randrange(8)
            now[process] = completed
            known = rng.random() < 0.95
            calls.append(
                Call(process, kind, None, "ok", invoked, completed if known else None)
            )
    del calls[count:]
    if rng.random() < 0.7:
        _spoil(rng, calls)
    return calls


def is_linearizable(model: Model, calls: Sequence[Call]) -> bool:
    """Try all orders of all subsets that hold every call of known outcome."""
    return _has_order(model, model.initial, list(calls))


def _has_order(model: Model, state: Any, left: list[Call]) -> bool:  # noqa: ANN401  # a state of any model
    if not any(call.is_known for call in left):
        return True
    for call in left:
        if any(
            other.completed is not None and other.completed < call.invoked
            for other in left
        ):
            continue
        after = model.step(state, call)
        rest = [other for other in left if other is not call]
        if after is not ILLEGAL and _has_order(model, after, rest):
            return True
    return False
