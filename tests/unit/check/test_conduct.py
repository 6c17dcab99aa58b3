"""Conduct: users get what they asked for, undisturbed by others."""

from typing import Any

import pytest

from test_framework.check import (
    check_bystanders,
    check_expectations,
    check_identifiers,
    check_once,
    check_residue,
)
from test_framework.core import ComplaintRecord, EndRecord, ResidueRecord
from tests.unit.check.builder import Builder

UUID = "6f0f2a52-9f0e-4a55-8f9b-1b1f6f2f8a10"


@pytest.mark.power
def test_one_identifier_for_two_users_is_caught() -> None:
    """A service must not give two users one opaque identifier."""
    builder = Builder()
    builder.op(0, "POST /runs", created_id=UUID)
    builder.op(1, "POST /runs", created_id=UUID)

    (sighting,) = check_identifiers(builder.history)

    assert (sighting.rule, sighting.victim, sighting.observer) == (
        "identifier-collision",
        0,
        1,
    )


@pytest.mark.parametrize(
    ("first", "second"), [("1", "1"), ("shopping", "shopping"), (UUID, UUID[::-1])]
)
def test_identifiers_counted_per_user_are_silent(first: str, second: str) -> None:
    """Short identifiers may repeat between users by design."""
    builder = Builder()
    builder.op(0, "POST /lists", created_id=first)
    builder.op(1, "POST /lists", created_id=second)

    assert list(check_identifiers(builder.history)) == []


@pytest.mark.power
def test_second_success_of_once_is_caught() -> None:
    """Of equal requests that may succeed once, two successes are one sighting."""
    builder = Builder()
    builder.op(0, "POST /refresh", once="g")
    builder.op(0, "POST /refresh", once="g")
    builder.op(0, "POST /refresh", once="g", outcome="fail", status=401)

    (sighting,) = check_once(builder.history)

    assert sighting.rule == "acted-more-than-once"


def test_one_success_of_once_is_silent() -> None:
    """One winner and any number of refusals is how it should be."""
    builder = Builder()
    builder.op(0, once="g")
    for _ in range(3):
        builder.op(0, once="g", outcome="fail", status=401)
    builder.op(1, once="h")

    assert list(check_once(builder.history)) == []


@pytest.mark.power
@pytest.mark.parametrize(
    "fields",
    [
        {"outcome": "info", "status": 500},
        {"outcome": "info", "status": None, "error": "timeout"},
        {"outcome": "info", "status": None, "error": "disconnected"},
    ],
)
def test_undisturbed_failure_is_caught(fields: dict[str, Any]) -> None:
    """A request that nobody disturbed must be answered."""
    builder = Builder()
    builder.op(0, **fields)

    assert [s.rule for s in check_bystanders(builder.history)] == ["bystander-failed"]


@pytest.mark.parametrize(
    "fields",
    [
        {"outcome": "fail", "status": 404},
        {"outcome": "info", "status": None, "error": "cancelled", "disturbed": True},
        {"outcome": "info", "status": 502, "shape": "error-paths"},
    ],
)
def test_refusals_and_own_cuts_are_silent(fields: dict[str, Any]) -> None:
    """A refusal is an answer, and what we cut or provoke is no finding."""
    builder = Builder()
    builder.op(0, **fields)

    assert list(check_bystanders(builder.history)) == []


@pytest.mark.power
@pytest.mark.parametrize(
    ("kind", "rule"), [("expectation", "own-data-wrong"), ("timeout", "event-lost")]
)
def test_complaint_of_the_workload_is_named(kind: str, rule: str) -> None:
    """A broken expectation and a wait in vain have one rule each."""
    builder = Builder()
    operation = builder.op(0)
    builder.history.add(
        ComplaintRecord(0, "own-connections", kind, "my note is gone", operation.index)  # type: ignore[arg-type]  # the kinds above
    )

    (sighting,) = check_expectations(builder.history)

    assert sighting.rule == rule
    assert "my note is gone" in sighting.evidence[-1]


def test_request_without_an_answer_is_no_lost_event() -> None:
    """A request that ran into its time limit is told once, as what it is."""
    builder = Builder()
    operation = builder.op(0, outcome="info", status=None, error="timeout")
    builder.history.add(
        ComplaintRecord(0, "own-connections", "timeout", "ReadTimeout", operation.index)
    )

    assert list(check_expectations(builder.history)) == []
    assert [s.rule for s in check_bystanders(builder.history)] == ["bystander-failed"]


def test_error_of_the_workload_is_no_finding() -> None:
    """A workload that fails by itself proves nothing about the service."""
    builder = Builder()
    builder.history.add(ComplaintRecord(0, "s", "error", "KeyError: 'x'", None))

    assert list(check_expectations(builder.history)) == []


@pytest.mark.power
def test_residue_is_a_finding() -> None:
    """What stays after everybody has left is named with its count."""
    builder = Builder()
    builder.history.add(ResidueRecord("http", "task", "Hub.send", 40))

    (sighting,) = check_residue(builder.history)

    assert (sighting.rule, sighting.count) == ("left-behind", 40)


def test_nothing_is_residue_when_nobody_has_left() -> None:
    """A run that was broken off never came to its end: its users are still there."""
    builder = Builder()
    builder.history.add(ResidueRecord("http", "task", "Hub.send", 40))
    builder.history.add(EndRecord(ended_ns=1, complete=False, reason="interrupted"))

    assert list(check_residue(builder.history)) == []
