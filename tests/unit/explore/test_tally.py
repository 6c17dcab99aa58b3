"""What a search may claim of its runs follows from what it counted."""

import pytest

from test_framework.explore.schedule import Backwards, Cancel, Fault
from test_framework.explore.tally import Tally

STRIKE = Cancel("user[0]", 1)


def test_order_counts_once_for_each_fault() -> None:
    """One order with a fault is another order than it is without."""
    tally = Tally("at fidelity fifo", [STRIKE])

    news = [
        tally.count([0, 1]),
        tally.count([0, 1], (STRIKE,)),
        tally.count([0, 1], (STRIKE,)),
    ]

    assert news == [True, True, False]
    assert tally.distinct == 2


def test_orders_seen_once_estimate_those_unseen() -> None:
    """Good and Turing: the share of the draws that met an order for the only time."""
    tally = Tally("at fidelity fifo", [])
    assert tally.unseen_mass is None

    for order in ([0, 1], [0, 1], [1, 0], [1, 1]):
        tally.count(order)
        tally.drawn += 1

    assert tally.unseen_mass == 0.5


@pytest.mark.parametrize(
    ("points", "strikes", "claim"),
    [
        ([], 0, "were run, and nothing went wrong."),
        (
            [Backwards()],
            0,
            "were run, the sets of asyncio forwards and backwards, and nothing went wrong.",
        ),
        (
            [STRIKE, Backwards()],
            1,
            ", the sets of asyncio forwards and without faults backwards, and nothing went wrong.",
        ),
    ],
    ids=["neither", "sets", "both"],
)
def test_order_of_sets_is_no_fault_that_strikes(
    points: list[Fault], strikes: int, claim: str
) -> None:
    """It is a choice of the interpreter, and the claim words it apart."""
    tally = Tally("at fidelity fifo", points)

    assert tally.strikes == strikes
    assert tally.complete().endswith(claim)
