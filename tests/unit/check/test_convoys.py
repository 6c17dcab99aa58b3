"""Bursts whose requests were served one at a time."""

import random

import pytest

from test_framework.check import find_convoys, judge
from test_framework.core import BurstRecord, HandlerRecord, Verdict
from tests.unit.check.builder import MS, Builder, whole_run

SEED = 20
USERS = 20


def _burst(
    builder: Builder,
    latencies_ms: list[float],
    *,
    workers: int = 0,
    same_user: bool = False,
    spread_ms: float = 0,
) -> None:
    """Add one burst of one endpoint; user n waits for the n-th latency."""
    start_ms = 100_000 * (1 + len(builder.history.of(BurstRecord)))
    members = []
    for user, latency_ms in enumerate(latencies_ms):
        sent_ms = start_ms + user * spread_ms
        operation = builder.op(
            0 if same_user else user,
            start_ms=int(sent_ms),
            end_ms=sent_ms + latency_ms,
            burst="b",
        )
        members.append(operation.index)
        if workers:
            worker = user % workers
            builder.history.add(HandlerRecord(operation.index, "http", 0, 1, worker))
    builder.history.add(
        BurstRecord("b", "read-bursts", tuple(members), start_ms * MS, start_ms * MS)
    )


def _served_one_by_one(rng: random.Random, *, service_ms: float = 20) -> list[float]:
    """Return latencies behind one lock that each holds for about ``service_ms``."""
    now_ms, latencies = 2.0, []
    for _ in range(USERS):
        now_ms += service_ms * rng.uniform(0.8, 1.2)
        latencies.append(now_ms)
    return latencies


@pytest.mark.power
def test_requests_behind_one_lock_are_a_convoy() -> None:
    """Equal gaps between the answers of a burst are a warning with its numbers."""
    builder = whole_run(USERS)
    _burst(builder, _served_one_by_one(random.Random(SEED)))

    judgement = judge(builder.end())

    (alarm,) = judgement.alarms
    assert judgement.verdict is Verdict.VALID
    assert (alarm.rule, alarm.level) == ("one-after-another", "warning")
    assert (alarm.site, len(alarm.users)) == ("GET /notes", USERS)
    assert "20 requests" in alarm.claim


@pytest.mark.power
def test_lock_in_each_process_is_seen_by_process() -> None:
    """Two processes with a lock each answer two at a time, and yet in a convoy."""
    builder = Builder(2 * USERS)
    rng = random.Random(SEED)
    one, two = _served_one_by_one(rng), _served_one_by_one(rng, service_ms=33)
    _burst(builder, [x for pair in zip(one, two, strict=True) for x in pair], workers=2)

    (alarm,) = find_convoys(builder.history)

    assert "by process" in alarm.evidence[0]


def _independent(rng: random.Random) -> list[float]:
    return [rng.uniform(5, 400) for _ in range(USERS)]


@pytest.mark.parametrize(
    "latencies_ms",
    [
        pytest.param(_independent(random.Random(SEED)), id="overlapped"),
        pytest.param([40.0 + n / 10 for n in range(USERS)], id="together"),
        pytest.param([2.0 + 2 * n for n in range(USERS)], id="a quick processor"),
        pytest.param([400.0 + 10 * n for n in range(USERS)], id="mostly together"),
        pytest.param([20.0 * n for n in range(1, 16)], id="too few to tell"),
    ],
)
def test_requests_that_overlap_are_silent(latencies_ms: list[float]) -> None:
    """Requests that were worked on at one time make no convoy."""
    builder = Builder(USERS)
    _burst(builder, latencies_ms)

    assert list(find_convoys(builder.history)) == []


def test_own_requests_of_one_user_may_wait_for_each_other() -> None:
    """A lock per user is the cure, not the disease."""
    builder = Builder(USERS)
    _burst(builder, _served_one_by_one(random.Random(SEED)), same_user=True)

    assert list(find_convoys(builder.history)) == []


def test_requests_that_came_one_by_one_are_silent() -> None:
    """Answers that follow the rhythm of their requests show nothing of the service."""
    builder = Builder(USERS)
    _burst(builder, [5.0 + 3 * n for n in range(USERS)], spread_ms=20)

    assert list(find_convoys(builder.history)) == []


def test_one_convoy_of_many_bursts_is_chance() -> None:
    """An endpoint is told of when most of its bursts were answered so."""
    builder = Builder(USERS)
    rng = random.Random(SEED)
    _burst(builder, _served_one_by_one(rng))
    _burst(builder, _independent(rng))

    assert list(find_convoys(builder.history)) == []

    _burst(builder, _served_one_by_one(rng))
    (alarm,) = find_convoys(builder.history)
    assert "2 of 3 bursts" in alarm.evidence[2]


def test_independent_bursts_seldom_look_like_a_convoy() -> None:
    """At most 1 in 50 bursts of 20 overlapped answers passes for a convoy.

    By simulation 1 in 200 does; more than 10 of 300 have odds under 1 in 10,000.
    """
    rng = random.Random(SEED)
    alarms = 0
    for _ in range(300):
        builder = Builder(USERS)
        _burst(builder, _independent(rng))
        alarms += len(list(find_convoys(builder.history)))

    assert alarms <= 10
