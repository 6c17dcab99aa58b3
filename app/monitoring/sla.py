"""Service levels: how fast each endpoint burns its error budget, over several windows.

An objective allows a share of requests to fail. The burn rate is the share that did
fail over the share that may: at 1 the budget of the period is used up at its end. An
alert needs a long window, so that a moment's trouble wakes nobody, and a short one
beside it, so that it ends soon after the trouble does (Google, The Site Reliability
Workbook, chapter 5, "Multiwindow, Multi-Burn-Rate Alerts"; the rates are those of its
table 5-8).

Each window is a ring of slots. It covers the slot that is being filled and as many
whole ones as the window has, so between one window and one window and a slot. Memory
depends on the number of endpoints and windows alone. Each worker judges what it serves:
the kernel spreads the connections, and one worker that fails alone is told as well.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from app.monitoring.signals import Signal, Tier

SLOTS = 60
MAX_ENDPOINTS = 100
LEAST_REQUESTS = 20
"""Below so many in a window its rate says nothing: one of three failed is no trend."""
_OTHER = "other"
_SERVER_ERROR = 500


@dataclass(frozen=True, slots=True)
class Objective:
    """What requests of an endpoint are promised.

    Attributes:
        target: Share of requests that must be good, in (0, 1).
        within_s: A slower one is not good; None for what lasts as long as it lasts.
    """

    target: float = 0.999
    within_s: float | None = 2.0


@dataclass(frozen=True, slots=True)
class BurnRule:
    """When a burn rate is an alert: both windows are at ``rate`` or above."""

    name: str
    tier: Tier
    long_s: float
    short_s: float
    rate: float


RULES = (
    BurnRule("budget-burns-fast", "critical", 3_600, 300, 14.4),
    BurnRule("budget-burns", "warning", 6 * 3_600, 1_800, 6.0),
    BurnRule("budget-wanes", "trend", 3 * 86_400, 6 * 3_600, 1.0),
)


class _Ring:
    """Good and bad requests of one window; not thread-safe."""

    __slots__ = ("_bad", "_good", "_per_s", "_slot", "bad", "good")

    def __init__(self, window_s: float) -> None:
        self._per_s = SLOTS / window_s
        self._good = [0] * (SLOTS + 1)
        self._bad = [0] * (SLOTS + 1)
        self._slot = 0
        self.good = 0
        self.bad = 0

    def count(self, now_s: float, *, is_good: bool) -> None:
        if int(now_s * self._per_s) != self._slot:
            self.advance(now_s)
        place = self._slot % (SLOTS + 1)
        if is_good:
            self._good[place] += 1
            self.good += 1
        else:
            self._bad[place] += 1
            self.bad += 1

    def advance(self, now_s: float) -> None:
        slot = int(now_s * self._per_s)
        # Never backwards: what comes late counts as now.
        for passed in range(min(slot - self._slot, SLOTS + 1)):
            place = (slot - passed) % (SLOTS + 1)
            self.good -= self._good[place]
            self.bad -= self._bad[place]
            self._good[place] = self._bad[place] = 0
        self._slot = max(self._slot, slot)


class SlaMonitor:
    """Counts requests by endpoint and window, and tells which burn their budget.

    May be used from any thread.
    """

    def __init__(
        self,
        objective: Objective | None = None,
        *,
        exceptions: dict[str, Objective | None] | None = None,
        rules: Iterable[BurnRule] = RULES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Promise ``objective`` for each endpoint.

        Args:
            objective: What is promised.
            exceptions: What else is, by endpoint; None promises nothing.
            rules: When a burn rate is an alert.
            clock: Seconds that only grow.
        """
        self._objective = objective or Objective()
        self._exceptions = dict(exceptions or {})
        self._rules = tuple(rules)
        self._windows = sorted(
            {s for rule in self._rules for s in (rule.long_s, rule.short_s)}
        )
        self._clock = clock
        self._lock = threading.Lock()
        self._rings: dict[str, dict[float, _Ring]] = {}

    def record(self, endpoint: str, status: int, seconds: float) -> None:
        """Take in a request that has ended.

        Args:
            endpoint: The template of its route.
            status: Its status; 0 when the client left before there was one, which is
                nobody's failure.
            seconds: How long it took.
        """
        objective = self._promised(endpoint)
        if status == 0 or objective is None:
            return
        is_slow = objective.within_s is not None and seconds > objective.within_s
        is_good = status < _SERVER_ERROR and not is_slow
        with self._lock:
            # Read under the lock, so that no instant comes after a later one.
            now_s = self._clock()
            for ring in self._rings_of(endpoint).values():
                ring.count(now_s, is_good=is_good)

    def counts(self, endpoint: str, window_s: float) -> tuple[int, int]:
        """Return the good and the bad requests of a window (counts)."""
        with self._lock:
            rings = self._rings.get(endpoint)
            if rings is None:
                return 0, 0
            ring = rings[window_s]
            ring.advance(self._clock())
            return ring.good, ring.bad

    def burn_rate(self, endpoint: str, window_s: float) -> float:
        """Return how fast a window burns the budget; 0 for too few requests."""
        good, bad = self.counts(endpoint, window_s)
        objective = self._promised(endpoint)
        if objective is None or good + bad < LEAST_REQUESTS:
            return 0.0
        return bad / (good + bad) / (1.0 - objective.target)

    def budget_left(self, endpoint: str) -> float:
        """Return the share of the longest window's budget that is left; may be < 0."""
        return 1.0 - self.burn_rate(endpoint, self._windows[-1])

    def signals(self) -> Iterator[Signal]:
        """Yield an alert for each rule that an endpoint breaks."""
        for endpoint in tuple(self._rings):
            for rule in self._rules:
                rates = [
                    self.burn_rate(endpoint, window_s)
                    for window_s in (rule.long_s, rule.short_s)
                ]
                if min(rates) >= rule.rate:
                    yield Signal(
                        rule.name,
                        endpoint,
                        rule.tier,
                        f"{endpoint} burns its error budget {rates[0]:.1f} times too "
                        f"fast over {rule.long_s:.0f} s and {rates[1]:.1f} times over "
                        f"{rule.short_s:.0f} s.",
                    )

    def _promised(self, endpoint: str) -> Objective | None:
        return self._exceptions.get(endpoint, self._objective)

    def _rings_of(self, endpoint: str) -> dict[float, _Ring]:
        rings = self._rings.get(endpoint)
        if rings is None:
            if len(self._rings) >= MAX_ENDPOINTS:
                endpoint = _OTHER
            rings = self._rings.setdefault(
                endpoint, {window_s: _Ring(window_s) for window_s in self._windows}
            )
        return rings
