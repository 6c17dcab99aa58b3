"""Is everything that was acknowledged under a fault there in the end, once?

Of each list and set that the workload called (``user.calling``), the last read that
succeeded is held against what was acknowledged before it: an item that was added must
be in it unless somebody asked to remove it, one that was removed must not, and none
may be there twice. A write without an answer may have happened or not, so it is owed
nothing and owes nothing. Items are unique in their object, as canaries are. Linear in
calls and in the items of reads.

Source: the "set" test of Jepsen (acknowledged, lost, recovered; Kingsbury 2013).
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from test_framework.check.faults.windows import Windows
from test_framework.check.names import user_name
from test_framework.check.sighting import Sighting
from test_framework.core import CallRecord, FaultRecord, History

_ADDS: Final = {("list", "append"), ("set", "add")}
_REMOVES: Final = {("set", "remove")}
_READS: Final = {("list", "read"), ("set", "read")}


@dataclass(slots=True)
class _Object:
    """The calls of one list or set."""

    adds: list[CallRecord] = field(default_factory=list)
    removes: list[CallRecord] = field(default_factory=list)
    reads: list[CallRecord] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of the writes that were acknowledged around one fault.

    Attributes:
        acknowledged: Writes (count).
        unread: Those of them that nobody looked for afterwards (count).
    """

    acknowledged: int
    unread: int


def check_writes(history: History) -> Iterator[Sighting]:
    """Yield each acknowledged write that is not there, or is there twice."""
    windows = Windows(history)
    if not windows.faults:
        return
    for one in _objects(history).values():
        last = _last_read(one)
        if last is None:
            continue
        yield from _check_object(one, last, windows)


def count_writes(history: History) -> dict[str, Kept]:
    """Return what became of acknowledged writes, by the name of the fault."""
    windows = Windows(history)
    acknowledged: Counter[str] = Counter()
    unread: Counter[str] = Counter()
    for one in _objects(history).values():
        last = _last_read(one)
        for write in (*one.adds, *one.removes):
            fault = _fault_of(write, windows)
            if fault is None:
                continue
            acknowledged[fault.fault] += 1
            if last is None or not _is_owed(write, last):
                unread[fault.fault] += 1
    return {name: Kept(count, unread[name]) for name, count in acknowledged.items()}


def _objects(history: History) -> dict[tuple[str, str], _Object]:
    objects: dict[tuple[str, str], _Object] = defaultdict(_Object)
    for call in history.of(CallRecord):
        one, what = objects[call.model, call.key], (call.model, call.kind)
        if what in _ADDS:
            one.adds.append(call)
        elif what in _REMOVES:
            one.removes.append(call)
        elif what in _READS and call.outcome == "ok":
            one.reads.append(call)
    return objects


def _last_read(one: _Object) -> CallRecord | None:
    return max(one.reads, key=lambda read: read.invoked_ns, default=None)


def _fault_of(call: CallRecord, windows: Windows) -> FaultRecord | None:
    """Return the fault that an acknowledged write belongs to."""
    if call.outcome != "ok" or call.completed_ns is None:
        return None
    return windows.at(call.completed_ns)


def _is_owed(write: CallRecord, read: CallRecord) -> bool:
    """Whether a read was asked for after the write was acknowledged."""
    return write.completed_ns is not None and write.completed_ns <= read.invoked_ns


def _check_object(
    one: _Object, last: CallRecord, windows: Windows
) -> Iterator[Sighting]:
    items = last.result if isinstance(last.result, tuple) else ()
    present = Counter(items)
    last_ns = last.completed_ns or last.invoked_ns
    unwanted = {
        call.argument
        for call in one.removes
        if call.outcome != "fail" and call.invoked_ns < last_ns
    }
    for add in one.adds:
        fault = _fault_of(add, windows)
        if fault is None or not _is_owed(add, last):
            continue
        if add.argument not in present and add.argument not in unwanted:
            yield _sighting(
                "acknowledged-write-lost", add, last, fault, "does not hold"
            )
    for remove in one.removes:
        fault = _fault_of(remove, windows)
        if fault is None or not _is_owed(remove, last):
            continue
        if remove.argument in present:
            yield _sighting("deleted-data-returned", remove, last, fault, "still holds")
    for add in one.adds:
        times = present[add.argument] if add.argument is not None else 0
        fault = windows.at(add.invoked_ns)
        if times > 1 and fault is not None and add.outcome != "fail":
            words = f"holds {times} times"
            yield _sighting("write-applied-twice", add, last, fault, words)


def _sighting(
    rule: str, write: CallRecord, read: CallRecord, fault: FaultRecord, words: str
) -> Sighting:
    name, value = user_name(write.user), write.argument
    when = "was acknowledged" if write.outcome == "ok" else "had no answer"
    return Sighting(
        rule=rule,
        claim=f"under {fault.fault}, {write.kind} of {value} by {name} {when}, and the "
        f"last read of {write.model} {write.key} {words} it",
        victim=write.user,
        observer=None,
        channel="object",
        surface=f"fault {fault.fault}",
        at_ns=write.completed_ns or write.invoked_ns,
        evidence=(
            (
                f"Let    w = {write.kind} {value} on {write.model} {write.key} by {name}, "
                f"which {when}"
            ),
            (
                f"       r = the last read of it, by {user_name(read.user)}, which was asked "
                "for afterwards and succeeded"
            ),
            f"Then   r {words} {value}, and each item is written once: contradiction.",
        ),
    )
