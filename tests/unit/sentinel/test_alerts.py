"""Alerts fire once, are repeated rarely, and are resolved by rounds that would see."""

import pytest

from test_framework.sentinel import AlertBook, Symptom, Tier, find_symptoms, tier_of
from test_framework.sentinel.symptoms import DOWN, PROVES_NOTHING
from tests.unit.sentinel.virtual import LEAK, SLOW, a_round, down, unknown

HOUR_S = 3600.0
LEAKING = Symptom(LEAK.rule, Tier.CRITICAL, "a leak", "user-01 saw user-00's data")
IS_DOWN = Symptom(DOWN, Tier.WARNING, "down", "Nobody listens.")


class Book:
    """An alert book that is told one round a minute."""

    def __init__(self) -> None:
        self._book = AlertBook({}, resolve_after=3, repeat_after_s=4 * HOUR_S)
        self._now = 0.0

    def see(
        self, *symptoms: Symptom, conclusive: bool = True, reached: bool = True
    ) -> list[str]:
        """Return the events that one more round leads to."""
        self._now += 60.0
        changes = self._book.observe(
            symptoms, now=self._now, is_conclusive=conclusive, is_reached=reached
        )
        return [f"{change.event} {change.alert.symptom.key}" for change in changes]


def test_lasting_symptom_fires_once() -> None:
    """A symptom that stays is told when it is first seen, and not each round."""
    book = Book()

    told = [book.see(LEAKING) for _ in range(10)]

    assert told == [[f"firing {LEAK.rule}"], *[[]] * 9]


def test_lasting_symptom_is_repeated_after_a_pause() -> None:
    """A symptom that stays for nine hours is told again after four and after eight."""
    book = Book()

    told = [number for number in range(9 * 60) if book.see(LEAKING)]

    assert told == [0, 240, 480]


def test_alert_resolves_after_clean_rounds_in_a_row() -> None:
    """Two clean rounds and a relapse count for nothing; three in a row resolve."""
    book = Book()
    rounds = [(LEAKING,), (), (), (LEAKING,), (), (), ()]

    told = [event for seen in rounds for event in book.see(*seen)]

    assert told == [f"firing {LEAK.rule}", f"resolved {LEAK.rule}"]


def test_round_that_proves_nothing_resolves_nothing() -> None:
    """However many rounds prove nothing, a leak that was seen stays an alert."""
    book = Book()
    book.see(LEAKING)

    assert [book.see(conclusive=False) for _ in range(20)] == [[]] * 20


def test_reached_service_is_no_longer_down() -> None:
    """A service that answers again is up, also while its rounds prove nothing."""
    book = Book()
    book.see(IS_DOWN, conclusive=False, reached=False)

    told = [book.see(conclusive=False) for _ in range(3)]

    assert told == [[], [], [f"resolved {DOWN}"]]


def test_resolved_alert_fires_anew() -> None:
    """What comes back after it was resolved is a new alert."""
    book = Book()
    book.see(LEAKING)
    for _ in range(3):
        book.see()

    assert book.see(LEAKING) == [f"firing {LEAK.rule}"]


@pytest.mark.parametrize(
    ("rule", "tier"),
    [
        ("foreign-canary-in-response", Tier.CRITICAL),
        ("row-under-wrong-owner", Tier.CRITICAL),
        ("acted-more-than-once", Tier.WARNING),
        ("event-lost", Tier.WARNING),
        ("left-behind", Tier.WARNING),
        ("p95-gate", Tier.WARNING),
    ],
)
def test_tier_of_a_rule(rule: str, tier: Tier) -> None:
    """Contamination pages somebody; races, leaks and gates warn."""
    assert tier_of(rule) is tier


def test_symptoms_come_worst_first() -> None:
    """A leak stands before a missed gate, whatever order the judge told them in."""
    found = find_symptoms([a_round(1, SLOW, LEAK)], unknown_rounds=3)

    assert [symptom.key for symptom in found] == [LEAK.rule, SLOW.rule]


def test_rounds_that_prove_nothing_are_a_symptom() -> None:
    """The third unknown round in a row warns; the first two and a valid one do not."""
    rounds = [a_round(1), unknown(2), unknown(3), unknown(4)]

    found = [
        [symptom.key for symptom in find_symptoms(rounds[:n], unknown_rounds=3)]
        for n in (1, 2, 3, 4)
    ]

    assert found == [[], [], [], [PROVES_NOTHING]]


def test_outage_neither_ends_nor_extends_the_silence() -> None:
    """Rounds that did not reach the service do not count as proving nothing."""
    rounds = [unknown(1), unknown(2), down(3)]

    while_down = find_symptoms(rounds, unknown_rounds=3)
    after = find_symptoms([*rounds, unknown(4)], unknown_rounds=3)

    assert [symptom.key for symptom in while_down] == [DOWN]
    assert [symptom.key for symptom in after] == [PROVES_NOTHING]
