"""The table of a run with faults: each fault, each promise, and what was measured."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from test_framework.check.faults.recovery import (
    failed_requests,
    memory_growth,
    recovery_s,
)
from test_framework.check.faults.windows import Windows, is_around_fault
from test_framework.check.faults.writes import Kept, count_writes
from test_framework.check.sighting import Sighting
from test_framework.core import NS_PER_S, FaultRecord, History, Operation, Verdict

PROMISES: Final = (
    "isolation",
    "writes",
    "events",
    "deadlocks",
    "recovery",
    "afterwards",
    "memory",
)
"""The columns: no contamination, no acknowledged write lost, every event once and in
order, no deadlock in the database, back in time, nothing failing from then on, memory
as before."""

_RULES: Final = {
    "acknowledged-write-lost": "writes",
    "deleted-data-returned": "writes",
    "write-applied-twice": "writes",
    "not-linearizable": "writes",
    "acted-more-than-once": "writes",
    "own-data-wrong": "writes",
    "event-duplicated": "events",
    "event-reordered": "events",
    "event-lost": "events",
    "database-deadlock": "deadlocks",
    "no-recovery": "recovery",
    "slow-recovery": "recovery",
    "failed-after-recovery": "afterwards",
    "memory-kept": "memory",
}
_ISOLATION_TIERS: Final = ("foreign-", "cached-", "canary-")
_ISOLATION: Final = {
    "row-under-wrong-owner",
    "key-under-wrong-owner",
    "message-on-wrong-channel",
    "log-names-another-user",
    "identifier-collision",
}
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Measured:
    """One promise under one fault.

    Attributes:
        promise: One of ``PROMISES``.
        verdict: ``unknown`` where nothing was there to judge.
        told: What was measured, in a few words.
    """

    promise: str
    verdict: Verdict
    told: str


@dataclass(frozen=True, slots=True)
class Endured:
    """What a service kept under one fault: a row of the table.

    Attributes:
        fault: Its name.
        promise: What must hold while it lasts.
        not_exercised: Why it was not exercised; empty when it was.
        seconds: How long it lasted.
        overlapped: Requests that were under way while it lasted (count).
        failed: Those of them that got no proper answer (count).
        recovery_s: From its end until all users were served again; None when never.
        measured: One for each of ``PROMISES``; empty when it was not exercised.
    """

    fault: str
    promise: str
    not_exercised: str
    seconds: float
    overlapped: int
    failed: int
    recovery_s: float | None
    measured: tuple[Measured, ...]


def measure_faults(
    history: History, sightings: Iterable[Sighting]
) -> tuple[Endured, ...]:
    """Return the table of a history.

    Args:
        history: Of a run.
        sightings: What all checkers saw in it.
    """
    windows = Windows(history)
    if not windows.faults:
        return ()
    broken: Counter[tuple[str, str]] = Counter()
    for sighting in sightings:
        fault, promise = _fault_of(sighting, windows), _promise(sighting.rule)
        if fault is not None and promise is not None:
            broken[fault.fault, promise] += sighting.count
    kept, events = count_writes(history), _events(history, windows)
    failed_late = Counter(fault.fault for fault, _ in failed_requests(history))
    return tuple(
        _row(fault, history, broken, kept, events[fault.fault], failed_late)
        for fault in windows.faults
    )


def _row(  # one argument per source of figures
    fault: FaultRecord,
    history: History,
    broken: Counter[tuple[str, str]],
    kept: dict[str, Kept],
    events: int,
    failed_late: Counter[str],
) -> Endured:
    struck, healed = fault.struck_ns, fault.healed_ns
    if struck is None or healed is None:
        return Endured(
            fault.fault, fault.promise, fault.reason, 0.0, 0, 0, None, measured=()
        )
    touched = overlapping(history, fault)
    was_hit = bool(touched)

    def measured(promise: str, told: str, *, is_known: bool = True) -> Measured:
        count = broken[fault.fault, promise]
        verdict = Verdict.VALID if is_known and was_hit else Verdict.UNKNOWN
        return Measured(promise, Verdict.INVALID if count else verdict, told)

    def count(promise: str) -> int:
        return broken[fault.fault, promise]

    seconds = recovery_s(fault)
    writes = kept.get(fault.fault, Kept(0, 0))
    grown = memory_growth(fault)
    has_recovered = fault.recovered_ns is not None
    return Endured(
        fault=fault.fault,
        promise=fault.promise,
        not_exercised=fault.reason,
        seconds=round((healed - struck) / NS_PER_S, 3),
        overlapped=len(touched),
        failed=sum(operation.outcome != "ok" for operation in touched),
        recovery_s=None if seconds is None else round(seconds, 3),
        measured=(
            measured("isolation", f"{count('isolation')} seen"),
            measured(
                "writes",
                f"{count('writes')} wrong of {writes.acknowledged:,}",
                is_known=writes.acknowledged > writes.unread,
            ),
            measured(
                "events",
                f"{count('events')} wrong of {events:,}",
                is_known=events > 0,
            ),
            measured(
                "deadlocks",
                "not asked" if fault.deadlocks is None else str(fault.deadlocks),
                is_known=fault.deadlocks is not None,
            ),
            measured(
                "recovery",
                "none" if seconds is None else f"{seconds:.1f} s",
                is_known=has_recovered,
            ),
            measured(
                "afterwards",
                f"{failed_late[fault.fault]} failed",
                is_known=has_recovered,
            ),
            measured(
                "memory",
                "not measured" if grown is None else f"{grown[0] / _MIB:+.0f} MiB",
                is_known=grown is not None,
            ),
        ),
    )


def overlapping(history: History, fault: FaultRecord) -> Sequence[Operation]:
    """Return the requests of users that were under way while a fault lasted."""
    struck, healed = fault.struck_ns, fault.healed_ns
    if struck is None or healed is None:
        return ()
    return [
        operation
        for operation in history.of(Operation)
        if is_around_fault(operation.shape)
        and not operation.endpoint.startswith("EVENT ")
        and operation.invoked_ns <= healed
        and operation.completed_ns >= struck
    ]


def _events(history: History, windows: Windows) -> Counter[str]:
    events: Counter[str] = Counter()
    for operation in history.of(Operation):
        if operation.sequence is None or not operation.endpoint.startswith("EVENT "):
            continue
        fault = windows.at(operation.completed_ns)
        if fault is not None:
            events[fault.fault] += 1
    return events


def _fault_of(sighting: Sighting, windows: Windows) -> FaultRecord | None:
    """Return the fault around which something was seen, by its name or its time."""
    for fault in windows.faults:
        if sighting.surface == f"fault {fault.fault}":
            return fault
    return windows.at(sighting.at_ns)


def _promise(rule: str) -> str | None:
    if rule.startswith(_ISOLATION_TIERS) or rule in _ISOLATION:
        return "isolation"
    return _RULES.get(rule)
