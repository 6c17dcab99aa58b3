"""Is a history linearizable? Sorting decides what it can, a search the rest.

A history is linearizable if and only if that of each of its objects is (Herlihy and
Wing, "Linearizability", 1990). Objects whose values tell which call wrote what are
decided by a check for their kind, in the time of a sort. Those that are left are
searched in turns, within limits; one that is wrong ends the search of all. Limits are
hard: what is not decided within them is ``unknown``.
"""

from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from test_framework.check.linear.calls import Call
from test_framework.check.linear.columns import CallLog, apart, require_sound
from test_framework.check.linear.counters import judge_counters
from test_framework.check.linear.locks import judge_leases, judge_mutexes
from test_framework.check.linear.models import (
    CasRegister,
    Counter,
    DistinctSet,
    KeyValue,
    Lease,
    Model,
    Mutex,
    Queue,
    Register,
    name_of,
)
from test_framework.check.linear.queues import judge_queues
from test_framework.check.linear.registers import judge_registers
from test_framework.check.linear.ruling import Ruling, label, witness
from test_framework.check.linear.search import Outcome, search
from test_framework.check.linear.sets import judge_sets
from test_framework.check.linear.slices import minimal_slice
from test_framework.check.witness import Anomaly, Checked, Link
from test_framework.core import NS_PER_S, Clock, MonotonicClock, UsageError, Verdict

_SORTED: Final[dict[type, Callable[[CallLog, Any], Ruling]]] = {
    Register: judge_registers,
    CasRegister: judge_registers,
    Counter: judge_counters,
    Mutex: judge_mutexes,
    Lease: judge_leases,
    DistinctSet: judge_sets,
    Queue: judge_queues,
}
"""The check of each model; of a class that derives from one, nothing is known."""


MODELS: Final[dict[str, Callable[[], Model]]] = {
    "register": Register,
    "cas-register": CasRegister,
    "key-value": KeyValue,
    "counter": Counter,
    "mutex": Mutex,
    "lease": Lease,
    "set": DistinctSet,
    "queue": Queue,
}
"""Models by the names that a command line gives them."""

_BY_KINDS: Final = (
    ({"read", "write"}, "register"),
    ({"read", "write", "cas"}, "cas-register"),
    ({"get", "put", "append"}, "key-value"),
    ({"increment", "read"}, "counter"),
    ({"acquire", "release"}, "mutex"),
    ({"acquire", "release", "act"}, "lease"),
    ({"add", "remove", "contains", "read"}, "set"),
    ({"enqueue", "dequeue"}, "queue"),
)


def guess_model(calls: Iterable[Call]) -> str:
    """Return the name of the first model that has all operations of a history.

    Raises:
        UsageError: None has, or there are no calls.
    """
    listed = list(calls)
    kinds = {call.kind for call in listed}
    if kinds == {"add", "read"} and any(
        type(call.result) is int for call in listed if call.kind == "read"
    ):
        return "counter"  # as Jepsen records one
    for own, name in _BY_KINDS:
        if kinds and kinds <= own:
            return name
    message = (
        f"No model has the operations {', '.join(sorted(kinds)) or 'of no call'}. Pass "
        f"one of {', '.join(MODELS)}, or a model of your own from code."
    )
    raise UsageError(message)


_FOREVER_S: Final = 366 * 86_400.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a search may cost.

    Attributes:
        seconds: Wall time for the whole history (> 0).
        memory_bytes: For what it remembers, all objects together (> 0).
    """

    seconds: float = 60.0
    memory_bytes: int = 512 * 1024 * 1024

    def __post_init__(self) -> None:
        if not 0 < self.seconds < _FOREVER_S or self.memory_bytes <= 0:
            message = (
                f"seconds={self.seconds:g}, memory_bytes={self.memory_bytes}: both must "
                "be above 0, and seconds below a year."
            )
            raise UsageError(message)


def check_linearizability(
    calls: Iterable[Call] | CallLog,
    model: Model,
    *,
    limits: Limits | None = None,
    clock: Clock | None = None,
    only_search: bool = False,
) -> Checked:
    """Judge the history of any number of objects of one kind.

    Args:
        calls: Completed calls and those of unknown outcome, in any order.
        model: What each object does by itself.
        limits: Time and memory of a search; 60 s and 512 MiB by default.
        clock: Tells the time.
        only_search: Whether to search even what sorting can decide.

    Returns:
        The verdict; of an object that was searched, the witness is the fewest calls
        that have no order.

    Raises:
        UsageError: A call ends before it begins, or the model does not know it.
    """
    limits, clock = limits or Limits(), clock or MonotonicClock()
    log = calls if isinstance(calls, CallLog) else None
    listed = [] if isinstance(calls, CallLog) else list(calls)
    ruling, by_sorting = Ruling(), _SORTED.get(type(model))
    left: Iterable[Call] = listed
    if by_sorting is not None and not only_search:
        log = log or CallLog.of(listed)
        ruling = by_sorting(log, model)
        undecided = {log.keys[number] for number in ruling.undecided}
        if log is not calls:
            left = (call for call in listed if call.key in undecided)
        else:
            rows = [
                row for row in range(len(log)) if log.keys[log.key[row]] in undecided
            ]
            left = (log.read(row) for row in rows) if undecided else ()
    elif log is not None:
        left = (log.read(row) for row in range(len(log)))
    count = len(listed) if log is None else len(log)
    if not count:
        reason = "There are no calls, so nothing is proved. Record some."
        return Checked("linearizability", name_of(model), Verdict.UNKNOWN, reason)
    facts: dict[str, int | float | str] = {"calls": count}
    if ruling.anomalies:
        return Checked(
            "linearizability",
            name_of(model),
            Verdict.INVALID,
            anomalies=ruling.anomalies,
            facts=facts,
        )
    return _search_all(left, model, limits, clock, facts)


def _search_all(
    calls: Iterable[Call],
    model: Model,
    limits: Limits,
    clock: Clock,
    facts: dict[str, int | float | str],
) -> Checked:
    by_key: dict[Any, list[Call]] = defaultdict(list)
    for call in calls:
        require_sound(call)
        by_key[call.key].append(apart(call))
    running: dict[Any, Generator[int, None, Outcome]] = {}
    # Few calls are soon decided, and one object that is wrong decides all.
    for key, own in sorted(by_key.items(), key=lambda item: len(item[1])):
        own.sort(key=lambda call: call.invoked)
        running[key] = search(model, own)
    facts["searched"] = len(running)
    reason, wrong = _take_turns(running, limits, clock)
    verdict = Verdict.UNKNOWN if reason else Verdict.VALID
    anomalies: tuple[Anomaly, ...] = ()
    if wrong is not None:
        key, outcome = wrong
        verdict, anomalies = (
            Verdict.INVALID,
            (_stuck(model, key, by_key[key], outcome),),
        )
    return Checked(
        "linearizability",
        name_of(model),
        verdict,
        reason,
        anomalies=anomalies,
        facts=facts,
    )


def _take_turns(
    running: dict[Any, Generator[int, None, Outcome]], limits: Limits, clock: Clock
) -> tuple[str, tuple[Any, Outcome] | None]:
    """Return why it is not decided, and the first object that has no order."""
    deadline_ns = clock.now_ns() + int(limits.seconds * NS_PER_S)
    remembered = dict.fromkeys(running, 0)
    while running:
        for key, turns in list(running.items()):
            try:
                remembered[key] = next(turns)
            except StopIteration as end:
                outcome: Outcome = end.value
                if not outcome.is_linearizable:
                    return "", (key, outcome)
                del running[key], remembered[key]
                continue
            limit = ""
            if sum(remembered.values()) > limits.memory_bytes:
                limit = f"would need more than {limits.memory_bytes:,} bytes"
            elif clock.now_ns() > deadline_ns:
                limit = f"was not done within {limits.seconds:g} s"
            if limit:
                reason = (
                    f"The search {limit}; {len(running)} objects were not decided. Pass "
                    "higher limits, or record values that are written once each."
                )
                return reason, None
    return "", None


def _stuck(model: Model, key: object, calls: Sequence[Call], found: Outcome) -> Anomaly:
    """Return the witness of an object that has no order."""
    kept, outcome = minimal_slice(model, calls, found)
    place = {id(call): at for at, call in enumerate(kept)}
    order = [place[id(call)] for call in outcome.order]
    links = [
        Link(one, two, "order", f"{label(two)} may come after {label(one)}")
        for one, two in pairwise(order)
    ]
    claim = "No order of these calls"
    if outcome.stuck is not None:
        stuck = place[id(outcome.stuck)]
        claim = f"{label(stuck)} cannot have answered so: no order of these calls"
        if order:
            because = f"after these, {label(stuck)} could not have answered so"
            links.append(Link(order[-1], stuck, "stuck", because))
    on = "the object" if key is None else f"{key!r}"
    claim = f"{claim} on {on} explains every result."
    return Anomaly("non-linearizable", claim, witness(kept), tuple(links))
