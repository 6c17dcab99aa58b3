"""What a rule is."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        id: Stable name, as in ``isolation-audit explain ID``.
        tier: 0 is worst; findings of a higher tier may be consequences of a lower.
        title: What happened, in a few words.
        scenario: Lines that tell it with two users.
        fix: What to change.
        cwe: Number in the Common Weakness Enumeration.
    """

    id: str
    tier: int
    title: str
    scenario: tuple[str, ...]
    fix: str
    cwe: int
