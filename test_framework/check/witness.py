"""What a checker of histories answers: a verdict, and for each anomaly its witness.

Every checker answers with one ``Checked``, so commands, reports and timelines need to
know one form only. A witness is data that code can reach: the few operations that prove
an anomaly, and for each step from one to the next why it must be so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from test_framework.core import Verdict


@dataclass(frozen=True, slots=True)
class Item:
    """An operation or transaction of a witness.

    Attributes:
        label: Short name in the sentences of this witness, such as ``T1``.
        lane: Who did it: its process, session or user.
        text: What it did and what it was answered, ready to read.
        begin: When it was invoked, in nanoseconds of the history's clock.
        end: When it completed; None for an unknown outcome.
        index: Where it stands in the history, from 0.
        user: Whose it was; None where a history knows no users.
    """

    label: str
    lane: str
    text: str
    begin: int
    end: int | None
    index: int
    user: int | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """One step of a witness: the first item must come before the second, and why.

    Attributes:
        source: Position of the earlier item in the witness.
        target: Position of the later one.
        kind: ``ww``, ``wr``, ``rw``, ``session``, ``realtime``, ``follows``, ...
        because: One sentence, such as ``T1 read 3 on x before T2 appended 4 to it``.
    """

    source: int
    target: int
    kind: str
    because: str


@dataclass(frozen=True, slots=True)
class Mark:
    """What was done to the system meanwhile, such as a fault; drawn, never judged.

    Attributes:
        text: What was done.
        begin: When, on the clock of the history.
        end: When it was over; None for what has no length.
    """

    text: str
    begin: int
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Anomaly:
    """Something that a sound system would not have done.

    Attributes:
        name: The standard term, such as ``G-single`` or ``duplicate delivery``.
        claim: One sentence that says what happened.
        items: The operations that prove it, and no others.
        links: The steps between them; a cycle closes with its last link.
        marks: Faults that were injected while they ran.
    """

    name: str
    claim: str
    items: tuple[Item, ...] = ()
    links: tuple[Link, ...] = ()
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True)
class Checked:
    """What one checker says of one history.

    Attributes:
        checker: Its name, such as ``list-append``.
        model: What was demanded, such as ``serializable``.
        verdict: ``valid``, ``invalid``, or ``unknown`` when limits ended the search or
            the history cannot decide.
        reason: Why it is unknown, and what to do; empty otherwise.
        anomalies: What was found, the worst first.
        holds: Models the history is consistent with, the strongest first.
        broken: The weakest models that are ruled out.
        facts: Counts for the reader: operations, keys, edges, seconds.
    """

    checker: str
    model: str
    verdict: Verdict
    reason: str = ""
    anomalies: tuple[Anomaly, ...] = ()
    holds: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    facts: Mapping[str, int | float | str] = field(default_factory=dict)
