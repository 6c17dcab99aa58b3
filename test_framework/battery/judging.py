"""What the battery asks of the checkers, and its calls as items of their witnesses."""

import dataclasses
from collections.abc import Sequence

from test_framework.check.linear import Call, Limits, Model, check_linearizability
from test_framework.check.witness import Checked, Item


def check_order(
    calls: Sequence[Call], model: Model, *, name: str, limits: Limits | None = None
) -> Checked:
    """Judge whether calls could have happened one at a time.

    Args:
        calls: The history.
        model: What the object does.
        name: What is demanded, such as ``linearizable cell``.
        limits: What a search may cost.

    Returns:
        The verdict, with the calls that no order explains.
    """
    found = check_linearizability(calls, model, limits=limits)
    return dataclasses.replace(found, model=name)


def item_of(call: Call, label: str) -> Item:
    """Return a call as an operation of a witness."""
    return Item(
        label,
        f"worker {call.process}",
        f"worker {call}",
        call.invoked,
        call.completed,
        call.index,
    )
