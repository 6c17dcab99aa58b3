"""What users in turn are answered is what hosted twins are judged by."""

import pytest

from test_framework.catalogue import Pattern, find_pattern, load_patterns
from test_framework.catalogue.sequential import READ, VISIT, InTurn
from test_framework.check.linear import Call, check_linearizability
from test_framework.core import Verdict

HOSTED = [pattern for pattern in load_patterns() if pattern.hosted is not None]


def visits(left: int) -> list[Call]:
    """Return the history of two who spend three of ten credits at once."""
    return [
        Call(0, VISIT, 0, "null", 1, 4),
        Call(1, VISIT, 1, "null", 2, 3),
        Call(0, READ, 0, str(left), 5, 6),
    ]


@pytest.mark.parametrize(
    ("left", "verdict"), [(4, Verdict.VALID), (7, Verdict.INVALID)]
)
def test_lost_update_has_no_order(left: int, verdict: Verdict) -> None:
    """Two spendings of three leave four of ten, in either order and in no other way."""
    model = InTurn(find_pattern("P03"))

    assert check_linearizability(visits(left), model).verdict is verdict


def test_visit_of_unknown_outcome_may_not_have_been() -> None:
    """Who left in mid-request has spent, or has not; nothing in between."""
    model = InTurn(find_pattern("P03"))

    def judged(left: int) -> Verdict:
        calls = [
            Call(0, VISIT, 0, "null", 1, 2),
            Call(1, VISIT, 1, None, 1, None),
            Call(0, READ, 0, str(left), 5, 6),
        ]
        return check_linearizability(calls, model).verdict

    assert [judged(left) for left in (4, 7, 1)] == [
        Verdict.VALID,
        Verdict.VALID,
        Verdict.INVALID,
    ]


def test_batch_of_two_cannot_be_served_in_turn() -> None:
    """Who waits for another has no answer of its own to be compared with."""
    assert not InTurn(find_pattern("L04")).is_sequential
    assert InTurn(find_pattern("P03")).is_sequential


@pytest.mark.parametrize(
    "pattern",
    # The calls of L10 start in the order of a set.
    [
        one
        for one in HOSTED
        if one.needs.order and not one.needs.cancel and one.id != "L10"
    ],
    ids=lambda one: one.id,
)
def test_twins_answer_alike_to_users_in_turn(pattern: Pattern) -> None:
    """What tells the twins apart over the wire is the bug, and nothing else."""
    order = tuple(range(pattern.crowd))

    assert InTurn(pattern, "vulnerable").told(order) == InTurn(pattern).told(order)


def test_each_hosted_pattern_shows_something() -> None:
    """A visit is answered, or something is read, that is more than nothing."""
    mute = set()
    for pattern in HOSTED:
        model = InTurn(pattern)
        orders = [(number,) for number in range(pattern.crowd)]
        told = [model.told(order) for order in orders]
        if all(one is not None and {one[0], *one[1]} == {"null"} for one in told):
            mute.add(pattern.id if pattern.kind == "assertion" else pattern.kind)

    # Those show their bug by failing, or by never answering.
    assert mute == {"deadlock", "exception"}
