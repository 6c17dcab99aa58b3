"""What the watcher has to say, one entry per cause.

Causes are told apart by their rule and their lines, not by the tasks and locks of one
sighting: the hundredth request through the same two lines is a count.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from test_framework.core import AlarmRecord
from test_framework.core.records import Level
from test_framework.detect.locks.ledger import Resource
from test_framework.detect.locks.stacks import name_of

MAX_OPERATIONS = 100
"""Requests that are kept for one cause."""

_LEVELS: tuple[Level, ...] = ("note", "warning", "error")


@dataclass(slots=True)
class Cause:
    """An alarm while it may still change.

    Attributes:
        rule: Id of the rule it broke.
        level: As in ``AlarmRecord``.
        claim: One sentence.
        site: The line that names it.
        evidence: Sentences and stack lines.
        fix: What to change.
        resources: What it is about; it is void when one turns out to be a signal.
        operations: The audit's requests it happened in, of all sightings.
        count: Sightings.
        broken_by: The task that was cancelled out of a deadlock.
        broken_after_s: How long it had waited by then, seconds.
        patience_s: A task that gives up sooner and goes on tries its luck on purpose.
    """

    rule: str
    level: Level
    claim: str
    site: str
    evidence: tuple[str, ...]
    fix: str = ""
    resources: tuple[Resource, ...] = ()
    operations: tuple[int, ...] = ()
    count: int = 1
    broken_by: asyncio.Task[Any] | None = None
    broken_after_s: float = 0.0
    patience_s: float = 0.0

    @property
    def is_void(self) -> bool:
        """Whether it was about holders that say nothing."""
        return any(resource.is_signal for resource in self.resources)

    def record(self) -> AlarmRecord:
        """Return it as a record."""
        level, evidence = self.level, self.evidence
        if self.broken_by is not None:
            evidence += (
                (
                    f"{name_of(self.broken_by)} was cancelled after "
                    f"{self.broken_after_s:.1f} s, which let the others go on"
                ),
            )
            is_brief = self.broken_after_s < self.patience_s
            if is_brief and not self.broken_by.cancelled():
                level = "warning"
            elif not is_brief:
                evidence += (f"more than {self.patience_s:g} s is no brief try",)
        if any(resource.is_handed_over for resource in self.resources):
            level = min(level, "warning", key=_LEVELS.index)
            evidence += ("others than its holder release the lock, and may here",)
        return AlarmRecord(
            rule=self.rule,
            level=level,
            claim=self.claim,
            site=self.site,
            evidence=evidence,
            fix=self.fix,
            operations=self.operations,
            count=self.count,
        )


@dataclass(slots=True)
class Alarms:
    """All causes that were seen."""

    _causes: dict[tuple[str, frozenset[str]], Cause] = field(default_factory=dict)

    def tell(self, cause: Cause, *lines: str) -> Cause:
        """Note a sighting.

        Args:
            cause: It; the first sighting's words are kept.
            lines: The source lines that tell it from others of its rule.
        """
        key = (cause.rule, frozenset(lines))
        known = self._causes.get(key)
        if known is None:
            self._causes[key] = cause
            return cause
        known.count += 1
        known.operations = tuple(dict.fromkeys((*known.operations, *cause.operations)))[
            :MAX_OPERATIONS
        ]
        return known

    def records(self) -> list[AlarmRecord]:
        """Return one record per cause, in order of first sighting."""
        causes = [one for one in self._causes.values() if not one.is_void]
        happened = [set(one.resources) for one in causes if one.rule == "deadlock"]
        return [
            one.record()
            for one in causes
            # What did happen needs no prediction.
            if one.rule != "lock-order-inversion" or set(one.resources) not in happened
        ]
