"""Alerts: symptoms that are told once, repeated rarely, and taken back when cured.

A symptom fires when it is first seen. While it lasts it is repeated after a pause; it
is resolved after several rounds in a row that would have seen it and did not. A round
that proved nothing speaks neither for nor against an alert.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from test_framework.sentinel.symptoms import DOWN, Symptom, Tier

Event = Literal["firing", "repeated", "resolved"]


@dataclass(frozen=True, slots=True)
class Alert:
    """A symptom that lasts.

    Attributes:
        symptom: As it was last seen.
        since: Unix time at which it was first seen, in seconds.
        told_at: When it was last told.
        rounds: Rounds that saw it (count).
        clean: Rounds in a row since then that would have seen it (count).
    """

    symptom: Symptom
    since: float
    told_at: float
    rounds: int = 1
    clean: int = 0


@dataclass(frozen=True, slots=True)
class Notice:
    """One message about an alert; docs/sentinel.md describes it as JSON.

    Attributes:
        id: Unique; the same when a message is sent again.
        event: ``firing``, ``repeated`` or ``resolved``.
        alert: The symptom's key.
        tier: How much it matters.
        title: What it is.
        claim: What was seen last.
        evidence: Sentences of the proof.
        fix: What to do next.
        target: The service, without credentials.
        since: Unix time at which it was first seen, in seconds.
        at: Unix time of this message.
        rounds: Rounds that saw it so far (count).
        round: Number of the round that led to this message.
        history: Name of that round's history in the folder of the state.
    """

    id: str
    event: str
    alert: str
    tier: Tier
    title: str
    claim: str
    evidence: tuple[str, ...]
    fix: str
    target: str
    since: float
    at: float
    rounds: int
    round: int
    history: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """What became of an alert by one round."""

    event: Event
    alert: Alert


class AlertBook:
    """The alerts that last.

    Args:
        alerts: Those of an earlier process, by key; changed in place.
        resolve_after: Clean rounds in a row that cure an alert (count, >= 1).
        repeat_after_s: Seconds after which a lasting alert is told again.
    """

    def __init__(
        self, alerts: dict[str, Alert], *, resolve_after: int, repeat_after_s: float
    ) -> None:
        self._alerts = alerts
        self._resolve_after = resolve_after
        self._repeat_after_s = repeat_after_s

    def observe(
        self,
        symptoms: Iterable[Symptom],
        *,
        now: float,
        is_conclusive: bool,
        is_reached: bool,
    ) -> list[Change]:
        """Take in what one round saw and return what must be told.

        Args:
            symptoms: What the round saw; the first of one key counts.
            now: Unix time in seconds.
            is_conclusive: Whether the round would have seen what it did not see.
            is_reached: Whether it reached the service.
        """
        seen: dict[str, Symptom] = {}
        for symptom in symptoms:
            seen.setdefault(symptom.key, symptom)
        missed = [
            key
            for key in self._alerts
            if key not in seen and (is_conclusive or (key == DOWN and is_reached))
        ]
        changes = [self._see(symptom, now) for symptom in seen.values()]
        changes += [self._miss(key) for key in missed]
        return [change for change in changes if change is not None]

    def _see(self, symptom: Symptom, now: float) -> Change | None:
        before = self._alerts.get(symptom.key)
        if before is None:
            alert = Alert(symptom, since=now, told_at=now)
            self._alerts[symptom.key] = alert
            return Change("firing", alert)
        is_due = now - before.told_at >= self._repeat_after_s
        alert = replace(
            before,
            symptom=symptom,
            told_at=now if is_due else before.told_at,
            rounds=before.rounds + 1,
            clean=0,
        )
        self._alerts[symptom.key] = alert
        return Change("repeated", alert) if is_due else None

    def _miss(self, key: str) -> Change | None:
        alert = replace(self._alerts[key], clean=self._alerts[key].clean + 1)
        if alert.clean < self._resolve_after:
            self._alerts[key] = alert
            return None
        del self._alerts[key]
        return Change("resolved", alert)
