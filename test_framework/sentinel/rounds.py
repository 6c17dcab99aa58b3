"""A round: one small audit of the live service, reduced to what is worth remembering.

Rounds are plain data. Everything the sentinel decides (alerts, trends, forecasts) it
decides from them, so a decision can be repeated from the stored state.
"""

from dataclasses import dataclass, field

from test_framework.core import Verdict


@dataclass(frozen=True, slots=True)
class Trouble:
    """One finding of a round, as alerts quote it.

    Attributes:
        rule: Id that ``isolation-audit explain`` knows.
        claim: What happened to whom.
        evidence: Sentences of the proof, in order.
        fix: What to change.
        count: Sightings with this cause.
    """

    rule: str
    claim: str
    evidence: tuple[str, ...] = ()
    fix: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True)
class Round:
    """What one round found out.

    Attributes:
        number: From 1, over all restarts.
        started_at: Unix time of its start, in seconds.
        seconds: How long it took.
        users: Synthetic users that took part (count).
        seed: Seed of its audit.
        verdict: Of its audit; ``unknown`` when the service was not reached.
        is_reached: Whether the service answered and let the users in.
        is_conclusive: Whether the round would have found what it looks for: it came
            to its end and has no gap. Only such a round speaks against an alert.
        reason: The first gap, or why the service was not reached.
        troubles: Its findings, worst first.
        requests: Requests of all users (count).
        in_flight: Most requests in flight at one time, seen by the clients.
        pairs_met: Pairs of users that were in flight together.
        pairs: Pairs that there are.
        p95_ms: P95 latency of each endpoint, in milliseconds.
        latencies_s: Every latency of each endpoint, in seconds; not stored.
        left_behind: Things of users that had left (count).
        memory_bytes: Resident memory of the service, by its own metrics.
        pool_use: Largest use of its connection pool, by its own metrics.
        load: Largest number of requests in flight, by its own metrics.
        history: Name of the stored history in the folder of the state.
    """

    number: int
    started_at: float
    seconds: float
    users: int
    seed: int
    verdict: Verdict
    is_reached: bool = True
    is_conclusive: bool = True
    reason: str = ""
    troubles: tuple[Trouble, ...] = ()
    requests: int = 0
    in_flight: int = 0
    pairs_met: int = 0
    pairs: int = 0
    p95_ms: dict[str, float] = field(default_factory=dict)
    latencies_s: dict[str, tuple[float, ...]] = field(default_factory=dict)
    left_behind: int = 0
    memory_bytes: float | None = None
    pool_use: float | None = None
    load: float | None = None
    history: str = ""

    @property
    def result(self) -> str:
        """``valid``, ``invalid``, ``unknown``, or ``down`` when not reached."""
        if not self.is_reached and self.verdict is not Verdict.INVALID:
            return "down"
        return str(self.verdict)
