"""Which fault something belongs to: by the name of its shape, or by when it was."""

from bisect import bisect_right

from test_framework.core import (
    AFTER_FAULT,
    UNDER_FAULT,
    ComplaintRecord,
    FaultRecord,
    History,
    Operation,
)


def is_under_fault(shape: str) -> bool:
    """Whether what happens in a shape may be a fault's doing."""
    return shape.startswith(UNDER_FAULT)


def is_around_fault(shape: str) -> bool:
    """Whether a shape is that of a fault, or of the look at what it left."""
    return shape.startswith((UNDER_FAULT, AFTER_FAULT))


def is_excused(complaint: ComplaintRecord, history: History) -> bool:
    """Whether a complaint may stem from a request that a fault made fail.

    A user who lost one answer cannot know any more what it has; the others' words count.
    Waiting in vain is nothing to complain of before the fault is over.
    """
    if not is_under_fault(complaint.shape):
        return False
    if complaint.kind != "expectation":
        return True
    return any(
        operation.outcome != "ok"
        for operation in history.of(Operation)
        if operation.user == complaint.user
        and operation.shape == complaint.shape
        and (complaint.op is None or operation.index <= complaint.op)
    )


class Windows:
    """The faults of a history, each from the start of its traffic to the next one's."""

    def __init__(self, history: History) -> None:
        self.faults = sorted(history.of(FaultRecord), key=lambda fault: fault.began_ns)
        self._starts = [fault.began_ns for fault in self.faults]

    def at(self, instant_ns: int) -> FaultRecord | None:
        """Return the fault whose window holds an instant; None before the first."""
        place = bisect_right(self._starts, instant_ns) - 1
        return self.faults[place] if place >= 0 else None
