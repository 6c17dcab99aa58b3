"""Is a history linearizable? Objects are searched in turns, within limits.

A history is linearizable if and only if that of each of its objects is (Herlihy and
Wing, "Linearizability", 1990), so one that is not ends the search of all. Limits are
hard: what is not decided within them is ``unknown``.
"""

from collections import defaultdict
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any

from test_framework.check.linear.calls import Call
from test_framework.check.linear.models import Model
from test_framework.check.linear.search import Outcome, search
from test_framework.core import NS_PER_S, Clock, MonotonicClock, UsageError, Verdict

_CONFIGURATION_BYTES = 400
"""Measured on CPython 3.11: an entry of a set, a pair, and an integer of 500 bits."""


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
        if self.seconds <= 0 or self.memory_bytes <= 0:
            message = (
                f"seconds={self.seconds}, memory_bytes={self.memory_bytes}: both must "
                "be above 0."
            )
            raise UsageError(message)


@dataclass(frozen=True, slots=True)
class Linearizability:
    """What is known of a history.

    Attributes:
        verdict: ``valid``, ``invalid`` or ``unknown``.
        reason: Why it is unknown; empty otherwise.
        key: The object that is not linearizable; None if there is none.
        order: The longest beginning of an order of its calls.
        stuck: The call that had to have happened after those and could not.
    """

    verdict: Verdict
    reason: str = ""
    key: Any = None
    order: tuple[Call, ...] = ()
    stuck: Call | None = None


def check_linearizability(
    calls: Iterable[Call],
    model: Model,
    *,
    limits: Limits | None = None,
    clock: Clock | None = None,
) -> Linearizability:
    """Judge the history of any number of objects of one kind.

    Args:
        calls: Completed calls and those of unknown outcome, in any order.
        model: What each object does by itself.
        limits: Time and memory; 60 s and 512 MiB by default.
        clock: Tells the time.

    Raises:
        UsageError: A call ends before it begins, or the model does not know it.
    """
    limits, clock = limits or Limits(), clock or MonotonicClock()
    by_key: dict[Any, list[Call]] = defaultdict(list)
    for call in calls:
        if call.completed is not None and call.completed < call.invoked:
            message = (
                f"Call {call.index} ({call}) ends at {call.completed}, before it begins "
                f"at {call.invoked}. Record both on one monotonic clock."
            )
            raise UsageError(message)
        by_key[call.key].append(call)
    running: dict[Any, Generator[int, None, Outcome]] = {}
    # Few calls are soon decided, and one object that is wrong decides all.
    for key, own in sorted(by_key.items(), key=lambda item: len(item[1])):
        own.sort(key=lambda call: call.invoked)
        running[key] = search(model, own)
    return _take_turns(running, limits, clock)


def _take_turns(
    running: dict[Any, Generator[int, None, Outcome]], limits: Limits, clock: Clock
) -> Linearizability:
    deadline_ns = clock.now_ns() + int(limits.seconds * NS_PER_S)
    remembered = dict.fromkeys(running, 0)
    while running:
        for key, turns in list(running.items()):
            try:
                remembered[key] = next(turns)
            except StopIteration as end:
                outcome: Outcome = end.value
                if not outcome.is_linearizable:
                    return Linearizability(
                        Verdict.INVALID, "", key, outcome.order, outcome.stuck
                    )
                del running[key], remembered[key]
                continue
            used_bytes = sum(remembered.values()) * _CONFIGURATION_BYTES
            if used_bytes > limits.memory_bytes:
                return Linearizability(
                    Verdict.UNKNOWN,
                    f"the search would need more than {limits.memory_bytes:,} bytes; "
                    f"{len(running)} objects were not decided",
                )
            if clock.now_ns() > deadline_ns:
                return Linearizability(
                    Verdict.UNKNOWN,
                    f"the search was not done within {limits.seconds:g} s; "
                    f"{len(running)} objects were not decided",
                )
    return Linearizability(Verdict.VALID)
