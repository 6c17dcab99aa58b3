"""Service levels: what a window holds, when it alerts, and that no count is lost."""

import itertools
import random
import threading
from pathlib import Path

import pytest

from app.monitoring import Objective, SlaMonitor, sla
from app.monitoring.sla import LEAST_REQUESTS, MAX_ENDPOINTS, RULES, SLOTS, BurnRule
from tests.unit.app.preempting import preempted
from tests.unit.app.sla_twins import TumblingMonitor, unlocked

MINUTE_S, HOUR_S = 60.0, 3_600.0


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        """Begin somewhere."""
        self.now_s = 10_000.0

    def __call__(self) -> float:
        """Return the seconds."""
        return self.now_s


def test_window_holds_what_a_list_would() -> None:
    """Over 3,000 steps of random length each window holds the slots it should.

    The reference keeps every event and counts those of the slot that is being filled
    and of the 60 before it.
    """
    rng, clock = random.Random(3), Clock()
    monitor = SlaMonitor(clock=clock)
    events: list[tuple[float, bool]] = []
    windows = sorted({s for rule in RULES for s in (rule.long_s, rule.short_s)})
    for _ in range(3_000):
        clock.now_s += rng.choice([0, 0.1, 3, 40, 700, 20_000])
        is_good = rng.random() < 0.8
        monitor.record("/x", 200 if is_good else 500, 0.1)
        events.append((clock.now_s, is_good))

        for window_s in windows:
            per_s = SLOTS / window_s
            first = int(clock.now_s * per_s) - SLOTS
            held = [good for at_s, good in events if int(at_s * per_s) >= first]
            expected = (sum(held), len(held) - sum(held))
            assert monitor.counts("/x", window_s) == expected
        # No window reaches farther back.
        events = [one for one in events if clock.now_s - one[0] < 4 * 86_400]


def _fail(monitor: SlaMonitor, clock: Clock, *, seconds: float, share: float) -> None:
    """Let a request a second come, of which a share fails."""
    for second in range(int(seconds)):
        clock.now_s += 1
        is_bad = int((second + 1) * share) > int(second * share)
        monitor.record("/x", 500 if is_bad else 200, 0.1)


@pytest.mark.parametrize(
    ("share", "rules"),
    [
        (0.0, []),
        (0.0005, []),
        (0.02, ["budget-burns-fast", "budget-burns", "budget-wanes"]),
        (0.01, ["budget-burns", "budget-wanes"]),
    ],
)
def test_rates_of_the_workbook_alert(share: float, rules: list[str]) -> None:
    """At a target of 99.9 % two failures in a hundred wake somebody, one does not."""
    clock = Clock()
    monitor = SlaMonitor(Objective(target=0.999), clock=clock)

    _fail(monitor, clock, seconds=2 * HOUR_S, share=share)

    assert [one.rule for one in monitor.signals()] == rules


def test_alert_ends_soon_after_its_trouble() -> None:
    """The short window ends an alert while the long one still remembers."""
    clock = Clock()
    monitor = SlaMonitor(clock=clock)
    _fail(monitor, clock, seconds=HOUR_S, share=0.05)
    during = {one.rule for one in monitor.signals()}

    _fail(monitor, clock, seconds=6 * MINUTE_S, share=0.0)

    assert "budget-burns-fast" in during
    assert "budget-burns-fast" not in {one.rule for one in monitor.signals()}
    assert monitor.burn_rate("/x", HOUR_S) > 14.4


def test_few_requests_prove_nothing() -> None:
    """An endpoint that was asked a few times burns nothing, however badly it did."""
    monitor = SlaMonitor(clock=Clock())

    for _ in range(LEAST_REQUESTS - 1):
        monitor.record("/x", 500, 0.1)

    assert list(monitor.signals()) == []
    monitor.record("/x", 500, 0.1)
    assert len(list(monitor.signals())) == len(RULES)
    assert monitor.budget_left("/x") < 0


@pytest.mark.parametrize(
    ("status", "seconds", "counts"),
    [
        (200, 0.1, (1, 0)),
        (404, 0.1, (1, 0)),
        (500, 0.1, (0, 1)),
        (200, 2.1, (0, 1)),
        (0, 0.1, (0, 0)),
    ],
)
def test_what_is_good(status: int, seconds: float, counts: tuple[int, int]) -> None:
    """Refusals are good, failures and slow answers are bad, who left does not count."""
    monitor = SlaMonitor(clock=Clock())

    monitor.record("/x", status, seconds)

    assert monitor.counts("/x", HOUR_S) == counts


def test_exceptions_are_promised_otherwise() -> None:
    """What streams may last, and what is promised nothing is not measured."""
    exceptions = {"/stream": Objective(within_s=None), "/health": None}
    monitor = SlaMonitor(exceptions=exceptions, clock=Clock())

    monitor.record("/stream", 200, 1_000)
    monitor.record("/health", 503, 1)

    assert monitor.counts("/stream", HOUR_S) == (1, 0)
    assert monitor.counts("/health", HOUR_S) == (0, 0)


def test_memory_is_bounded() -> None:
    """Endpoints without end, which there should not be, are counted as one other."""
    monitor = SlaMonitor(clock=Clock())

    for number in range(3 * MAX_ENDPOINTS):
        monitor.record(f"/{number}", 200, 0.1)

    assert len(monitor._rings) == MAX_ENDPOINTS + 1
    assert monitor.counts("other", HOUR_S) == (2 * MAX_ENDPOINTS, 0)


def _counts_of_rollovers(*, is_locked: bool) -> set[tuple[int, int]]:
    """Let two requests meet at the border of a slot, with a switch at each line.

    Ten failures are in the window and leave it at that border.
    """
    outcomes = set[tuple[int, int]]()
    one_window = [BurnRule("any", "critical", HOUR_S, HOUR_S, 1)]
    for line in itertools.count(1):
        clock = Clock()
        monitor = SlaMonitor(rules=one_window, clock=clock)
        if not is_locked:
            unlocked(monitor)
        for _ in range(10):
            monitor.record("/x", 500, 0.1)
        clock.now_s += HOUR_S
        assert monitor.counts("/x", HOUR_S) == (0, 10)
        clock.now_s += HOUR_S / SLOTS

        def record(monitor: SlaMonitor = monitor) -> None:
            monitor.record("/x", 200, 0.1)

        was_reached = preempted(
            record,
            record,
            at_line=line,
            of=Path(sla.__file__),
            is_locked=lambda lock=monitor._lock: is_locked and lock.locked(),  # type: ignore[misc]  # its default is a lock
        )
        outcomes.add(monitor.counts("/x", HOUR_S))
        if not was_reached:
            break
    return outcomes


def test_rollover_loses_no_request() -> None:
    """Two that meet as a window moves on are both counted, and the old ones gone."""
    assert _counts_of_rollovers(is_locked=True) == {(2, 0)}


@pytest.mark.power
def test_rollover_without_lock_is_found() -> None:
    """Without the lock one clears the slot that the other has counted in."""
    outcomes = _counts_of_rollovers(is_locked=False)

    assert outcomes - {(2, 0)}


def test_many_threads_lose_no_request() -> None:
    """Eight threads that count while windows move on are counted whole."""
    clock = Clock()
    monitor = SlaMonitor(clock=clock)

    def record() -> None:
        for number in range(500):
            clock.now_s += 0.01
            monitor.record("/x", 200 if number % 2 else 500, 0.1)

    threads = [threading.Thread(target=record) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert monitor.counts("/x", HOUR_S) == (2_000, 2_000)


@pytest.mark.power
def test_windows_that_begin_anew_are_blind_at_borders() -> None:
    """A burst across a border is seen whole by rings, and half by tumbling windows."""
    clock = Clock()
    clock.now_s = 10 * HOUR_S - 10
    monitor, tumbling = SlaMonitor(clock=clock), TumblingMonitor(HOUR_S, clock)

    for _ in range(20):
        monitor.record("/x", 500, 0.1)
        tumbling.record(is_good=False)
        clock.now_s += 1

    assert monitor.counts("/x", HOUR_S) == (0, 20)
    assert tumbling.bad == 10
