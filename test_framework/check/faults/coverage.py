"""Was each fault really exercised? One that struck nobody proves nothing."""

from collections.abc import Iterator

from test_framework.check.faults.table import overlapping
from test_framework.check.faults.windows import is_under_fault
from test_framework.check.faults.writes import count_writes
from test_framework.core import ComplaintRecord, FaultRecord, History, ShapeRecord


def not_exercised_faults(history: History) -> Iterator[str]:
    """Yield each fault that could not strike, and promises that nothing was there for."""
    faults = history.of(FaultRecord)
    for fault in faults:
        if fault.reason:
            yield f"fault {fault.fault}: not exercised, because {fault.reason}"
        elif not fault.probes:
            yield (
                f"recovery from {fault.fault}: no user had a request that could be "
                "asked again and again; let the workload read, or write a probe"
            )
    struck = [fault for fault in faults if fault.struck_ns is not None]
    if not struck:
        return
    if not count_writes(history):
        yield (
            "acknowledged writes under faults: the workload says of none what it wrote "
            "and read back (user.calling with a list or a set)"
        )
    if all(fault.deadlocks is None for fault in struck):
        yield "deadlocks under faults: there is no Postgres that could be asked"
    if not any(fault.memory_after for fault in struck):
        yield "memory under faults: the service's processes are not ours to look into"


def fault_gaps(history: History) -> Iterator[str]:
    """Yield each fault whose run proves nothing, and why."""
    faults = history.of(FaultRecord)
    for fault in faults:
        if fault.healed_ns is not None and not overlapping(history, fault):
            yield (
                f"fault {fault.fault} struck nobody: no request was under way while it "
                "lasted; pass more --fault-seconds or --users"
            )
    for shape in history.of(ShapeRecord):
        if is_under_fault(shape.shape) and shape.facts.get("finished") == 0:
            yield (
                f"{shape.shape}: what users do under faults never came to its end: "
                f"{_first_words(history, shape.shape)}"
            )
    if faults and all(fault.struck_ns is None for fault in faults):
        yield "no fault could strike here, so nothing is known of any"


def _first_words(history: History, shape: str) -> str:
    return next(
        (one.message for one in history.of(ComplaintRecord) if one.shape == shape),
        "no turn ended in time",
    )
