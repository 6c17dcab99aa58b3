"""Event streams: sorting agrees with a look at every pair, and names what went wrong."""

import random
from dataclasses import replace
from typing import Any

import pytest

from test_framework.check.linear import Call
from test_framework.check.streams import Delivery, Publication, check_streams
from test_framework.core import UsageError

HISTORIES = 1500


def draw(rng: random.Random) -> tuple[list[Publication], list[Delivery]]:
    """Draw events of two producers and what two streams made of them."""
    published = []
    for number in range(rng.randrange(1, 7)):
        begin = 4 * number + rng.randrange(4)
        published.append(
            Publication(
                number,
                rng.choice("PQ"),
                begin,
                begin + rng.randrange(6) if rng.random() < 0.9 else None,
                rng.choice((None, None, ("alice",), ("alice", "bob"))),
            )
        )
    delivered = []
    for recipient in ("alice", "bob"):
        at = 0
        for number in range(len(published)):
            audience = published[number].recipients
            if (audience is None or recipient in audience) and rng.random() < 0.9:
                at += 10
                jitter = rng.choice((0, 0, 0, 0, -11))
                delivered.append(Delivery(number, recipient, 100 + at + jitter))
    if rng.random() < 0.3 and delivered:
        one = rng.choice(delivered)
        change = rng.choice(
            ({"event": 99}, {"at": one.at + 1}, {"recipient": "bob", "at": one.at + 1})
        )
        delivered.append(replace(one, **change))
    return published, delivered


def wrong_with(published: list[Publication], delivered: list[Delivery]) -> set[str]:
    """Look at every pair of deliveries, and every event of every stream."""
    found = set()
    by_name = {one.event: one for one in published}
    ordered = sorted(delivered, key=lambda one: one.at)
    for got in ordered:
        event = by_name.get(got.event)
        if event is None:
            found.add("phantom event")
        elif event.recipients is not None and got.recipient not in event.recipients:
            found.add("delivery to a stranger")
    for at, one in enumerate(ordered):
        for two in ordered[at + 1 :]:
            if one.recipient != two.recipient:
                continue
            if one.event == two.event and one.event in by_name:
                found.add("duplicate delivery")
            first, second = by_name.get(one.event), by_name.get(two.event)
            if first and second and precedes(second, first):
                found.add("reordered delivery")
    for recipient in {one.recipient for one in ordered}:
        own = [by_name.get(one.event) for one in ordered if one.recipient == recipient]
        for event in published:
            is_owed = event.recipients is None or recipient in event.recipients
            if is_owed and event not in own:
                before = any(one and precedes(one, event) for one in own)
                after = any(one and precedes(event, one) for one in own)
                if before and after:
                    found.add("lost event")
    return found


def precedes(one: Publication, two: Publication) -> bool:
    """Whether one was out before the same producer began with the other."""
    if one.producer != two.producer or one.completed is None:
        return False
    return one.completed < two.invoked


@pytest.mark.slow
def test_sorting_agrees_with_every_pair() -> None:
    """On small histories what is found is what brute force finds.

    Fixed seeds. A defect that shows in one history of three hundred is missed with a
    chance of (299 / 300) ** 1500, under one in a hundred.
    """
    seen: set[str] = set()
    for seed in range(HISTORIES):
        published, delivered = draw(random.Random(seed))
        if not delivered:
            continue

        checked = check_streams(published, delivered)

        assert {one.name for one in checked.anomalies} == wrong_with(
            published, delivered
        ), seed
        seen |= {one.name for one in checked.anomalies}
    assert seen == {
        "phantom event",
        "delivery to a stranger",
        "duplicate delivery",
        "reordered delivery",
        "lost event",
    }


EVENTS = [
    Publication("one", "api", 0, 1, ("alice",)),
    Publication("two", "api", 2, 3, ("alice",), "thread", 5),
    Publication("three", "api", 4, 5, ("alice",)),
]
CAME = [Delivery(one.event, "alice", 10 * n) for n, one in enumerate(EVENTS)]


def test_sound_stream_is_left_alone() -> None:
    """All events, once, in order."""
    checked = check_streams(EVENTS, CAME)

    assert (checked.verdict, checked.facts["deliveries"]) == ("valid", 3)


@pytest.mark.parametrize(
    ("delivered", "name", "words"),
    [
        ([*CAME, Delivery("four", "alice", 99)], "phantom event", "nobody published"),
        (
            [*CAME, Delivery("two", "bob", 99)],
            "delivery to a stranger",
            "was published for 'alice', but it came to 'bob'",
        ),
        ([*CAME, replace(CAME[1], at=99)], "duplicate delivery", "twice on one stream"),
        (
            [CAME[0], CAME[2], replace(CAME[1], at=99)],
            "reordered delivery",
            "'two' was out before 'three' was published",
        ),
        ([CAME[0], CAME[2]], "lost event", "'two' never came to 'alice'"),
        (
            [CAME[0], replace(CAME[2], connection=2)],
            "gap on resume",
            "on a connection that resumed the stream",
        ),
    ],
)
def test_broken_stream_is_told(
    delivered: list[Delivery], name: str, words: str
) -> None:
    """Each defect has its name and its witness."""
    checked = check_streams(EVENTS, delivered)

    found = {one.name: one for one in checked.anomalies}
    assert checked.verdict == "invalid"
    assert words in found[name].claim
    assert all(
        max(link.source, link.target) < len(found[name].items)
        for link in found[name].links
    )


def test_two_streams_of_one_recipient_are_two() -> None:
    """An event on both is no duplicate; each is owed all that lies between."""
    second = [replace(one, stream="tablet", at=one.at + 1) for one in CAME]

    both = check_streams(EVENTS, [*CAME, *second])
    with_gap = check_streams(EVENTS, [*CAME, second[0], second[2]])

    assert both.verdict == "valid"
    assert [one.name for one in with_gap.anomalies] == ["lost event"]


@pytest.mark.parametrize(
    ("read", "is_behind"),
    [
        (Call("alice", "read", None, 4, 11, 12, "thread"), True),
        (Call("alice", "read", None, None, 11, 12, "thread"), True),
        (Call("alice", "read", None, 5, 11, 12, "thread"), False),
        (Call("alice", "read", None, 4, 9, 12, "thread"), False),
        (Call("alice", "read", None, 4, 11, None, "thread"), False),
        (Call("bob", "read", None, 4, 11, 12, "thread"), False),
        (Call("alice", "read", None, 4, 11, 12, "other"), False),
    ],
)
def test_event_that_comes_before_its_write_is_told(
    read: Call, *, is_behind: bool
) -> None:
    """Who was told of a version must not read an older one afterwards."""
    beside = Call("carol", "read", None, 1, 0, 1, "thread")

    checked = check_streams(EVENTS, CAME, [beside, read])

    assert [one.name for one in checked.anomalies] == ["premature event"] * is_behind


def test_what_cannot_be_judged_gets_a_sentence() -> None:
    """Two events of one name; a version that is none; nothing at all."""
    with pytest.raises(UsageError, match="'one' was published twice"):
        check_streams([EVENTS[0], EVENTS[0]], CAME)
    wrong: Any = Call("alice", "read", None, "v1", 11, 12, "thread")
    with pytest.raises(UsageError, match="tells no version"):
        check_streams(EVENTS, CAME, [wrong])
    assert check_streams(EVENTS, []).verdict == "unknown"
