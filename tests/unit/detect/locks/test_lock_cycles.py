"""Locks taken crosswise are seen, met or only possible; ordered ones are not."""

import pytest

from tests.unit.detect.locks import programs
from tests.unit.detect.locks.harness import Program, alarms_of


@pytest.mark.parametrize(
    ("program", "rules"),
    [
        (programs.crosswise_at_once, ["deadlock"]),
        (programs.crosswise_in_turn, ["lock-order-inversion"]),
        (programs.crosswise_under_two_gates, ["lock-order-inversion"]),
        (programs.three_in_a_ring, ["lock-order-inversion"]),
    ],
)
async def test_locks_taken_crosswise_are_told(
    program: Program, rules: list[str]
) -> None:
    """Each program that deadlocks, or could, raises its alarms and no others."""
    alarms = await alarms_of(program)

    assert [alarm.rule for alarm in alarms] == rules


@pytest.mark.parametrize(
    "program",
    [
        programs.same_way_at_once,
        programs.same_way_in_turn,
        programs.crosswise_under_a_gate,
        programs.three_in_a_row,
    ],
)
async def test_locks_taken_in_order_are_quiet(program: Program) -> None:
    """A sibling that cannot deadlock raises no alarm and no note."""
    assert await alarms_of(program) == []
