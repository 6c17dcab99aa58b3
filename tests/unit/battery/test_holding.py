"""Histories of locks are judged: holds, waits, order of arrival, fencing tokens."""

import itertools
import random

import pytest

from test_framework.battery.holding import (
    check_exclusion,
    check_fairness,
    check_fencing,
    check_progress,
    holds_of,
)
from test_framework.battery.journal import Pending
from test_framework.battery.patience import Hang
from test_framework.check.linear import Call, Mutex, check_linearizability
from test_framework.core import NS_PER_S, Verdict


def call(
    worker: int,
    kind: str,
    invoked: int,
    completed: int | None,
    result: object = None,
    argument: object = None,
) -> Call:
    """Return a call of a history."""
    return Call(worker, kind, argument, result, invoked, completed)


def held(
    worker: int, begin: int, end: int, kind: str = "", result: object = None
) -> list[Call]:
    """Return the calls of a worker that has a lock from ``begin`` to ``end``."""
    return [
        call(worker, f"acquire{kind}", begin - 1, begin, result),
        call(worker, f"release{kind}", end, end + 1),
    ]


@pytest.mark.parametrize(
    ("calls", "is_sound"),
    [
        (held(0, 10, 20) + held(1, 20, 30), True),
        (held(0, 10, 20) + held(1, 19, 30), False),
        (held(0, 10, 90) + held(1, 20, 30) + held(2, 95, 99), False),
        # A short hold inside of a long one that began before it.
        (held(0, 10, 90) + held(1, 92, 93) + held(2, 30, 40), False),
        (held(0, 10, 20, "_read") + held(1, 15, 30, "_read"), True),
        (held(0, 10, 20, "_read") + held(1, 15, 30, "_write"), False),
        (held(0, 10, 20, "_write") + held(1, 15, 30, "_read"), False),
        # A lock that was never given back is held for ever.
        ([call(0, "acquire", 1, 2), *held(1, 5, 6)], False),
        # Of a cancelled acquire nobody knows that it held anything.
        ([call(0, "acquire", 1, None), *held(1, 5, 6)], True),
        # One that was refused holds nothing.
        ([call(0, "acquire", 1, 2, result=False), *held(1, 5, 6)], True),
    ],
)
def test_holds_of_one_lock_never_overlap(calls: list[Call], *, is_sound: bool) -> None:
    """Certain holds are told when they overlap, and no others."""
    calls.sort(key=lambda one: one.invoked)

    checked = check_exclusion(holds_of(calls))

    assert (checked.verdict is Verdict.VALID) is is_sound
    names = [one.name for one in checked.anomalies]
    assert names == ([] if is_sound else ["lock held twice"])


def test_lease_is_held_until_it_ends_by_itself() -> None:
    """Another one may have it after that, and not before 9/10 of it: clocks differ."""
    second = NS_PER_S
    calls = [
        call(0, "acquire", 0, 1, result=1),
        call(1, "acquire", 2, 2 * second, result=2),
    ]

    assert check_exclusion(holds_of(calls, ttl_s=2.2)).verdict is Verdict.VALID
    assert check_exclusion(holds_of(calls, ttl_s=2.3)).verdict is Verdict.INVALID


def hang(*pending: Pending, is_quiet: bool = True) -> Hang:
    """Return a run that was cut off after 9 s without news."""
    return Hang("of the test", is_quiet, 10 * NS_PER_S, 19 * NS_PER_S, pending)


WAITER = Pending(1, "acquire", None, None, 9)
READER = Pending(1, "acquire_read", None, None, 9)


@pytest.mark.parametrize(
    ("calls", "ended", "verdict"),
    [
        (held(0, 2, 4), None, Verdict.VALID),
        (held(0, 2, 4), hang(WAITER), Verdict.INVALID),
        # It ran out of time while things went on.
        (held(0, 2, 4), hang(WAITER, is_quiet=False), Verdict.VALID),
        # Nobody waits for the lock.
        (held(0, 2, 4), hang(Pending(1, "act", None, None, 9)), Verdict.VALID),
        # It is not free: whoever has it is to blame, or what it waits for.
        ([call(0, "acquire", 1, 2)], hang(WAITER), Verdict.UNKNOWN),
        # Only readers have it, and a reader waits.
        ([call(0, "acquire_read", 1, 2)], hang(READER), Verdict.INVALID),
        ([call(0, "acquire_write", 1, 2)], hang(READER), Verdict.UNKNOWN),
    ],
)
def test_free_lock_goes_to_who_waits(
    calls: list[Call], ended: Hang | None, verdict: Verdict
) -> None:
    """A wait for a lock that nobody has is a lost wake-up; any other may be meant."""
    assert check_progress(calls, ended).verdict is verdict


def test_lease_that_was_lost_may_still_end() -> None:
    """A wait that is shorter than the life of a lease proves nothing."""
    calls = held(0, 2, 4)

    assert check_progress(calls, hang(WAITER), ttl_s=10).verdict is Verdict.UNKNOWN
    assert check_progress(calls, hang(WAITER), ttl_s=8).verdict is Verdict.INVALID


def test_overtaking_is_counted_for_later_comers_only() -> None:
    """Who had asked before, or got it after, overtakes nobody."""
    waited = held(0, 100, 110)
    waited[0] = call(0, "acquire", 50, 100)
    earlier = [call(1, "acquire", 40, 60), call(1, "release", 61, 62)]
    later = [one for at in (70, 80, 90) for one in held(2, at, at + 2)]
    after = held(3, 120, 130)
    calls = sorted(waited + earlier + later + after, key=lambda one: one.invoked)

    within = check_fairness(calls, overtakes=3)
    beyond = check_fairness(calls, overtakes=2)

    assert (within.verdict, within.facts["overtaken"]) == (Verdict.VALID, 3)
    assert [one.name for one in beyond.anomalies] == ["starvation"]
    assert "worker 0" in beyond.anomalies[0].claim
    assert check_fairness(calls, overtakes=None).verdict is Verdict.VALID


def lease(worker: int, at: int, token: int, *acts: Call) -> list[Call]:
    """Return a grant at an instant, and what was done under it."""
    return [call(worker, "acquire", at, at + 1, token), *acts]


def act(worker: int, at: int, token: int, *, is_accepted: bool = True) -> Call:
    """Return an act under a token."""
    return call(worker, "act", at, at + 1, is_accepted, token)


LATE = act(0, 50, 1, is_accepted=False)


@pytest.mark.parametrize(
    ("calls", "found"),
    [
        (lease(0, 10, 1, LATE) + lease(1, 30, 2, act(1, 40, 2)), []),
        (
            lease(0, 10, 1, act(0, 50, 1)) + lease(1, 30, 2, act(1, 40, 2)),
            ["expired lease acts"],
        ),
        # Accepted before the later one had acted: it came first.
        (lease(0, 10, 1, act(0, 40, 1)) + lease(1, 30, 2, act(1, 41, 2)), []),
        (
            lease(0, 10, 1, LATE) + lease(1, 30, 1),
            ["duplicate token", "live lease refused"],
        ),
        (lease(0, 10, 5, act(0, 50, 5)) + lease(1, 30, 3), ["token went back"]),
        (lease(0, 10, 1, LATE), ["live lease refused"]),
        # A higher number was drawn by one who had the lease before.
        (
            lease(0, 10, 2, act(0, 12, 2))
            + lease(
                1,
                35,
                1,
                act(1, 40, 1, is_accepted=False),
                act(1, 90, 1, is_accepted=False),
            ),
            ["token went back", "live lease refused"],
        ),
    ],
)
def test_tokens_fence_leases_that_have_ended(
    calls: list[Call], found: list[str]
) -> None:
    """Each way to break the fence is told."""
    calls.sort(key=lambda one: one.invoked)

    checked = check_fencing(calls, ttl_s=20 / NS_PER_S)

    assert [one.name for one in checked.anomalies] == found
    assert checked.verdict is (Verdict.INVALID if found else Verdict.VALID)


@pytest.mark.parametrize(("until", "is_live"), [(60, True), (75, False)])
def test_lease_that_waited_lives_from_when_the_other_ended(
    until: int, *, is_live: bool
) -> None:
    """One that was asked for long before has its life from the end of the one before."""
    calls = [
        call(1, "acquire", 5, 50, 1),
        *lease(0, 10, 2, act(0, 15, 2)),
        call(0, "release", 25, 26),
        # 18 ns of 20 are certain: to 23 by its own call, to 63 by those of the others.
        call(2, "acquire", 27, 29, 3),
        call(2, "release", 47, 48),
        act(1, until, 1, is_accepted=False),
    ]
    calls.sort(key=lambda one: one.invoked)

    checked = check_fencing(calls, ttl_s=20 / NS_PER_S)

    names = [one.name for one in checked.anomalies]
    assert ("live lease refused" in names) is is_live


def test_fencing_without_late_act_proves_nothing() -> None:
    """If every lease acted in time, no fence was needed."""
    calls = lease(0, 10, 1, act(0, 12, 1)) + lease(1, 30, 2, act(1, 32, 2))

    assert check_fencing(calls, ttl_s=20 / NS_PER_S).verdict is Verdict.UNKNOWN


def test_exclusion_is_what_a_search_over_all_orders_says() -> None:
    """On 400 random histories of a lock the spans say what the model of a mutex says."""
    rng = random.Random(3)
    verdicts = set()
    for _ in range(400):
        calls = []
        for worker in range(3):
            times = itertools.accumulate(rng.randint(1, 12) for _ in range(8))
            for begun, got, given, done in zip(*[times] * 4, strict=True):
                if rng.random() < 0.2:
                    calls.append(call(worker, "acquire", begun, None))
                    continue
                calls.append(call(worker, "acquire", begun, got))
                calls.append(call(worker, "release", given, done))
        calls.sort(key=lambda one: one.invoked)

        judged = check_exclusion(holds_of(calls)).verdict
        searched = check_linearizability(calls, Mutex(), only_search=True).verdict

        assert judged is searched, calls
        verdicts.add(judged)
    assert verdicts == {Verdict.VALID, Verdict.INVALID}
