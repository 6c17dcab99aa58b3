"""A finding: a small proof that one user reached what belongs to another.

Findings are data; ``report`` renders them. A finding carries its witness (the two
users and the two operations), a rule id, a hint how to fix it and one command that
repeats it. One root cause is one finding; further sightings of the same cause are
counted and listed as its surfaces and consequences.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Finding:
    """One root cause, with the shortest witness that proves it.

    Attributes:
        rule: Stable rule id, explained by ``isolation-audit explain RULE``.
        claim: One sentence that says what happened to whom.
        victim: Who was wronged: owner of the data, or the user who was blocked.
        observer: Who saw, changed or received it; None when nobody did.
        channel: Where it was seen.
        endpoint: The surface, such as ``GET /threads`` or a table name.
        operation: Index of the operation that proves it; None for a stored row.
        planted_by: Index of the victim's operation that wrote the canary.
        evidence: Sentences of the proof, in order.
        fix: What to change.
        repeat: One command that repeats the run.
        count: How many sightings have this cause.
        surfaces: Every surface it was seen on, worst first.
        consequences: What went wrong because of it.
        inside: What detectors saw inside of the service that goes with it: for each
            a claim, its source line and its evidence.
        handlers: Source lines of the service that answered where it was seen, when it
            runs in processes of ours: endpoint, function, dependencies, middleware.
    """

    rule: str
    claim: str
    victim: str
    observer: str | None
    channel: str
    endpoint: str
    operation: int | None
    planted_by: int | None
    evidence: tuple[str, ...]
    fix: str
    repeat: str
    count: int = 1
    surfaces: tuple[str, ...] = ()
    consequences: tuple[str, ...] = field(default=())
    inside: tuple[str, ...] = field(default=())
    handlers: tuple[str, ...] = field(default=())
