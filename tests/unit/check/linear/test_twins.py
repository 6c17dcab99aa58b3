"""Each kind of object has a broken history that is caught, and a sound one beside it."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from test_framework.check.linear import (
    MODELS,
    Call,
    CasRegister,
    Counter,
    DistinctSet,
    Lease,
    Mutex,
    Queue,
    check_linearizability,
    guess_model,
)
from test_framework.core import UsageError

Row = tuple[str, str, Any, Any, int, int | None]
"""Process, kind, argument, result, invoked, completed."""


def calls_of(rows: Sequence[Row]) -> list[Call]:
    """Return calls on one object."""
    return [Call(*row, "it", index) for index, row in enumerate(rows)]


TWINS: list[tuple[str, Any, list[Row], int, dict[str, Any], str]] = [
    (
        "two holders at one time",
        Mutex(),
        [
            ("alice", "acquire", None, "ok", 0, 1),
            ("bob", "acquire", None, "ok", 2, 3),
            ("alice", "release", None, "ok", 4, 5),
            ("bob", "release", None, "ok", 6, 7),
        ],
        1,
        {"completed": 5},
        "lock held twice",
    ),
    (
        "a lock that was never released",
        Mutex(),
        [
            ("alice", "acquire", None, "ok", 0, 1),
            ("bob", "acquire", None, "ok", 2, 3),
        ],
        1,
        {"completed": None},
        "lock held twice",
    ),
    (
        "one token for two leases",
        Lease(),
        [
            ("alice", "acquire", None, 1, 0, 1),
            ("bob", "acquire", None, 1, 2, 3),
        ],
        1,
        {"result": 2},
        "duplicate token",
    ),
    (
        "a lower token for a later lease",
        Lease(),
        [
            ("alice", "acquire", None, 5, 0, 1),
            ("bob", "acquire", None, 4, 2, 3),
        ],
        1,
        {"result": 6},
        "token out of order",
    ),
    (
        "an expired lease that still acts",
        Lease(),
        [
            ("alice", "acquire", None, 1, 0, 1),
            ("bob", "acquire", None, 2, 2, 3),
            ("bob", "act", 2, "ok", 4, 5),
            ("alice", "act", 1, "ok", 6, 7),
        ],
        3,
        {"invoked": 5},
        "expired lease acted",
    ),
    (
        "a token that nobody was granted",
        Lease(),
        [
            ("alice", "acquire", None, 1, 0, 1),
            ("bob", "act", 2, "ok", 2, 3),
        ],
        1,
        {"argument": 1},
        "phantom token",
    ),
    (
        "a duplicate ticket",
        Counter(),
        [
            ("alice", "increment", None, 1, 0, 9),
            ("bob", "increment", None, 1, 0, 9),
        ],
        1,
        {"result": 2},
        "lost update",
    ),
    (
        "a counter that counts what nobody asked for",
        Counter(),
        [
            ("alice", "increment", None, 1, 0, 1),
            ("bob", "increment", None, 3, 2, 3),
        ],
        1,
        {"result": 2},
        "over-count",
    ),
    (
        "a missing increment that was asked for too late",
        Counter(),
        [
            ("alice", "read", None, 1, 0, 3),
            ("bob", "increment", None, None, 4, None),
        ],
        1,
        {"invoked": 3},
        "over-count",
    ),
    (
        "a count from before the last one",
        Counter(),
        [
            ("alice", "increment", None, 1, 0, 1),
            ("bob", "read", None, 0, 2, 3),
        ],
        1,
        {"invoked": 1},
        "stale read",
    ),
    (
        "a count below the initial one",
        Counter(5),
        [("bob", "read", None, 4, 2, 3)],
        0,
        {"result": 5},
        "phantom read",
    ),
    (
        "a message delivered twice",
        Queue(),
        [
            ("alice", "enqueue", "m", "ok", 0, 1),
            ("bob", "dequeue", None, "m", 2, 3),
            ("carol", "dequeue", None, "m", 4, 5),
        ],
        2,
        {"result": None},
        "duplicate delivery",
    ),
    (
        "messages out of order",
        Queue(),
        [
            ("alice", "enqueue", "first", "ok", 0, 1),
            ("alice", "enqueue", "second", "ok", 2, 3),
            ("bob", "dequeue", None, "second", 4, 5),
            ("bob", "dequeue", None, "first", 6, 7),
        ],
        3,
        {"invoked": 5},
        "out of order",
    ),
    (
        "a message that stayed behind",
        Queue(),
        [
            ("alice", "enqueue", "first", "ok", 0, 1),
            ("alice", "enqueue", "second", "ok", 2, 3),
            ("bob", "dequeue", None, "second", 4, 5),
        ],
        2,
        {"result": "first"},
        "lost value",
    ),
    (
        "a queue that was never empty found empty",
        Queue(),
        [
            ("alice", "enqueue", 1, "ok", 0, 2),
            ("alice", "enqueue", 2, "ok", 3, 5),
            ("bob", "dequeue", None, 1, 8, 9),
            ("carol", "dequeue", None, None, 6, 12),
            ("bob", "dequeue", None, 2, 13, 14),
        ],
        4,
        {"invoked": 12},
        "lost value",
    ),
    (
        "a message out of nowhere",
        Queue(),
        [("bob", "dequeue", None, "m", 2, 3)],
        0,
        {"result": None},
        "phantom value",
    ),
    (
        "a message before it was sent",
        Queue(),
        [
            ("bob", "dequeue", None, "m", 0, 1),
            ("alice", "enqueue", "m", "ok", 2, 3),
        ],
        1,
        {"invoked": 1},
        "read from the future",
    ),
    (
        "an element that was lost",
        DistinctSet(),
        [
            ("alice", "add", 1, True, 0, 1),
            ("bob", "contains", 1, False, 2, 3),
        ],
        1,
        {"result": True},
        "lost element",
    ),
    (
        "an element out of nowhere",
        DistinctSet(),
        [("bob", "contains", 1, True, 2, 3)],
        0,
        {"result": False},
        "phantom element",
    ),
    (
        "an element before it was added",
        DistinctSet(),
        [
            ("bob", "remove", 1, True, 0, 1),
            ("alice", "add", 1, True, 2, 3),
        ],
        1,
        {"invoked": 1},
        "read from the future",
    ),
    (
        "two reads that saw two adds in two orders",
        DistinctSet(),
        [
            ("alice", "add", 1, "ok", 0, 9),
            ("bob", "add", 2, "ok", 0, 9),
            ("carol", "read", None, frozenset({1}), 0, 9),
            ("dave", "read", None, frozenset({2}), 0, 9),
        ],
        3,
        {"result": frozenset({1, 2})},
        "long fork",
    ),
    (
        "a read that lacks what had been added",
        DistinctSet(),
        [
            ("alice", "add", 1, "ok", 0, 1),
            ("bob", "read", None, frozenset(), 2, 3),
        ],
        1,
        {"invoked": 1},
        "lost element",
    ),
    (
        "a smaller set after a larger one",
        DistinctSet(),
        [
            ("alice", "add", 1, "ok", 0, 9),
            ("bob", "read", None, frozenset({1}), 1, 2),
            ("carol", "read", None, frozenset(), 3, 4),
        ],
        2,
        {"invoked": 2},
        "stale read",
    ),
]


@pytest.mark.parametrize(
    ("model", "rows", "at", "repair", "name"),
    [pytest.param(*twin[1:], id=twin[0]) for twin in TWINS],
)
def test_broken_history_is_caught_and_its_twin_is_not(
    model: Any,  # noqa: ANN401  # one of several
    rows: list[Row],
    at: int,
    repair: dict[str, Any],
    name: str,
) -> None:
    """One call of the two differs; the search agrees with sorting on both."""
    broken = calls_of(rows)
    sound = [*broken[:at], replace(broken[at], **repair), *broken[at + 1 :]]

    found = check_linearizability(broken, model)

    assert [one.name for one in found.anomalies] == [name]
    assert "searched" not in found.facts
    assert all(link.source != link.target for link in found.anomalies[0].links)
    assert check_linearizability(sound, model).verdict == "valid"
    for calls, verdict in ((broken, "invalid"), (sound, "valid")):
        searched = check_linearizability(calls, model, only_search=True)
        assert searched.verdict == verdict


def test_no_calls_prove_nothing() -> None:
    """An empty history is not a good one."""
    assert check_linearizability([], Mutex()).verdict == "unknown"


def test_failed_swap_is_searched_after_sorting() -> None:
    """What sorting cannot decide is handed on; the rest of the history is not."""
    calls = calls_of(
        [
            ("alice", "write", 1, "ok", 0, 1),
            ("bob", "cas", (2, 3), False, 2, 3),
        ]
    )

    checked = check_linearizability(calls, CasRegister())

    assert (checked.verdict, checked.facts) == ("valid", {"calls": 2, "searched": 1})


@pytest.mark.parametrize("name", MODELS)
def test_garbage_gets_a_verdict_or_a_sentence(name: str) -> None:
    """Whatever was recorded, a checker answers or says what is wrong with it."""
    kinds = {
        "register": ["read", "write"],
        "cas-register": ["read", "write", "cas"],
        "key-value": ["get", "put", "append"],
        "counter": ["increment", "add", "read"],
        "mutex": ["acquire", "release"],
        "lease": ["acquire", "release", "act"],
        "set": ["add", "remove", "contains", "read"],
        "queue": ["enqueue", "dequeue"],
    }[name]
    values: list[Any] = [
        None,
        0,
        1,
        -1,
        True,
        "",
        "x",
        (1, 2),
        frozenset(),
        1 << 80,
        2.5,
        [1],
        {},
    ]
    rng = random.Random(name)
    answered = 0
    for _ in range(400):
        own = rng.sample(values, rng.choice((1, 2, len(values))))
        calls = []
        for index in range(rng.randrange(6)):
            invoked = rng.choice((0, 5, -7, 1 << 62))
            completed = rng.choice((None, invoked, invoked + 5, invoked - 1 + index))
            calls.append(
                Call(
                    rng.choice("ab"),
                    rng.choice(kinds),
                    rng.choice(own),
                    rng.choice(own),
                    invoked,
                    completed,
                    rng.choice((None, "k")),
                    index,
                )
            )
        try:
            checked = check_linearizability(calls, MODELS[name]())
            searched = check_linearizability(calls, MODELS[name](), only_search=True)
        except UsageError as exc:
            assert "Call " in str(exc)  # noqa: PT017  # either is right
        else:
            assert checked.verdict == searched.verdict
            answered += 1
    assert answered > 40


def test_counter_of_jepsen_tells_nothing_when_it_adds() -> None:
    """Its ``add`` completes with what was added; only reads tell."""
    calls = calls_of(
        [
            ("alice", "add", 2, 2, 0, 1),
            ("bob", "add", 3, 3, 0, 1),
            ("carol", "read", None, 5, 2, 3),
        ]
    )
    wrong = [*calls[:2], replace(calls[2], result=4)]

    assert guess_model(calls) == "counter"
    assert check_linearizability(calls, Counter()).verdict == "valid"
    assert check_linearizability(wrong, Counter()).verdict == "invalid"


def test_model_is_guessed_by_its_operations() -> None:
    """Each history above is known for what it is, or for a model that has as much."""
    guessed = {guess_model(calls_of(rows)) for _, _, rows, *_ in TWINS}

    assert guessed == {"mutex", "lease", "counter", "queue", "set", "register"}
    assert all(MODELS[name]().initial is not NotImplemented for name in guessed)
    with pytest.raises(UsageError, match="No model has the operations fly"):
        guess_model(calls_of([("alice", "fly", None, None, 0, 1)]))
