"""Did the service come back: in time, for everybody, and with what it had before?

Recovery is the time from the end of a fault until a probe of every user succeeded. A
request that is sent after that and gets no proper answer is a finding: whoever says
it is well again must be.

Memory is compared with that of the same worker before the fault, both times with the
same users and after a collection. A process does not give back every page, and what
users make meanwhile is theirs to keep, so up to ``MEMORY_SLACK_BYTES`` or a tenth is
allowed: in audits of the reference service under 21 faults a worker of 125 MiB grew by
7 MiB at most, and whatever is kept of each failed request passes 24 after some hundreds
of them.
"""

from collections.abc import Iterator

from test_framework.check.faults.windows import Windows, is_around_fault
from test_framework.check.names import operation_line, user_name
from test_framework.check.sighting import Sighting
from test_framework.core import (
    NS_PER_S,
    VISITOR,
    AlarmRecord,
    FaultRecord,
    History,
    Level,
    Operation,
    PolicyRecord,
)

RECOVERY_GATE_S = 10.0
"""Longest recovery where the audit file says nothing."""

MEMORY_SLACK_BYTES = 24 * 2**20
MEMORY_SLACK_SHARE = 0.1

_REFUSED = (401, 403)
_SERVER_ERROR = 500
_MIB = 2**20


def check_faults(history: History) -> Iterator[Sighting]:
    """Yield what the service did not get over."""
    level = _level(history)
    for fault in history.of(FaultRecord):
        if fault.healed_ns is None or fault.reason:
            continue
        if fault.recovered_ns is None and fault.probes:
            yield _no_recovery(fault, history)
        elif level == "error":
            yield from _slow_recovery(fault, history)
        yield from _memory(fault)
        if fault.deadlocks:
            yield _deadlocks(fault)
    yield from _failures(history)


def find_slow_recoveries(history: History) -> Iterator[AlarmRecord]:
    """Yield each recovery over its gate where the audit file wants a warning only."""
    if _level(history) != "warning":
        return
    for fault in history.of(FaultRecord):
        for sighting in _slow_recovery(fault, history):
            yield AlarmRecord(
                rule=sighting.rule,
                level="warning",
                claim=sighting.claim,
                site=sighting.surface,
                evidence=sighting.evidence,
            )


def recovery_s(fault: FaultRecord) -> float | None:
    """Return the seconds from the end of a fault until all probes succeeded."""
    if fault.healed_ns is None or fault.recovered_ns is None:
        return None
    return max(fault.recovered_ns - fault.healed_ns, 0) / NS_PER_S


def failed_requests(history: History) -> Iterator[tuple[FaultRecord, Operation]]:
    """Yield each request that failed although the service had recovered."""
    windows = Windows(history)
    if not windows.faults:
        return
    for operation in history.of(Operation):
        if not is_around_fault(operation.shape) or not _has_failed(operation):
            continue
        fault = windows.at(operation.invoked_ns)
        if fault is None or fault.recovered_ns is None:
            continue
        if operation.invoked_ns >= fault.recovered_ns:
            yield fault, operation


def memory_growth(fault: FaultRecord) -> tuple[int, int] | None:
    """Return the bytes by which a worker grew most, and what it is allowed.

    None when the memory was not measured.
    """
    pairs = list(zip(fault.memory_before, fault.memory_after, strict=False))
    if not pairs:
        return None
    before, after = max(pairs, key=lambda pair: pair[1] - pair[0])
    return after - before, max(MEMORY_SLACK_BYTES, int(before * MEMORY_SLACK_SHARE))


def _has_failed(operation: Operation) -> bool:
    if operation.user == VISITOR or operation.disturbed:
        return False
    if operation.channel == "websocket" and not operation.endpoint.startswith(
        "CONNECT "
    ):
        return False
    if operation.status is not None and operation.status >= _SERVER_ERROR:
        return True
    return operation.outcome == "info" and operation.error != "cancelled"


def _level(history: History) -> Level:
    levels = [policy.recovery_level for policy in history.of(PolicyRecord)]
    return levels[-1] if levels else "error"


def _gate_s(fault: FaultRecord, history: History) -> float:
    gates: dict[str, float] = {}
    for policy in history.of(PolicyRecord):
        gates |= policy.recovery_gates_s
    return gates.get(fault.fault, gates.get("*", RECOVERY_GATE_S))


def _no_recovery(fault: FaultRecord, history: History) -> Sighting:
    first = fault.late[0] if fault.late else None
    last = _last_failure(fault, first, history)
    is_refused = last is not None and last.status in _REFUSED
    return Sighting(
        rule="no-recovery",
        claim=f"after {fault.fault} the probes of {len(fault.late)} of {fault.probes} "
        "users did not succeed again",
        victim=None,
        observer=None,
        channel="fault",
        surface=f"fault {fault.fault}",
        at_ns=fault.ended_ns,
        evidence=(
            f"Let    {fault.fault} be over since {_ago(fault)} s",
            (
                f"Then   the probe of {user_name(first)}, for one, which succeeded before "
                "the fault, still fails."
            ),
            *(() if last is None else (f"       {operation_line(last)}",)),
        ),
        fix="If the login has only expired, let under_faults of the audit file log in "
        "again before it begins; if it has not, look at what the fault did to sessions."
        if is_refused
        else "",
    )


def _last_failure(
    fault: FaultRecord, user: int | None, history: History
) -> Operation | None:
    """Return what a user was answered last that was no success, after the fault."""
    failures = [
        operation
        for operation in history.of(Operation)
        if operation.user == user
        and operation.outcome != "ok"
        and operation.error != "cancelled"
        and (fault.healed_ns or 0) <= operation.completed_ns <= fault.ended_ns
    ]
    return failures[-1] if failures else None


def _ago(fault: FaultRecord) -> str:
    return f"{(fault.ended_ns - (fault.healed_ns or 0)) / NS_PER_S:.1f}"


def _slow_recovery(fault: FaultRecord, history: History) -> Iterator[Sighting]:
    seconds, gate_s = recovery_s(fault), _gate_s(fault, history)
    if seconds is None or seconds <= gate_s:
        return
    yield Sighting(
        rule="slow-recovery",
        claim=f"after {fault.fault} it took {seconds:.1f} s until all users were served "
        f"again; at most {gate_s:g} s are allowed",
        victim=None,
        observer=None,
        channel="fault",
        surface=f"fault {fault.fault}",
        at_ns=fault.recovered_ns or 0,
        evidence=(
            f"Let    {fault.fault} be over, and every user be probed again and again",
            f"Then   the last of {fault.probes} users succeeded {seconds:.1f} s later.",
        ),
    )


def _memory(fault: FaultRecord) -> Iterator[Sighting]:
    grown = memory_growth(fault)
    if grown is None or grown[0] <= grown[1]:
        return
    yield Sighting(
        rule="memory-kept",
        claim=f"after {fault.fault} a worker holds {grown[0] / _MIB:.0f} MiB more than "
        f"before; at most {grown[1] / _MIB:.0f} are allowed",
        victim=None,
        observer=None,
        channel="fault",
        surface=f"fault {fault.fault}",
        at_ns=fault.ended_ns,
        evidence=(
            "Let    the same users be served before and after, garbage collected",
            (
                f"Then   workers hold {_mib(fault.memory_after)} MiB, where it was "
                f"{_mib(fault.memory_before)}."
            ),
        ),
    )


def _mib(sizes: tuple[int, ...]) -> str:
    return " and ".join(f"{size / _MIB:.0f}" for size in sizes)


def _deadlocks(fault: FaultRecord) -> Sighting:
    return Sighting(
        rule="database-deadlock",
        claim=f"Postgres broke {fault.deadlocks} deadlock(s) under {fault.fault}",
        victim=None,
        observer=None,
        channel="postgres",
        surface=f"fault {fault.fault}",
        at_ns=fault.ended_ns,
        evidence=(
            (
                f"Then   pg_stat_database counts {fault.deadlocks} more deadlock(s) than "
                "before; the log of the server names the statements."
            ),
        ),
        count=fault.deadlocks or 1,
    )


def _failures(history: History) -> Iterator[Sighting]:
    for fault, operation in failed_requests(history):
        what = operation.status or operation.error or operation.outcome
        recovered_ns = fault.recovered_ns or 0
        yield Sighting(
            rule="failed-after-recovery",
            claim=f"{user_name(operation.user)} asked for {operation.endpoint} and got "
            f"{what}, although the service had recovered from {fault.fault}",
            victim=operation.user,
            observer=None,
            channel=operation.channel,
            surface=f"{operation.endpoint} after {fault.fault}",
            at_ns=operation.completed_ns,
            operation=operation.index,
            evidence=(
                f"Let    a = {operation_line(operation)}",
                (
                    f"Then   a was sent {(operation.invoked_ns - recovered_ns) / NS_PER_S:.2f} "
                    f"s after the probes of all {fault.probes} users had succeeded again."
                ),
            ),
        )
