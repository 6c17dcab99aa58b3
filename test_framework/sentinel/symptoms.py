"""What is wrong by the last rounds: symptoms in three tiers.

*Critical*: one user reached what belongs to another. *Warning*: a race, a leak, a
missed gate, a service that is down, or rounds that prove nothing: a sentinel that sees
nothing is broken and must not look calm. *Trend*: nothing has broken yet, but a series
has a slope.
"""

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from test_framework.check import rule
from test_framework.core import Verdict
from test_framework.sentinel.rounds import Round, Trouble

DOWN = "service-down"
PROVES_NOTHING = "proves-nothing"

_WORST_TIER_OF_A_WARNING = 2
# They stand beside contamination in the judge's order, and are races.
_RACES = frozenset({"acted-more-than-once", "identifier-collision"})


class Tier(enum.StrEnum):
    """How much an alert matters: page somebody, tell the team, look next week."""

    CRITICAL = "critical"
    WARNING = "warning"
    TREND = "trend"


@dataclass(frozen=True, slots=True)
class Symptom:
    """One thing that is wrong now.

    Attributes:
        key: Names the alert: a rule's id, or one of this module's.
        tier: How much it matters.
        title: What it is, in a few words.
        claim: What was seen this time, in a sentence.
        evidence: Sentences of the proof, in order.
        fix: What to do next.
    """

    key: str
    tier: Tier
    title: str
    claim: str
    evidence: tuple[str, ...] = ()
    fix: str = ""


def tier_of(rule_id: str) -> Tier:
    """Return the tier of a finding by its rule."""
    if rule_id in _RACES or rule(rule_id).tier >= _WORST_TIER_OF_A_WARNING:
        return Tier.WARNING
    return Tier.CRITICAL


def find_symptoms(rounds: Sequence[Round], *, unknown_rounds: int) -> list[Symptom]:
    """Return what is wrong by the latest round, worst first.

    Args:
        rounds: In order; at least one.
        unknown_rounds: How many rounds in a row may prove nothing, less one
            (count, >= 1).
    """
    found = [
        *(_of_trouble(trouble) for trouble in rounds[-1].troubles),
        *_down(rounds[-1]),
        *_proving_nothing(rounds, unknown_rounds),
    ]
    order = list(Tier)
    return sorted(found, key=lambda symptom: order.index(symptom.tier))


def _of_trouble(trouble: Trouble) -> Symptom:
    return Symptom(
        key=trouble.rule,
        tier=tier_of(trouble.rule),
        title=rule(trouble.rule).title,
        claim=trouble.claim,
        evidence=trouble.evidence,
        fix=trouble.fix,
    )


def _down(last: Round) -> Iterator[Symptom]:
    if not last.is_reached:
        yield Symptom(
            key=DOWN,
            tier=Tier.WARNING,
            title="the service cannot be audited",
            claim=last.reason,
            fix="See whether the service runs and lets its users log in.",
        )


def _proving_nothing(rounds: Sequence[Round], limit: int) -> Iterator[Symptom]:
    streak = 0
    for one in reversed(rounds):
        if not one.is_reached:
            continue  # says nothing of the audit, and has an alert of its own
        if one.verdict is not Verdict.UNKNOWN:
            break
        streak += 1
    last = rounds[-1]
    if streak >= limit and last.is_reached and last.verdict is Verdict.UNKNOWN:
        yield Symptom(
            key=PROVES_NOTHING,
            tier=Tier.WARNING,
            title="the rounds prove nothing",
            claim=f"{streak} rounds in a row were unknown: {last.reason}",
            fix="Nobody is watching until this is mended. Run 'isolation-audit run' "
            "with the same audit file and see its gaps.",
        )
