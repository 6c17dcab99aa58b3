"""What checkers hand to the judge: sightings, each of one rule, with its witness."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sighting:
    """One place where a rule was broken.

    Attributes:
        rule: Id of the rule.
        claim: One sentence that says what happened to whom.
        victim: Number of the user who was wronged; None when it is nobody in
            particular.
        observer: Number of the user who saw it; None when nobody did.
        channel: Where it was seen.
        surface: Endpoint, table, key pattern or log.
        at_ns: When; orders sightings, and the earliest is the witness.
        operation: Operation that proves it; None for something stored.
        canary: Canary that was seen; None when none was.
        planted_by: The victim's operation that wrote the canary.
        evidence: Sentences of the proof.
        count: How many times, when one sighting stands for several.
        cause: Tells causes of one rule apart; sightings without one are taken for one.
        fix: What to change, where that is known better than the rule knows it.
    """

    rule: str
    claim: str
    victim: int | None
    observer: int | None
    channel: str
    surface: str
    at_ns: int
    operation: int | None = None
    canary: str | None = None
    planted_by: int | None = None
    evidence: tuple[str, ...] = ()
    count: int = 1
    cause: str = ""
    fix: str = ""
