"""Seeds, verdicts, errors, the clock and derived values."""

import itertools

import pytest

from test_framework.core import (
    InternalError,
    MonotonicClock,
    Operation,
    Verdict,
    fresh_seed,
    merge,
    stream,
)


def test_stream_repeats_for_a_seed() -> None:
    """The same seed and names draw the same numbers; another seed draws others."""
    first = stream(7, "user", 3).random()

    assert stream(7, "user", 3).random() == first
    assert stream(8, "user", 3).random() != first


def test_stream_tells_names_apart() -> None:
    """No two lists of names share a stream, whatever characters they hold."""
    names: list[tuple[str | int, ...]] = [
        ("a/b",),
        ("a", "b"),
        ("a", "b", ""),
        ("7",),
        (7,),
        (),
    ]

    drawn = {stream(1, *several).random() for several in names}

    assert len(drawn) == len(names)


def test_fresh_seeds_differ() -> None:
    """Seeds nobody asked for are not repeated.

    Eight draws of 32 bits collide once in 150 million runs (28 pairs / 2**32).
    """
    assert len({fresh_seed() for _ in range(8)}) == 8


def test_merge_keeps_the_worst() -> None:
    """Invalid beats unknown beats valid, in any order; nothing at all is unknown."""
    ordered = [Verdict.VALID, Verdict.UNKNOWN, Verdict.INVALID]

    for pair in itertools.product(ordered, repeat=2):
        assert merge(pair) == max(pair, key=ordered.index)
    assert merge([]) == Verdict.UNKNOWN


def test_exit_codes_are_those_documented() -> None:
    """Valid is 0, invalid 1, unknown 3; 2 and 4 belong to errors."""
    assert [verdict.exit_code for verdict in Verdict] == [0, 3, 1]


@pytest.mark.parametrize(("seed", "words"), [(None, ""), (7, " The seed was 7.")])
def test_internal_error_asks_for_a_report(seed: int | None, words: str) -> None:
    """Our own defects say so and carry the seed that shows them."""
    error = InternalError("Two starts.", seed=seed)

    assert str(error) == (
        "Two starts. This is a defect of isolation-audit, not of your service."
        f"{words} Please report it with this line."
    )


def test_clock_never_runs_backwards() -> None:
    """Later readings are not smaller."""
    clock = MonotonicClock()

    readings = [clock.now_ns() for _ in range(100)]

    assert readings == sorted(readings)


def test_latency_ends_with_the_answer() -> None:
    """Latency counts from the last byte sent to the end of the answer."""
    operation = Operation(1, 0, "http", "GET /", "/", "s", 10, 20, 35, "ok")

    assert operation.latency_ns == 25
