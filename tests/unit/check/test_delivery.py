"""Delivery: events come completely, in order and once on each socket."""

import pytest

from test_framework.check import check_delivery
from test_framework.core import PolicyRecord
from tests.unit.check.builder import Builder


def rules(*sequences: int) -> list[str]:
    """Return what is said of one socket that received these numbers."""
    builder = Builder()
    for sequence in sequences:
        builder.event(0, sequence)
    return [sighting.rule for sighting in check_delivery(builder.history)]


def test_rising_numbers_are_silent() -> None:
    """Numbers that rise by one from anywhere are in order."""
    assert rules(7, 8, 9, 10) == []


@pytest.mark.power
@pytest.mark.parametrize(
    ("sequences", "rule"),
    [
        ((1, 2, 2, 3), "event-duplicated"),
        ((1, 2, 3, 1, 4), "event-duplicated"),
        ((1, 2, 4, 5), "event-lost"),
        ((1, 3, 2, 4), "event-reordered"),
    ],
)
def test_broken_order_is_named(sequences: tuple[int, ...], rule: str) -> None:
    """A repeat, a gap and a step back have one name each."""
    assert rules(*sequences) == [rule]


def test_jump_of_any_size_is_one_loss() -> None:
    """Numbers may be clocks; what lies between two of them is not counted one by one."""
    assert rules(1, 1_700_000_000_000_000) == ["event-lost"]


def test_jump_that_is_told_is_no_silent_loss() -> None:
    """An event that owns up to a gap stands for it; numbers rise again from there."""
    builder = Builder()
    builder.history.add(PolicyRecord(event_gap="gap"))
    builder.event(0, 1)
    builder.event(0, None, event="gap")
    builder.event(0, 90)
    builder.event(0, 92)
    (lost,) = check_delivery(builder.history)

    assert (lost.rule, lost.claim.split()[1]) == ("event-lost", "92")


def test_sockets_are_judged_apart() -> None:
    """Two devices of one user each receive every event, and resume may skip."""
    builder = Builder()
    for socket in (1, 2):
        for sequence in (1, 2, 3):
            builder.event(0, sequence, socket=socket)
    builder.event(0, 9, socket=3)

    assert list(check_delivery(builder.history)) == []
