"""Puts what the search for an order of calls says into the form of all checkers."""

from collections.abc import Sequence

from test_framework.check.linear import Call, Limits, Model, check_linearizability
from test_framework.check.witness import Anomaly, Checked, Item
from test_framework.core import Verdict

MAX_BEFORE = 6
"""Calls of the longest order that a witness shows before the one that does not fit."""


def check_order(
    calls: Sequence[Call], model: Model, *, name: str, limits: Limits | None = None
) -> Checked:
    """Judge whether calls could have happened one at a time.

    Args:
        calls: The history.
        model: What the object does.
        name: What is demanded, such as ``linearizable cell``.
        limits: What the search may cost.

    Returns:
        The verdict, with the call that fits nowhere.
    """
    found = check_linearizability(calls, model, limits=limits)
    anomalies: tuple[Anomaly, ...] = ()
    if found.verdict is Verdict.INVALID and found.stuck is not None:
        shown = [*found.order[-MAX_BEFORE:], found.stuck]
        anomalies = (
            Anomaly(
                "not linearizable",
                f"no order of all calls explains {found.stuck}; the longest one that "
                f"explains the others has {len(found.order):,} calls, the last of "
                "them here, and then it had to have happened and cannot",
                tuple(item_of(call, f"T{at}") for at, call in enumerate(shown, 1)),
            ),
        )
    return Checked(
        checker="linearizability",
        model=name,
        verdict=found.verdict,
        reason=found.reason,
        anomalies=anomalies,
        facts={"calls": len(calls)},
    )


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
