"""Linearizability: the search agrees with trying every order, and keeps its limits."""

import random
import tracemalloc
from dataclasses import replace

import pytest

from test_framework.check.linear import (
    ILLEGAL,
    Call,
    CasRegister,
    KeyValue,
    Limits,
    Mutex,
    Queue,
    Register,
    check_linearizability,
)
from test_framework.core import UsageError, Verdict
from tests.unit.check.linear.drawing import draw_calls, is_linearizable

HISTORIES = 1500


def call(  # one argument per field of a call
    process: str,
    kind: str,
    argument: object,
    result: object,
    invoked: int,
    completed: int | None,
    key: object = None,
) -> Call:
    """Return a call."""
    return Call(process, kind, argument, result, invoked, completed, key)


@pytest.mark.slow
def test_search_agrees_with_every_order() -> None:
    """On small histories the verdict is that of brute force.

    Fixed seeds. A defect that shows in one history of a hundred is missed with a
    chance of 0.99 ** 1500, under one in a million.
    """
    verdicts = set()
    for seed in range(HISTORIES):
        calls = draw_calls(random.Random(seed), count=2 + seed % 5)
        expected = is_linearizable(CasRegister(), calls)

        judged = check_linearizability(calls, CasRegister(), only_search=True)

        assert judged.verdict is (Verdict.VALID if expected else Verdict.INVALID), seed
        verdicts.add(judged.verdict)
    assert verdicts == {Verdict.VALID, Verdict.INVALID}


def test_stale_read_is_caught_and_an_overlapping_one_is_not() -> None:
    """A read after a write must see it; one beside it need not."""
    write = call("alice", "write", 1, "ok", 0, 10)
    stale = call("bob", "read", None, None, 11, 12)
    beside = call("bob", "read", None, None, 5, 12)

    assert check_linearizability([write, stale], Register()).verdict == "invalid"
    assert check_linearizability([write, beside], Register()).verdict == "valid"


def test_witness_names_the_call_that_cannot_be() -> None:
    """What may stand in an order is told, and the call that does not fit."""
    calls = [
        call("alice", "write", 1, "ok", 0, 1),
        call("bob", "read", None, 1, 2, 3),
        call("carol", "read", None, None, 4, 5),
        call("dave", "write", 2, "ok", 6, 7),
        call("erin", "read", None, 2, 8, 9),
    ]

    judged = check_linearizability(calls, Register(), only_search=True)

    (found,) = judged.anomalies
    assert [item.text for item in found.items] == [
        "alice: write(1) -> 'ok'",
        "carol: read() -> None",
    ]
    assert found.claim.startswith("b cannot have answered so: no order of these calls")
    assert [link.kind for link in found.links] == ["stuck"]


@pytest.mark.parametrize("seed", range(40))
def test_witness_is_small_and_wrong_by_itself(seed: int) -> None:
    """No call of it can be left out alone, and the rest of the history adds nothing."""
    rng = random.Random(seed)
    calls = draw_calls(rng, count=6)
    while is_linearizable(CasRegister(), calls):
        calls = draw_calls(rng, count=6)

    judged = check_linearizability(calls, CasRegister(), only_search=True)

    (found,) = judged.anomalies
    by_index = {one.index: one for one in calls}
    # What was not over when the contradiction was complete is of unknown outcome.
    kept = [replace(by_index[one.index], completed=one.end) for one in found.items]
    assert not is_linearizable(CasRegister(), kept)
    reads = [one for one in kept if CasRegister().is_read(one)]
    assert all(
        is_linearizable(CasRegister(), [one for one in kept if one is not read])
        for read in reads
    )


def test_unknown_outcome_may_take_effect_late_or_never() -> None:
    """A write that timed out explains a later read of its value, and of the old one."""
    lost = call("alice", "write", 1, None, 0, None)
    for seen in (None, 1):
        read = call("bob", "read", None, seen, 50, 60)
        assert check_linearizability([lost, read], Register()).verdict == "valid"
    again = call("bob", "read", None, None, 70, 80)
    read = call("bob", "read", None, 1, 50, 60)

    assert check_linearizability([lost, read, again], Register()).verdict == "invalid"


def test_objects_are_judged_one_by_one() -> None:
    """The key that is wrong is named."""
    calls = [
        call("alice", "put", "x", None, 0, 1, "good"),
        call("bob", "get", None, "x", 2, 3, "good"),
        call("bob", "get", None, "x", 4, 5, "bad"),
    ]

    judged = check_linearizability(calls, KeyValue())

    (found,) = judged.anomalies
    assert "on 'bad' explains every result" in found.claim
    assert [item.text for item in found.items] == ["bob: 'bad'.get() -> 'x'"]


def test_lock_held_twice_is_caught() -> None:
    """Two holders at one time have no order; two in turn have one."""
    both = [
        call("alice", "acquire", None, "ok", 0, 1),
        call("bob", "acquire", None, "ok", 2, 3),
        call("alice", "release", None, "ok", 4, 5),
        call("bob", "release", None, "ok", 6, 7),
    ]
    in_turn = [both[0], both[2], call("bob", "acquire", None, "ok", 5, 8)]

    assert check_linearizability(both, Mutex()).verdict == "invalid"
    assert check_linearizability(in_turn, Mutex()).verdict == "valid"


def hard(count: int) -> list[Call]:
    """Return overlapping calls on a queue, and one that found what nobody put in."""
    calls = [
        call(f"e{n}", "enqueue", n, "ok", n % 7, 10_000 + n % 5) for n in range(count)
    ]
    return [*calls, call("d", "dequeue", None, -1, 0, 20_000)]


def test_memory_limit_ends_in_unknown() -> None:
    """What would remember too much is not decided."""
    judged = check_linearizability(
        hard(40), Queue(), limits=Limits(memory_bytes=2_000_000), only_search=True
    )

    assert judged.verdict is Verdict.UNKNOWN
    assert "2,000,000 bytes" in judged.reason


@pytest.mark.slow
def test_memory_that_a_search_takes_is_what_it_counts() -> None:
    """The limit is one of real bytes: the peak is near it, and not above."""
    limit = 16_000_000
    tracemalloc.start()
    try:
        judged = check_linearizability(
            hard(40), Queue(), limits=Limits(memory_bytes=limit), only_search=True
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert judged.verdict is Verdict.UNKNOWN
    assert limit / 4 < peak < limit * 1.1


class JumpingClock:
    """Tells that a minute has passed each time it is asked."""

    def __init__(self) -> None:
        self._now_ns = 0

    def now_ns(self) -> int:
        """Return the time."""
        self._now_ns += 60_000_000_000
        return self._now_ns


def test_time_limit_ends_in_unknown() -> None:
    """What would take too long is not decided."""
    judged = check_linearizability(
        hard(40),
        Queue(),
        limits=Limits(seconds=30),
        clock=JumpingClock(),
        only_search=True,
    )

    assert judged.verdict is Verdict.UNKNOWN
    assert "within 30 s" in judged.reason


def test_call_that_ends_before_it_begins_is_refused() -> None:
    """Two clocks in one history would make any verdict."""
    with pytest.raises(UsageError, match="before it begins at 5"):
        check_linearizability([call("a", "read", None, None, 5, 4)], Register())


def test_call_that_the_model_does_not_know_is_refused() -> None:
    """A misspelt operation is no operation."""
    with pytest.raises(UsageError, match="Mutex has no operation 'aquire'"):
        check_linearizability([call("a", "aquire", None, "ok", 0, 1)], Mutex())


@pytest.mark.parametrize("limits", [{"seconds": 0}, {"memory_bytes": -1}])
def test_limits_below_nothing_are_refused(limits: dict[str, int]) -> None:
    """A limit of nothing would decide nothing."""
    with pytest.raises(UsageError, match="must be above 0"):
        Limits(**limits)


class TicketRegister(Register):
    """A register that also counts, written by somebody who knows only ``step``."""

    def step(self, state: object, call: Call) -> object:
        """Step over ``next`` as well, which returns the new value."""
        if call.kind == "next":
            value = int(str(state)) + 1
            return value if call.result == value else ILLEGAL
        return super().step(state, call)


@pytest.mark.parametrize(("read", "verdict"), [(2, "valid"), (3, "invalid")])
def test_model_of_ones_own_is_not_judged_by_its_base(read: int, verdict: str) -> None:
    """What a base foresees is not asked where a class steps in another way."""
    calls = [
        call("a", "next", None, 1, 0, 1),
        call("a", "next", None, 2, 2, 5),
        call("b", "read", None, read, 3, 4),
    ]

    assert str(check_linearizability(calls, TicketRegister(0)).verdict) == verdict
