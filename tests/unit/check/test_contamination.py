"""Contamination: what is one user's is seen by nobody else."""

from typing import Any

import pytest

from test_framework.check import check_contamination
from test_framework.core import (
    VISITOR,
    CanaryRecord,
    Observation,
    PolicyRecord,
)
from tests.unit.check.builder import Builder, canary, seen


def rules(builder: Builder) -> list[str]:
    """Return the rules of all sightings."""
    return [sighting.rule for sighting in check_contamination(builder.history)]


def test_own_canaries_are_no_sighting() -> None:
    """A user may see everything it planted, anywhere."""
    builder = Builder()
    builder.op(0, seen=(seen(0), seen(0, where="header x-a"), seen(0, where="cookie")))

    assert rules(builder) == []


@pytest.mark.power
@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"seen": (seen(1),)}, "foreign-canary-in-response"),
        ({"seen": (seen(1, where="header x-user"),)}, "foreign-canary-in-header"),
        ({"seen": (seen(1, where="cookie"),)}, "foreign-canary-in-cookie"),
        (
            {"seen": (seen(1),), "status": 404, "outcome": "fail"},
            "foreign-canary-in-error",
        ),
        (
            {"seen": (seen(1),), "status": 500, "outcome": "info"},
            "foreign-canary-in-error",
        ),
        ({"seen": (seen(1),), "cached": True}, "cached-for-another"),
        ({"seen": (seen(1),), "channel": "websocket"}, "foreign-canary-in-event"),
    ],
)
def test_foreign_canary_is_named_by_place(fields: dict[str, Any], rule: str) -> None:
    """Where a foreign canary stood decides the rule."""
    builder = Builder()
    builder.op(0, **fields)

    assert rules(builder) == [rule]


@pytest.mark.power
def test_visitor_may_see_nobodys_canary() -> None:
    """A request without identity owns nothing."""
    builder = Builder()
    builder.op(VISITOR, seen=(seen(1),))

    assert rules(builder) == ["canary-shown-to-visitor"]


def test_public_canary_and_endpoint_are_silent() -> None:
    """What the audit declares as shared may be seen by all."""
    builder = Builder()
    builder.history.add(CanaryRecord(canary(1, 7), 1, "headline", public=True))
    builder.history.add(PolicyRecord(public=("GET /news",)))
    builder.op(0, seen=(seen(1, 7),))
    builder.op(0, "GET /news", seen=(seen(1),))

    assert rules(builder) == []


def test_echo_of_the_request_is_silent() -> None:
    """What an operation sent may come back to it."""
    builder = Builder()
    builder.op(0, planted=(canary(1),), seen=(seen(1),))

    assert rules(builder) == []


def test_witness_names_writer_and_reader() -> None:
    """The proof quotes the operation that wrote and the one that read."""
    builder = Builder()
    write = builder.op(1, "POST /notes", planted=(canary(1),))
    read = builder.op(0, seen=(seen(1),))

    (sighting,) = check_contamination(builder.history)

    assert (sighting.victim, sighting.observer) == (1, 0)
    assert (sighting.planted_by, sighting.operation) == (write.index, read.index)
    assert f"op {write.index}  user-01  POST /notes" in sighting.evidence[0]
    assert f"op {read.index}  user-00  GET /notes" in sighting.evidence[1]


@pytest.mark.power
def test_borrowed_request_is_told_as_such() -> None:
    """Who asked as whom stands in the claim; its cause is apart from shared state."""
    builder = Builder(3)
    builder.op(
        0,
        "GET /notes/{id}",
        path="/notes/17",
        borrowed_from=1,
        seen=(seen(1), seen(2)),
    )

    asked, shared = check_contamination(builder.history)

    assert asked.rule == "foreign-canary-in-response"
    assert asked.claim == (
        "user-00 asked for what user-01 had asked for: GET /notes/17 -> 200 with a "
        "canary of user-01"
    )
    assert 'PUBLIC = ["GET /notes/{id}"]' in asked.fix
    assert shared.claim == "user-00 saw a canary of user-02 (note)"
    assert shared.fix == ""
    assert asked.cause != shared.cause


def test_borrowed_request_that_shows_nothing_is_silent() -> None:
    """An answer without the other's canary is nothing, whatever its status."""
    builder = Builder()
    builder.op(0, borrowed_from=1, seen=(seen(0),))

    assert rules(builder) == []


@pytest.mark.power
@pytest.mark.parametrize(
    ("channel", "rule"),
    [
        ("postgres", "row-under-wrong-owner"),
        ("redis", "key-under-wrong-owner"),
        ("pubsub", "message-on-wrong-channel"),
        ("log", "log-names-another-user"),
    ],
)
def test_stored_canary_under_another_owner_is_named(channel: str, rule: str) -> None:
    """A place that names one user and holds another's canary is misplaced."""
    builder = Builder()
    builder.history.add(
        Observation(channel, "notes", "row 1", names=(0,), seen=(seen(1),))  # type: ignore[arg-type]  # the channels above
    )

    assert rules(builder) == [rule]


@pytest.mark.parametrize("names", [(), (1,), (0, 1)])
def test_stored_canary_of_a_named_user_is_silent(names: tuple[int, ...]) -> None:
    """A place that names its owner, both parties, or nobody proves nothing."""
    builder = Builder()
    builder.history.add(
        Observation("postgres", "notes", "row 1", names=names, seen=(seen(1),))
    )

    assert rules(builder) == []
